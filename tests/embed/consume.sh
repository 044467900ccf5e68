#!/bin/bash
# SPDX-License-Identifier: MIT
#
# consume.sh KIND: builds a consumer of one kind and runs it; each posts a fence through a device.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=$FQ_WORK/consumer-$1

pc_path()
{
	find "$1" -name fenceq.pc -printf '%h'
}

# build_cmake FOLDER TARGET CMAKE-ARGUMENT...
build_cmake()
{
	local source=$1 target=$2

	shift 2
	"$CMAKE" -S "$source" -B "$work" -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX" \
		-DFQ_VERSION="$FQ_VERSION" "$@"
	"$CMAKE" --build "$work"
	"$work/$target"
}

# build_make TARGET PREFIX VARIABLE=VALUE...
build_make()
{
	local target=$1 prefix=$2

	shift 2
	PKG_CONFIG_PATH=$(pc_path "$prefix") make -C "$work" -f "$here/consumer/make/Makefile" \
		SOURCE="$here/consumer" CC="$CC" PKG_CONFIG="$PKG_CONFIG" "$@" "$target"
	"$work/$target"
}

rm -rf "$work"
mkdir -p "$work"
case $1 in
cmake) build_cmake "$here/consumer/cmake" consumer -DCMAKE_PREFIX_PATH="$FQ_PREFIX" ;;
cxx) build_cmake "$here/consumer/cmake" consumer_cxx -DCMAKE_PREFIX_PATH="$FQ_PREFIX" ;;
subdirectory)
	build_cmake "$here/consumer/subdirectory" consumer -DFQ_SOURCE="$FQ_SOURCE"
	;;
# The first example, lifted out of the tree.
hello)
	build_cmake "$FQ_SOURCE/examples/hello_fence" hello_fence -DCMAKE_PREFIX_PATH="$FQ_PREFIX"
	;;
make) build_make consumer "$FQ_PREFIX" ;;
# liburcu from its archives, too.
static) build_make consumer "$FQ_PREFIX" LDFLAGS=-static ;;
own_rcu) build_make own_rcu "$FQ_PREFIX" ;;
# A prefix that was moved after the installation still works.
moved)
	cp -r "$FQ_PREFIX" "$work/elsewhere"
	build_make consumer "$work/elsewhere"
	build_cmake "$here/consumer/cmake" consumer -DCMAKE_PREFIX_PATH="$work/elsewhere"
	;;
*)
	echo "no such kind: $1" >&2
	exit 2
	;;
esac
