"""Compares every value of the committed results and golden files with those of another commit.

    python3 tools/compare_values.py OLD [--renamed=OLD_NAME=NEW_NAME ...]

Files are matched by name, wherever they stand below results/. Numbers must be the same digit for digit.
What is allowed to differ is named on the command line: files that have another name now, whose
experiment may then have another profile's name, too. Exits 1 if anything else differs.
"""

import argparse
import json
import pathlib
import subprocess
import sys


# Where a profile has another name, and the command that asks for it.
PROFILE = {"/experiment/profile", "/provenance/arguments#", "/provenance/arguments/0"}


def git(*arguments):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


def committed(commit):
    """name -> text of every .json and .jsonl below results/ at a commit."""
    files = {}
    for path in git("ls-tree", "-r", "--name-only", commit, "results").splitlines():
        if path.endswith((".json", ".jsonl")):
            place = pathlib.PurePosixPath(path)
            # golden/table1.json and table1.json are two files.
            kind = place.parent.name if place.parent.name in ("golden", "published", "reference") else ""
            files[f"{kind}/{place.name}".lstrip("/")] = git("show", f"{commit}:{path}")
    return files


def leaves(value, path=""):
    """Every value of a JSON document with its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}/{key}")
    elif isinstance(value, list):
        yield f"{path}#", len(value)
        for index, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{index}")
    else:
        yield path, value


def values(text, name):
    # Numbers as they are written: 0.1 and 0.10 are not the same digits.
    load = lambda line: json.loads(line, parse_float=str, parse_int=str)
    if name.endswith(".jsonl"):
        return dict(leaves([load(line) for line in text.splitlines()]))
    return dict(leaves(load(text)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="a commit")
    parser.add_argument("--renamed", action="append", default=[], help="OLD_NAME=NEW_NAME")
    arguments = parser.parse_args()
    renamed = dict(pair.split("=") for pair in arguments.renamed)
    before, after = committed(arguments.old), committed("HEAD")
    compared, moved = 0, []
    for name, text in sorted(before.items()):
        new_name = renamed.get(name, name)
        if new_name not in after:
            moved.append(f"{name}: no file {new_name} any more")
            continue
        old, new = values(text, name), values(after[new_name], new_name)
        may_differ = PROFILE if name in renamed else set()
        for place in sorted(set(old) | set(new)):
            if place in may_differ:
                continue
            compared += 1
            if old.get(place) != new.get(place) or (place in old) != (place in new):
                moved.append(f"{name}{place}: {old.get(place)} -> {new.get(place)}")
    for line in moved[:50]:
        print(line)
    print(f"{len(before)} files, {compared} values compared, {len(moved)} differ")
    print("new files:", ", ".join(sorted(set(after) - {renamed.get(n, n) for n in before})) or "none")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main())
