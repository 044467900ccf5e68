# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # sourced by tests/run

selector chaos "everything at random; a line of JSON; takes --seconds and --seed"

# chaos_in DIR SECONDS: in plain sight, so that its line of JSON is.
chaos_in()
{
	check "chaos in $1" tests/launch "$1/tests/chaos/chaos" --seconds "$2" ${seed:+--seed "$seed"}
}

chaos_decisions()
{
	tests/launch build/tests/chaos/chaos --seconds 1 --seed "$1" |
		sed -n 's/.*"decisions": "\([0-9a-f]*\)".*/\1/p'
}

same_seed_same_decisions()
{
	local first

	first=$(chaos_decisions 1)
	[ -n "$first" ] && [ "$first" = "$(chaos_decisions 1)" ] &&
		[ "$first" != "$(chaos_decisions 2)" ]
}

run_chaos()
{
	fq_need_packages "${fq_build_packages[@]}" libcriterion-dev
	build build
	check "the same seed gives the same decisions" same_seed_same_decisions
	chaos_in build "${seconds:-${share:-10}}"
}
