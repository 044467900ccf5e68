# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2154 # sourced by tests/run

selector loops "every event loop, the real one: epoll, GLib, libuv, io_uring, one like AioContext"

loop_packages=(libglib2.0-dev libuv1-dev liburing-dev)
loop_tests=(aio edge epoll glib move uring uv)

# run_loops_in DIR TIMEOUT: none may have been left out for want of a library.
run_loops_in()
{
	local name

	for name in "${loop_tests[@]}"; do
		[ -x "$1/tests/loops/${name}_test" ] || fq_die "loops/$name was not built in $1"
	done
	run_ctest "$1" loops "$2"
	loops_say_what_was_skipped "$1"
}

loops_say_what_was_skipped()
{
	"$1/tests/loops/uring_test" --help >/dev/null 2>&1 || [ $? -ne 77 ] ||
		fq_say "*** io_uring is not to be had here: loops/uring was SKIPPED ***"
}

run_loops()
{
	fq_need_packages "${fq_build_packages[@]}" libcriterion-dev "${loop_packages[@]}"
	build build
	run_loops_in build 120
}
