# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# Part of tests/run, which sources it.

selector fuzz "each parser of foreign bytes (libFuzzer, ASan+UBSan); takes --seconds and --seed"

# fuzz_part PROGRAM PART SECONDS: begins with what the part's own program takes for good, and with
# what is kept in the tree.
fuzz_part()
{
	local corpus=build-fuzz/corpus-$2 log=build-fuzz/$2.log

	rm -rf "$corpus"
	"$1/$2_fuzz" --write "$corpus" || return
	[ ! -d "tests/fuzz/corpus/$2" ] || cp "tests/fuzz/corpus/$2"/* "$corpus"
	if ! "$1/$2_libfuzzer" -max_total_time="$3" -max_len=4096 -seed="${seed:-0}" \
		-artifact_prefix="build-fuzz/$2-" "$corpus" >"$log" 2>&1; then
		tail -n 60 "$log"
		return 1
	fi
	fq_say "fuzz $2: $(grep '^Done ' "$log"), $(grep -c . <(ls "$corpus")) inputs kept"
}

run_fuzz()
{
	local programs=build-fuzz/tests/fuzz program part

	# shellcheck disable=SC2154 # of tests/setup.sh
	fq_need_packages "${fq_build_packages[@]}" clang libclang-rt-dev
	build build-fuzz -DCMAKE_C_COMPILER=clang -DFENCEQ_LIBFUZZER=ON \
		-DFENCEQ_SANITIZE=address,undefined,fuzzer-no-link
	FQ_TEST_ARGS=${seed:+--seed $seed} run_ctest build-fuzz fuzz 120
	for program in "$programs"/*_libfuzzer; do
		part=${program##*/}
		part=${part%_libfuzzer}
		check "fuzz $part" fuzz_part "$programs" "$part" "${seconds:-${share:-10}}"
	done
}
