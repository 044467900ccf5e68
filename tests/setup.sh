# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What every entry point needs (tests/run, examples/run, bench/run, .ci/run): the packages, and a
# build. To be sourced by a bash script that has set -euo pipefail.

fq_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What it takes to configure and build the library itself.
# shellcheck disable=SC2034 # used by the scripts that source this file
fq_build_packages=(build-essential cmake ninja-build pkg-config liburcu-dev libatomic-ops-dev)

fq_say()
{
	printf '%s\n' "$*"
}

# Ends the (sub)shell, so that nobody can overlook it.
fq_die()
{
	printf '\n*** %s: %s\n\n' "${0##*/}" "$*" >&2
	exit 1
}

fq_package_installed()
{
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# fq_quietly LOG COMMAND...: shows what the command said only when it fails.
fq_quietly()
{
	local log=$1 rc=0

	shift
	"$@" >"$log" 2>&1 || rc=$?
	[ "$rc" -eq 0 ] && return
	cat "$log" >&2
	return "$rc"
}

# apt-get as root, or through sudo where there is one.
fq_apt_get()
{
	local command=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -y
		-o DPkg::Lock::Timeout=600 "$@")

	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || return 1
		command=(sudo "${command[@]}")
	fi
	"${command[@]}" </dev/null
}

# fq_need_packages PACKAGE...: installs those that are missing, and touches nothing otherwise.
fq_need_packages()
{
	local package log missing=()

	if ! command -v dpkg-query >/dev/null; then
		fq_say "not a Debian system: taking for granted what these packages hold: $*" >&2
		return
	fi
	for package; do
		fq_package_installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} -eq 0 ] && return

	fq_say "installing ${missing[*]}"
	log=$(mktemp)
	# An update that fails in part may still do; the install decides.
	fq_quietly "$log" fq_apt_get update || true
	fq_quietly "$log" fq_apt_get install --no-install-recommends "${missing[@]}" || true
	rm -f "$log"
	for package in "${missing[@]}"; do
		fq_package_installed "$package" ||
			fq_die "the package $package is missing and could not be installed" \
				"(apt-get install ${missing[*]})"
	done
}

# fq_configure_build BUILDDIR CMAKE-ARGUMENT...: the directory is relative to the top of the tree.
# The lock keeps two runs from building in one directory at once.
fq_configure_build()
{
	local dir=$fq_root/$1 generator=()

	shift
	mkdir -p "$dir"
	if [ ! -f "$dir/CMakeCache.txt" ] && command -v ninja >/dev/null; then
		generator=(-G Ninja)
	fi
	if [ "${CI:-}" = true ]; then
		set -- -DFENCEQ_WERROR=ON "$@"
	fi
	(
		flock 9
		fq_quietly "$dir/configure.log" cmake -S "$fq_root" -B "$dir" "${generator[@]}" "$@" &&
			fq_quietly "$dir/build.log" cmake --build "$dir" \
				--parallel "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"
	) 9>"$dir/.lock" || fq_die "the build in ${dir#"$fq_root"/} failed"
}
