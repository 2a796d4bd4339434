#!/bin/bash
# A method is one file: copies one into methods/, edits nothing else, and checks that it appears in the
# table and that no other method's records change by a byte. Run in the repository root; the copy is
# removed again. Flags of Bazel's own come from BAZEL_FLAGS.
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

run() {  # name
  ./bazelw "${startup[@]}" run --noshow_progress //experiments:tiny -- --concepts=poodle --attacks=char_typo,pez \
    --cache="$work/$1" --out="$work/$1.json" >"$work/$1.txt"
}

run before
sed 's/class None/class CopiedIn/; s/Method, None>/Method, CopiedIn>/' methods/none.cc >"$copy"
run after

python3 - "$work/before.json" "$work/after.json" <<'PY'
import json, sys

before, after = (json.load(open(path, encoding="utf-8"))["records"] for path in sys.argv[1:])
others = [record for record in after if record["method"] != "copied_in"]
assert len(others) < len(after), "the copied-in method has no record"
assert before and others == before, "another method's records changed"
print(f"{len(before)} records unchanged, {len(after) - len(others)} new")
PY
grep -q copied_in "$work/after.txt"
