# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # sourced by tests/run

selector toolbox "calls, deadlines, events, requests, gates, pools; the traps, by number"

run_toolbox()
{
	fq_need_packages "${fq_build_packages[@]}" libcriterion-dev
	build build
	run_ctest build toolbox 120 -j "$(nproc)"

	# As examples/run has it.
	fq_configure_build build-examples -DFENCEQ_BUILD_TESTS=OFF -DFENCEQ_BUILD_EXAMPLES=ON \
		-DFENCEQ_BUILD_BENCH=OFF -DCMAKE_BUILD_TYPE=RelWithDebInfo
	check "request_reply" timeout 120 \
		build-examples/examples/request_reply/request_reply --requests 200000 --json
}
