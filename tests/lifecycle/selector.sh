# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # sourced by tests/run

selector lifecycle "reset, failure, unplug, freeze, nested callbacks, stale ids; a short chaos"

run_lifecycle()
{
	fq_need_packages "${fq_build_packages[@]}" libcriterion-dev
	build build
	run_ctest build lifecycle 120 -j "$(nproc)"
	chaos_in build "${seconds:-5}"
}
