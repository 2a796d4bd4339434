"""Compares every value of the committed results and golden files with those of another commit.

    python3 tools/compare_values.py OLD [--renamed=OLD_NAME=NEW_NAME ...]

Files are matched by name, wherever they stand below results/; records, comparisons and rows by what they are
of. Numbers must be the same digit for digit.
What is allowed to differ is named on the command line: files that have another name now, whose
experiment may then have another profile's name, too. Exits 1 if anything else differs.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys


# Where a profile has another name, and the command that asks for it.
PROFILE = {"/experiment/profile", "/provenance/arguments#", "/provenance/arguments/0"}


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def documents(name, text):
    """name -> parsed. Numbers stay as they are written: 0.1 and 0.10 are not the same digits."""
    load = lambda line: json.loads(line, parse_float=str, parse_int=str)
    if name.endswith(".jsonl"):
        return {name: [load(line) for line in text.splitlines()]}
    document = load(text)
    if name.startswith("golden/") and "results" in document:
        return golden_by_method(name, document)
    return {name: document}


def golden_by_method(name, golden):
    """A golden file of a whole table, as the files a method that hold the same values."""
    results, folder = golden["results"], name.removesuffix(".json")
    parts = {name: {field: results[field] for field in ("schema", "experiment", "inputs")}}

    def part(method):
        empty = {"records": [], "comparisons": [], "verified_on": golden["verified_on"]}
        return parts.setdefault(f"{folder}/{method}.json", empty)

    for record in results["records"]:
        part(record["method"])["records"].append(record)
    left_out = 0
    for comparison in results["comparisons"]:
        if comparison["over"] == "attacks":
            part(comparison["given"])["comparisons"].append(comparison)
        elif "none" in (comparison["first"], comparison["second"]):
            other = comparison["second" if comparison["first"] == "none" else "first"]
            held = {field: value for field, value in comparison.items() if field != "p_holm"}
            part(other)["comparisons"].append(held)
        else:
            left_out += 1
    print(f"{name}: {left_out} comparisons of two methods follow from the records and are held no more")
    return parts


def committed(commit):
    """name -> parsed, of every .json and .jsonl below results/ at a commit."""
    files = {}
    for path in git("ls-tree", "-r", "--name-only", commit, "results").splitlines():
        if path.endswith((".json", ".jsonl")):
            parts = pathlib.PurePosixPath(path).parts
            # golden/table1.json and table1.json are two files.
            kinds = [i for i, part in enumerate(parts) if part in ("golden", "published", "reference")]
            name = "/".join(parts[kinds[0] if kinds else -1 :])
            files.update(documents(name, git("show", f"{commit}:{path}")))
    return files


# What names an entry of a list, so that entries that join move no other: records, comparisons, rows.
NAMES = (
    ("method", "concept", "attack", "metric"),
    ("metric", "part", "over", "given", "first", "second"),
    ("method", "concept", "attack", "group", "root_id", "replicate"),
)


def name_of(entry):
    for fields in NAMES:
        if isinstance(entry, dict) and all(field in entry for field in fields):
            return "|".join(str(entry[field]) for field in fields)
    return None


def leaves(value, path=""):
    """Every value of a JSON document with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    elif isinstance(value, list):
        names = [name_of(entry) for entry in value]
        named = None not in names and len(set(names)) == len(names)
        if not named:
            yield f"{path}#", len(value)
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}/<{names[index]}>" if named else f"{path}/{index}")
    else:
        yield path, value


def kind_of(place):
    """'records/lineage' of '/records/<uce|poodle|pez|asr>/lineage/0'."""
    plain = re.sub(r"/<[^>]*>", "", place)
    return "/".join(part for part in plain.split("/") if part and not part.isdigit())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="a commit")
    parser.add_argument("--renamed", action="append", default=[], help="OLD_NAME=NEW_NAME")
    parser.add_argument("--kinds", action="store_true", help="count what differs by file and field")
    arguments = parser.parse_args()
    renamed = dict(pair.split("=") for pair in arguments.renamed)
    before, after = committed(arguments.old), committed("HEAD")
    compared, moved, moved_kinds = 0, [], []
    for name, document in sorted(before.items()):
        new_name = renamed.get(name, name)
        if new_name not in after:
            moved.append(f"{name}: no file {new_name} any more")
            continue
        old, new = dict(leaves(document)), dict(leaves(after[new_name]))
        may_differ = PROFILE if name in renamed else set()
        for place in sorted(set(old) | set(new)):
            if place in may_differ:
                continue
            compared += 1
            if old.get(place) != new.get(place) or (place in old) != (place in new):
                moved.append(f"{name}{place}: {old.get(place)} -> {new.get(place)}")
                how = "gone" if place not in new else "new" if place not in old else "other"
                moved_kinds.append(f"{name}: {how}: {kind_of(place)}")
    if arguments.kinds:
        counts = collections.Counter(moved_kinds)
        for kind, count in sorted(counts.items()):
            print(f"{count:8d} {kind}")
    else:
        for line in moved[:50]:
            print(line)
    print(f"{len(before)} files, {compared} values compared, {len(moved)} differ")
    print("new files:", ", ".join(sorted(set(after) - {renamed.get(n, n) for n in before})) or "none")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
