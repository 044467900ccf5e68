#!/bin/bash
# SPDX-License-Identifier: MIT
#
# install.sh BUILDDIR: installs the library where the consumers look for it.
set -euo pipefail

rm -rf "$FQ_PREFIX"
"$CMAKE" --install "$1" --prefix "$FQ_PREFIX"

# Nothing of the build may show in what is installed.
if grep -rnE "fenceq_warnings|$FQ_SOURCE" "$FQ_PREFIX" --include='*.cmake' --include='*.pc'; then
	echo "the installed package mentions the build tree" >&2
	exit 1
fi
for header in "$FQ_SOURCE"/include/fenceq/*.h; do
	cmp "$header" "$FQ_PREFIX/include/fenceq/${header##*/}"
done
