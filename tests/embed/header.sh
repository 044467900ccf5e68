#!/bin/bash
# SPDX-License-Identifier: MIT
#
# header.sh PART [MODULE]: fenceq/PART.h compiles alone and twice over, in C11 and C++17, without a warning,
# and brings in neither liburcu nor atomic_ops: a host may have its own rcu_read_lock. MODULE is what
# pkg-config calls the library that the glue of an event loop stands on.
set -euo pipefail

part=$1
work=$FQ_WORK/header/$part
flags=(-I"$FQ_SOURCE/include" -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror)
if [ -n "${2:-}" ]; then
	# As system headers: their warnings are not ours.
	read -ra cflags < <("$PKG_CONFIG" --cflags "$2" | sed 's/-I */-isystem/g')
	flags+=(-D_GNU_SOURCE "${cflags[@]}")
fi

# check LANGUAGE COMPILER STANDARD
check()
{
	local source=$work/alone.$1 extra=()

	[ "$1" = c ] && extra=(-Wstrict-prototypes)
	printf '#include <fenceq/%s.h>\n#include <fenceq/%s.h>\nint main(void) { return 0; }\n' \
		"$part" "$part" >"$source"
	"$2" "-std=$3" "${flags[@]}" "${extra[@]}" -c "$source" -o "$work/alone.o"
	if "$2" "-std=$3" "${flags[@]}" -M "$source" | grep -E 'urcu|atomic_ops'; then
		echo "fenceq/$part.h brings in the headers above ($3)" >&2
		exit 1
	fi
}

mkdir -p "$work"
check c "$CC" c11
check cc "$CXX" c++17
