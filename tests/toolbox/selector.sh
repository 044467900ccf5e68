# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # sourced by tests/run

selector toolbox "calls, deadlines, events, requests, gates, pools; the traps, by number"

run_toolbox()
{
	fq_need_packages "${fq_build_packages[@]}" libcriterion-dev
	build build
	run_ctest build toolbox 120 -j "$(nproc)"
}
