#!/usr/bin/env python3
"""Makes results/quality/fuzz.json and results/quality/fuzz.md of the runs that tools/fuzz.sh noted.

  tools/fuzz_report.py /tmp/excise_fuzz/runs.tsv

Executions, seconds and crashes of a target's runs add up; coverage is that of the last one.
"""

import json
import os
import pathlib
import subprocess
import sys


def main():
    runs = {}
    for line in pathlib.Path(sys.argv[1]).read_text().splitlines():
        target, executed, seconds, crashes, edges, features, date = line.split("\t")
        run = runs.setdefault(target, {"executions": 0, "seconds": 0, "crashes": 0})
        run["executions"] += int(executed)
        run["seconds"] += int(seconds)
        run["crashes"] += int(crashes)
        run["edges"], run["features"], run["date"] = int(edges), int(features), date
    compiler = subprocess.run([os.environ.get("CLANGXX", "clang++-14"), "--version"], capture_output=True, text=True, check=True)
    report = {
        "compiler": compiler.stdout.splitlines()[0],
        "sanitizers": ["address", "undefined"],
        "targets": {target: runs[target] for target in sorted(runs)},
    }
    results = pathlib.Path(__file__).resolve().parent.parent / "results" / "quality"
    (results / "fuzz.json").write_text(json.dumps(report, indent=1) + "\n")

    lines = [
        "# Fuzzing",
        "",
        "libFuzzer with AddressSanitizer and UBSan over the parsers of files that come from elsewhere",
        f"([tests/fuzz](../../tests/fuzz)); {report['compiler']}. Each target checks a promise on what is",
        "accepted, not only that nothing crashes. `tools/fuzz.sh` runs them, `tools/fuzz_report.py` writes",
        "this page. Edges and features: libFuzzer's coverage counters at the end.",
        "",
        "| target | executions | seconds | crashes | edges | features | last run |",
        "|:--|--:|--:|--:|--:|--:|:--|",
    ]
    for target, run in report["targets"].items():
        lines.append(
            f"| {target} | {run['executions']:,} | {run['seconds']:,} | {run['crashes']} "
            f"| {run['edges']:,} | {run['features']:,} | {run['date']} |")
    (results / "fuzz.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
