#!/bin/bash
# tools/slurm_array.sh on a real Slurm of one node: a part is killed, another is told that its time is
# over; both come back, and the table has the bytes of one process.
#   slurm_test.sh TABLE EXPERIMENT MODELS SLURM_ARRAY ONE_NODE_SLURM
set -euo pipefail
table=$(realpath "$1") experiment=$(realpath "$2") models=$(realpath "$3") array=$(realpath "$4")
one_node=$(realpath "$5")
folder=$(mktemp -d "${TEST_TMPDIR:-/tmp}/slurm.XXXXXX")
cd "$folder"

fail() {
  echo "FAILED: $1" >&2
  tail -n 30 ./*.log slurm/*.log >&2 || true
  exit 1
}

run=("$table" "$experiment" --models="$models" --methods=none,uce --attacks=none,char_typo
  --metrics=asr,retention --workers=1)
"${run[@]}" --cache=one --out=one.json >one.txt 2>one.log || fail "one process: $(cat one.log)"

# Ends its program as a node does that has no memory left (part 0), or says that the time is over as
# Slurm does (part 1), the first time, as soon as the part has stored something.
cat >mortal.sh <<'MORTAL'
#!/bin/bash
stored() { find parts -type f 2>/dev/null | wc -l; }
before=$(stored)
"$@" &
program=$!
if [[ -z ${SLURM_RESTART_COUNT:-} && ${SLURM_ARRAY_TASK_ID:-2} -lt 2 ]]; then
  while kill -0 $program 2>/dev/null && (($(stored) == before)); do sleep 0.01; done
  if ((SLURM_ARRAY_TASK_ID == 0)); then kill -9 $program; else kill -USR1 $PPID; fi
fi
trap 'kill -TERM $program' TERM
code=0
wait $program || code=$?
while kill -0 $program 2>/dev/null; do
  code=0
  wait $program || code=$?
done
exit $code
MORTAL
chmod +x mortal.sh

cat >in_slurm.sh <<'IN_SLURM'
set -euo pipefail
jobs=$("$array" --array=0-2%1 --output=%j.log -- ./mortal.sh "${run[@]}" \
  --cache=parts -- --out=array.json)
for ((second = 0; second < 240; ++second)); do
  [[ -z $(squeue --noheader) ]] && break
  sleep 1
done
scontrol show job "${jobs#* }"

# What is cancelled does not come back.
jobs=$("$array" --array=0-0 --output=cancelled_%j.log -- sleep 300)
for ((second = 0; second < 60; ++second)); do
  [[ $(squeue --noheader --states=RUNNING --jobs="${jobs% *}") ]] && break
  sleep 1
done
sleep 1  # the script has begun
scancel "${jobs% *}"
for ((second = 0; second < 60; ++second)); do
  [[ -z $(squeue --noheader) ]] && break
  sleep 1
done
IN_SLURM
export array
declare -p run >with_run.sh
cat in_slurm.sh >>with_run.sh
code=0
"$one_node" "$folder/slurm" bash with_run.sh >jobs.txt 2>jobs.log || code=$?
if ((code == 77)); then
  echo "SKIPPED: Slurm is not installed (Debian's slurm-wlm); tools/slurm_array.sh was not tried."
  exit 0
fi
((code == 0)) || fail "the jobs: $(cat jobs.log)"

# A table, the same bytes but for what a run costs, and nothing was left undone by the parts.
without_cost() { python3 -c '
import json, sys
table = json.load(open(sys.argv[1]))
for of_the_run in ("cost", "provenance"):
    table.pop(of_the_run)
print(json.dumps(table))' "$1"; }
[[ -s array.json ]] || fail "no table: $(cat jobs.txt)"
cmp <(without_cost one.json) <(without_cost array.json) || fail "another table than one process writes"
cmp one.rows.jsonl array.rows.jsonl || fail "other rows than one process writes"
cmp one.csv array.csv || fail "another CSV than one process writes"
grep -q "started 1 times" cancelled_*.log || fail "the part to be cancelled did not start"
grep -q "queueing it again" cancelled_*.log && fail "a cancelled part came back"
for part in 0 1; do
  grep -q "part $part of job [0-9]* was ended from outside" ./*.log || fail "part $part was not ended"
  grep -q "part $part of job [0-9]* on .*, started 2 times" ./*.log || fail "part $part did not return"
done
grep -q "exit code 137" ./*.log || fail "no part was killed"
grep -q "this run does part 1 of 3, .* because a Slurm array" ./*.log || fail "a part does not say that it is one"
echo "three parts by Slurm, one killed and one out of time: the bytes of one process; what is cancelled stays so"
