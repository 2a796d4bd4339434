"""Reads a table's CSV as Python people do, and holds it against the table's JSON.

tidy_csv.py TABLE.csv TABLE.json [DOCUMENT.md]
One number a line, no line twice, and exactly the numbers of the JSON's records. The document's
Python examples are run where pandas is installed; else the last line says SKIPPED.
"""

import csv
import json
import os
import re
import sys

KEY = ("table", "profile", "method", "attack", "concept", "metric", "part")
NUMBERS = ("value", "low", "high", "stderr", "n", "chance", "bound_low", "bound_high", "edits",
           "concepts_low", "concepts_high", "most_gradient_steps", "most_victim_queries",
           "most_candidate_evaluations", "spent_gradient_steps", "spent_victim_queries",
           "spent_candidate_evaluations", "spent_unet_evaluations")
PLAIN = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def read_lines(path):
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        lines = {}
        for line in reader:
            key = tuple(line[name] for name in KEY)
            assert key not in lines, f"{key} comes twice"
            assert None not in line and None not in line.values(), f"{key}: not as many fields"
            for name in NUMBERS:
                assert line.get(name, "") == "" or PLAIN.fullmatch(line[name]), f"{key}: {line[name]}"
            lines[key] = line
        return lines


def number(text):
    return None if text == "" else float(text)


def check_own(record, line):
    assert line["status"] == record["status"] and line["reason"] == record["reason"]
    assert line["group"] == record["group"] and line["unit"] == record["unit"]
    assert line["higher_is_better"] == str(record["higher_is_better"]).lower()
    for name in ("set", "eligible", "excluded", "attacked", "scored", "missing"):
        assert number(line[name]) == record["denominators"].get(name), name
    assert number(line.get("edits", "")) == record["denominators"].get("edits")
    over = record.get("ci95_concepts", [None, None])
    if over[0] != over[1] or over == [None, None]:
        assert [number(line.get("concepts_low", "")), number(line.get("concepts_high", ""))] == over
    budget = record["protocol"].get("budget", {})
    assert line["budget_per"] == budget.get("per", "")
    for which in ("most", "spent"):
        for kind in ("gradient_steps", "victim_queries", "candidate_evaluations"):
            assert number(line[f"{which}_{kind}"]) == budget.get(which, {}).get(kind), (which, kind)
    assert number(line["spent_unet_evaluations"]) == budget.get("spent", {}).get("unet_evaluations")
    bounds = record["denominators"].get("bounds", [None, None])
    assert [number(line["bound_low"]), number(line["bound_high"])] == bounds
    assert number(line["value"]) == record.get("value")
    assert number(line["n"]) == record.get("n")
    low, high = record.get("ci95", (0, 0))
    if high > low:
        assert (number(line["low"]), number(line["high"])) == (low, high)
        assert number(line["stderr"]) == record["stderr"]
    else:  # none can be estimated
        assert line["low"] == line["high"] == line["stderr"] == ""


def check_parts(record, lines):
    """The record's parts, made again of the lines."""
    wanted = record.get("parts", {})
    found = {}
    for line in lines:
        found[line["part"]] = number(line["value"])
        for end, column in (("_n", "n"), ("_low", "low"), ("_high", "high")):
            if line["part"] + end in wanted:
                found[line["part"] + end] = number(line[column])
    assert found == wanted, f"{found} instead of {wanted}"


def check_table(lines, results):
    left = {}  # by metric, then by part
    for key, line in lines.items():
        left.setdefault(key[:6], {})[key[6]] = line
    for record in results["records"]:
        concept = "all" if record["concept"] == "*" else record["concept"]
        key = (results["experiment"]["name"], results["experiment"]["profile"], record["method"],
               record["attack"], concept)
        try:
            own = left.pop(key + (record["metric"],))
            assert list(own) == [""], list(own)
            check_own(record, own[""])
            check_parts(record, left.pop(key + (record["metric"] + "_parts",), {}).values())
        except (AssertionError, KeyError) as error:
            sys.exit(f"{key}, {record['metric']}: {error!r}")
    assert not left, f"of no record: {list(left)[:3]}"


def check_examples(document, path, lines):
    text = open(document, encoding="utf-8").read()
    section = text[text.index("## For Python"):].split("\n## ")[0]
    blocks = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len(blocks) == 3 and blocks[0].count("\n") == 3 and blocks[2].count("\n") == 3
    os.chdir(os.path.dirname(os.path.abspath(path)))
    check_pandas(blocks[:2], lines)
    check_duckdb(blocks[2], lines, os.path.basename(path).replace(".csv", ".rows.jsonl"))


def check_pandas(blocks, lines):
    try:
        import pandas
    except ImportError:
        print("SKIPPED: this Python has no pandas; the document's examples were not run.")
        return
    names = {}
    exec("".join(blocks), names)
    for frame, metric, column in ((names["asr"], "asr", "attack"),
                                  (names["parts"], "asr_parts", "part")):
        pivot = frame.pivot_table(index="method", columns=column, values="value")
        wanted = {(line["method"], line[column]): float(line["value"])
                  for line in lines.values()
                  if line["metric"] == metric and line["concept"] == "all" and line["value"]
                  and (column == "attack" or line["attack"] == "none")}
        found = {key: value for key, value in pivot.stack().items() if not pandas.isna(value)}
        assert wanted and found == wanted, f"{found} instead of {wanted}"
    print("the document's examples give the table's numbers")


def check_duckdb(block, lines, rows_file):
    try:
        import duckdb
    except ImportError:
        print("SKIPPED: this Python has no duckdb; the document's SQL was not run.")
        return
    names = {}
    exec(block, names)
    wanted = {(line["method"], line["attack"]): number(line["value"]) for line in lines.values()
              if line["metric"] == "asr" and line["concept"] == "all"}
    assert {(method, attack): value for method, attack, value in names["rates"]} == wanted
    with open(rows_file, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    parquet = duckdb.sql(f"SELECT * FROM '{rows_file.replace('.jsonl', '.parquet')}'")
    found = [dict(zip(parquet.columns, values)) for values in parquet.fetchall()]
    assert len(found) == len(rows) > 0
    for row, typed in zip(rows, found):
        # A column that some rows have is there, and empty, in the others.
        if isinstance(typed.get("detected"), dict):
            typed["detected"] = {k: v for k, v in typed["detected"].items() if v is not None}
        assert {key: typed[key] for key in row} == row, f"{typed} instead of {row}"
    print("the document's SQL gives the table's numbers, its Parquet the rows")


def main():
    lines = read_lines(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as file:
        check_table(lines, json.load(file))
    print(f"{len(lines)} lines")
    if len(sys.argv) > 3:
        check_examples(sys.argv[3], sys.argv[1], lines)


main()
