#!/bin/bash
# Builds the fuzz targets of tests/fuzz with libFuzzer, AddressSanitizer and UBSan (clang, without
# Bazel: another compiler would make Bazel configure and build everything anew) and runs them.
#
#   tools/fuzz.sh [--runs=20000] [--seconds=0] [--out=/tmp/excise_fuzz] [target ...]
#
# Each target starts from tests/fuzz/corpus/TARGET and from what earlier runs found, which stays in
# OUT/TARGET/found: a long run can be stopped and started again. Every run adds a line to
# OUT/runs.tsv; tools/fuzz_report.py makes results/quality/fuzz.json and fuzz.md of it. A crash is left in
# OUT/TARGET/crashes and ends the script with 1; copy the file to tests/fuzz/corpus/TARGET once it
# is fixed, so that it is replayed at every commit. Needs clang with libFuzzer (./bazelw test installs
# it); CLANGXX names another than the newest.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=20000 seconds=0 out=/tmp/excise_fuzz targets=()
for argument in "$@"; do
  case $argument in
    --runs=*) runs=${argument#*=} ;;
    --seconds=*) seconds=${argument#*=} ;;
    --out=*) out=${argument#*=} ;;
    -*) echo "fuzz.sh: unknown option $argument; see the head of tools/fuzz.sh" >&2; exit 2 ;;
    *) targets+=("$argument") ;;
  esac
done
if ((${#targets[@]} == 0)); then
  for file in tests/fuzz/*_fuzz.cc; do targets+=("$(basename "$file" _fuzz.cc)"); done
fi

compiler=${CLANGXX:-$(compgen -c clang++- | grep -xE 'clang\+\+-[0-9]+' | sort -V | tail -n 1 || true)}
if ! command -v "${compiler:-clang++}" >/dev/null; then
  echo "fuzz.sh: no ${compiler:-clang++}. ./bazelw test //core:hash_test installs it, or name yours by CLANGXX" >&2
  exit 2
fi
compiler=${compiler:-clang++}

# The sources that know no LibTorch.
sources=()
for file in core/*.cc {models,datasets,experiments}/formats/*.cc tests/fuzz/fuzz.cc; do
  case $file in *_test.cc | *_benchmark.cc | *_main.cc) ;; *) sources+=("$file") ;; esac
done
flags=(-std=c++17 -O1 -g1 -I. -fno-omit-frame-pointer -fsanitize=address,undefined
  -fno-sanitize=vptr -fno-sanitize-recover=undefined)
libraries=(-lfmt -lcrypto -licui18n -licuuc -licudata -lpng -ljpeg -lcsv -lpthread)

mkdir -p "$out/objects" "$out/bin"
compile() {  # source, further flags: compiled where it or a header of its room is newer
  local object
  object="$out/objects/${1//\//.}.o"
  if [[ -f $object && -z $(find "$1" core {models,datasets,experiments}/formats tests/fuzz -newer "$object" \
    -name '*.h' -print -quit) && ! $1 -nt $object ]]; then return; fi
  "$compiler" "${flags[@]}" -fsanitize=fuzzer-no-link -c "$1" -o "$object.part"
  mv "$object.part" "$object"
}
export -f compile
export compiler out
jobs_file=$(printf '%s\n' "${sources[@]}" $(printf 'tests/fuzz/%s_fuzz.cc\n' "${targets[@]}"))
flags_line="${flags[*]}" xargs -P "$(nproc)" -I{} bash -euc \
  'read -r -a flags <<<"$flags_line"; compile {}' <<<"$jobs_file"

objects=()
for file in "${sources[@]}"; do objects+=("$out/objects/${file//\//.}.o"); done
status=0
for target in "${targets[@]}"; do
  "$compiler" "${flags[@]}" -fsanitize=fuzzer "$out/objects/tests.fuzz.${target}_fuzz.cc.o" \
    "${objects[@]}" "${libraries[@]}" -Wl,--gc-sections -o "$out/bin/$target"
  mkdir -p "$out/$target/found" "$out/$target/crashes"
  largest=$(find "tests/fuzz/corpus/$target" -type f -printf '%s\n' | sort -n | tail -n 1)
  options=(-runs="$runs" -max_total_time="$seconds" -max_len=$((largest > 2048 ? largest : 2048)) -timeout=10 -rss_limit_mb=1024
    -malloc_limit_mb=512 -print_final_stats=1 -artifact_prefix="$out/$target/crashes/")
  if [[ -f tests/fuzz/$target.dict ]]; then options+=(-dict="tests/fuzz/$target.dict"); fi
  crashed=0
  "$out/bin/$target" "${options[@]}" "$out/$target/found" "tests/fuzz/corpus/$target" \
    2>"$out/$target/log" || crashed=1
  executed=$(sed -n 's/^stat::number_of_executed_units: //p' "$out/$target/log")
  took=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$out/$target/log")
  reached=$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\) .*/\1\t\2/p' "$out/$target/log" | tail -n 1)
  printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$target" "${executed:-0}" "${took:-0}" "$crashed" \
    "${reached:-0	0}" "$(date -u +%F)" >>"$out/runs.tsv"
  echo "$target: ${executed:-0} executions, $crashed crashes, coverage ${reached:-?}"
  if ((crashed)); then
    tail -n 40 "$out/$target/log" >&2
    status=1
  fi
done
exit $status
