#!/bin/bash
# A method is one file: copies one that erases into methods/, edits nothing else, and checks against the
# golden files that it appears in table1, that it erases, and that no number of another method changes.
# Run in the repository root; the copy is removed again. Flags of Bazel's own come from BAZEL_FLAGS.
set -euo pipefail
cd "$(dirname "$0")/.."

read -r -a startup <<<"${BAZEL_FLAGS:-}"
copy=methods/copied_in.cc
work=$(mktemp -d)
trap 'rm -rf "$copy" "$work"' EXIT
if [[ -e $copy ]]; then
  echo "$copy exists already: remove it first." >&2
  exit 2
fi

sed 's/\bUce\b/CopiedIn/g' methods/uce.cc >"$copy"
./bazelw "${startup[@]}" run --noshow_progress //experiments:table1 -- --profile=smoke --check=golden \
  --methods=copied_in,uce --cache="$work/cache" --out="$work/table.json" >"$work/table.txt" 2>"$work/said" ||
  { cat "$work/said" >&2; exit 1; }

# Nothing holds it yet, and it breaks nothing.
grep "new, and held by nothing: copied_in" "$work/said"
grep -q copied_in "$work/table.txt"
python3 - "$work/table.json" <<'PY'
import json, sys

records = json.load(open(sys.argv[1], encoding="utf-8"))["records"]
of = lambda method: [record for record in records if record["method"] == method]
assert len(of("copied_in")) == len(of("uce")) > 0, "the copied-in method has not the records of a method"

shown = {record["method"]: record["value"] for record in records
         if record["concept"] == "*" and record["attack"] == "none" and record["metric"] == "asr"}
assert shown["copied_in"] < shown["none"], f"the copied-in method erases nothing: {shown}"
print(f"{len(of('copied_in'))} records new, {len(records) - len(of('copied_in'))} as they were; "
      f"target rate {shown['none']:.0%} -> {shown['copied_in']:.0%}")
PY
