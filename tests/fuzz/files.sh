#!/bin/sh
# SPDX-License-Identifier: MIT
#
# files.sh PROGRAM DIR: the good inputs that one process writes are good for another, too.
set -eu

rm -rf "$2"
"$1" --write "$2"
"$(dirname "$0")/../launch" "$1" --accept "$2"/*
