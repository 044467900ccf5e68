#!/bin/bash
# SPDX-License-Identifier: MIT
#
# symbols.sh ARCHIVE: every global symbol it defines begins with fq_ (hidden does not hide in an
# archive, so internal ones count), none is left out, and neither libatomic_ops nor libatomic is
# needed.
set -euo pipefail

archive=$1

# Lines are "NAME TYPE [VALUE SIZE]", "archive[member]:" between them.
symbols()
{
	"$NM" -P "$@" "$archive" | awk 'NF >= 2 { print $1 }' | sort -u
}

# forbid WHAT: no lines may come in.
forbid()
{
	local found

	found=$(cat)
	[ -z "$found" ] && return
	printf '%s:\n%s\n' "$1" "$found" >&2
	return 1
}

# matching and excluding are grep, content with finding nothing.
matching()
{
	grep -E "$1" || [ $? -eq 1 ]
}

excluding()
{
	grep -vE "$1" || [ $? -eq 1 ]
}

defined=$(symbols -g --defined-only)
needed=$(comm -13 <(echo "$defined") <(symbols -u))

matching '^fq_signal$' <<<"$defined" | grep -q . || {
	echo "$archive does not even define fq_signal" >&2
	exit 1
}
excluding '^fq_' <<<"$defined" | forbid "defined without the prefix fq_"
matching '^fq_' <<<"$needed" | forbid "used but not defined"
matching '^(AO_|__atomic_|__sync_)' <<<"$needed" | forbid "needed from an atomics library"
echo "$(wc -l <<<"$defined") symbols"
