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
	io_uring_is_here "$1/tests/loops/uring_test" ||
		fq_say "*** io_uring is not to be had here: loops/uring was SKIPPED ***"
}

# io_uring_is_here PROGRAM: what it says by its exit status.
io_uring_is_here()
{
	local rc=0

	tests/launch "$1" --help >/dev/null 2>&1 || rc=$?
	[ "$rc" -ne 77 ]
}

# loop_examples FOLDER: each prints what the common load costs in it.
loop_examples()
{
	local name program

	for name in epoll glib uv aio uring; do
		program=$1/loop_$name/loop_$name
		if [ "$name" = uring ] && ! io_uring_is_here "$program"; then
			fq_say "*** io_uring is not to be had here: loop_uring was SKIPPED ***"
			continue
		fi
		check "loop_$name" timeout 120 "$program" --json
	done
}

# quotes_in DOCUMENT SOURCE...: every block of C in it stands in one of the sources, line by line.
quotes_in()
{
	awk '
	FNR == NR && /^```c$/ { inside = 1; blocks++; next }
	FNR == NR && /^```/ { inside = 0 }
	FNR == NR { if (inside) block[blocks] = block[blocks] "\n" $0; next }
	{ text[FILENAME] = text[FILENAME] "\n" $0 }
	END {
		for (b = 1; b <= blocks; b++) {
			found = 0
			for (f in text)
				found += index(text[f], block[b]) > 0
			if (!found) {
				print "in no example:" block[b]
				failed = 1
			}
		}
		exit failed || !blocks
	}' "$@"
}

run_loops()
{
	fq_need_packages "${fq_build_packages[@]}" libcriterion-dev "${loop_packages[@]}"
	build build
	run_loops_in build 120
	check "docs/embedding.md quotes the examples" \
		quotes_in docs/embedding.md examples/loop_*/*.[ch]
}
