#!/bin/bash
# A table by Slurm: an array of tasks, each of which does its part, then one job that waits for all
# of them and writes the table. A task that is killed, preempted or out of time is queued again and
# goes on where it was: what it computed is in the store.
#
#   tools/slurm_array.sh [SBATCH OPTIONS] -- PROGRAM [ARGUMENTS] [-- ARGUMENTS OF THE LAST JOB]
#
#   tools/slurm_array.sh --array=0-7 --partition=gpu --gres=gpu:1 --time=4:00:00 -- \
#     bazel-bin/experiments/table1 experiments/table1.json --device=cuda:0 --cache=/shared/excise \
#     -- --out=/shared/table1.json
#
# --cache must be a folder that every node sees. Options before the first -- go to both jobs but for
# --array (0-3 when it is not given) and --dependency. Prints the numbers of both jobs, the last job's
# last; scancel ends them for good. MAX_RESTARTS (20): how often a task may come back before it counts as failed.
set -euo pipefail

fail() {
  echo "slurm_array.sh: $1" >&2
  exit 2
}

# ---- Inside of a job: runs the program, and has the job queued again where it was ended from outside.
if [[ ${1:-} == --in-job ]]; then
  shift
  name="${SLURM_ARRAY_TASK_ID:+part $SLURM_ARRAY_TASK_ID of }job ${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}"
  restarts=${SLURM_RESTART_COUNT:-0}
  echo "slurm_array.sh: $name on $(hostname), started $((restarts + 1)) times"
  "$@" &
  program=$!
  # Slurm says two minutes before the time is over; the program ends after the unit of work it is at.
  ended=
  trap 'ended=yes; kill -TERM "$program" 2>/dev/null || true' USR1 TERM
  code=0
  wait "$program" || code=$?
  # A signal interrupts the wait, not the program.
  while kill -0 "$program" 2>/dev/null; do
    code=0
    wait "$program" || code=$?
  done
  # What Slurm itself ends, as by scancel, is running no more and is to stay so. The state is that of
  # the array's task, not of the array.
  id=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
  state=$(squeue --noheader --states=all --format=%T --jobs="${id:-$SLURM_JOB_ID}" || true)
  [[ $state == RUNNING ]] || exit "$code"
  # Above 128: a signal ended it, of somebody who wanted its memory or its node.
  if ((code > 128)) || { [[ -n $ended ]] && ((code != 0)); }; then
    ((restarts < ${MAX_RESTARTS:-20})) ||
      fail "$name was ended from outside $((restarts + 1)) times (exit code $code). Probably it needs more memory or time than it is given: pass more by --mem or --time."
    echo "slurm_array.sh: $name was ended from outside (exit code $code); queueing it again"
    scontrol requeue "$SLURM_JOB_ID"
    sleep 60  # Slurm ends this script.
  fi
  exit "$code"
fi

# ---- On the command line: hands in both jobs.
command -v sbatch >/dev/null ||
  fail "there is no sbatch here. Run this on a machine that hands in Slurm jobs; without Slurm, --shard=i/n does the same by hand (docs/many_machines.md)."
both=(--requeue --open-mode=append --signal=B:USR1@120)
array=0-3
while (($#)) && [[ $1 != -- ]]; do
  case $1 in
    --array=*) array=${1#*=} ;;
    --array | -a) fail "write $1 with its value as one word: --array=0-7" ;;
    --dependency*) fail "$1: the last job depends on the array; it cannot wait for something else." ;;
    *) both+=("$1") ;;
  esac
  shift
done
shift || fail "no program. Usage: tools/slurm_array.sh [SBATCH OPTIONS] -- PROGRAM [ARGUMENTS] [-- ARGUMENTS OF THE LAST JOB]"
command=()
while (($#)) && [[ $1 != -- ]]; do
  command+=("$1")
  shift
done
if (($#)); then shift; fi
((${#command[@]})) || fail "no program between -- and --."
[[ -x ${command[0]} ]] || command -v "${command[0]}" >/dev/null ||
  fail "${command[0]} is no program. Build it first: ./bazelw build //experiments:table1"

parts=$(sbatch --parsable --array="$array" "${both[@]}" "$0" --in-job "${command[@]}")
parts=${parts%%;*}  # the cluster's name follows
table=$(sbatch --parsable --dependency="afterok:$parts" --kill-on-invalid-dep=yes "${both[@]}" \
  "$0" --in-job "${command[@]}" --shard=0/1 "$@")
echo "$parts ${table%%;*}"
echo "slurm_array.sh: job $parts computes the parts ($array), job ${table%%;*} then writes the table." >&2
