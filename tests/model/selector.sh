# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # sourced by tests/run

selector model "Spin models of the protocols, and the defects planted in them"

run_model()
{
	fq_need_packages "${fq_build_packages[@]}" libcriterion-dev spin
	build build
	FQ_MODEL_RESULTS=$(mktemp -d "$results.XXXXXX")
	export FQ_MODEL_RESULTS
	run_ctest build model 600
	cat "$FQ_MODEL_RESULTS"/* | awk '
		{ sub("errors=", "", $3); sub("states=", "", $4); states += $4 }
		$2 == "-" { models++; next }
		{ planted++; found += $3 > 0 }
		END {
			printf "models=%d states=%d planted=%d found=%d\n", \
				models, states, planted, found
		}'
	rm -rf "$FQ_MODEL_RESULTS"
}
