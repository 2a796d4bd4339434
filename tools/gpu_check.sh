#!/bin/bash
# Does a GPU compute what the CPU computes, and how fast: a report in Markdown, within minutes.
#
#   tools/gpu_check.sh [--device=cuda:0] [--bin=bazel-bin] [--python=python3] [--out=gpu_check.md]
#
# It needs no network and no Bazel: programs that were built elsewhere (./bazelw build
# //experiments:tiny //experiments:verify //models:forward) run against the LibTorch that
# LD_LIBRARY_PATH names, which must be of the version that they were built with. With --device=cpu the
# script tries itself. The parts, each reported whether or not another one failed:
#   1. the tests' experiment, every method and attack, on the device and on the CPU;
#   2. parity: `verify` replays the CPU's table on the device and holds every record to rounding;
#   3. seconds and memory of SD 1.4's U-Net, VAE and CLIP with random weights against PyTorch, where
#      --python has torch, diffusers and transformers (tools/compare_speed.py).
# Exits 1 when a part failed.
set -uo pipefail
cd "$(dirname "$0")/.."

device=cuda:0 bin=bazel-bin python=python3 out=gpu_check.md
for argument in "$@"; do
  case $argument in
    --device=*) device=${argument#*=} ;;
    --bin=*) bin=${argument#*=} ;;
    --python=*) python=${argument#*=} ;;
    --out=*) out=${argument#*=} ;;
    *) echo "gpu_check.sh: unknown option $argument; see the head of tools/gpu_check.sh" >&2; exit 2 ;;
  esac
done
for program in experiments/tiny experiments/verify models/forward; do
  if [[ ! -x $bin/$program ]]; then
    echo "gpu_check.sh: $bin/$program is missing. Build it, or name the folder by --bin" >&2
    exit 2
  fi
done
work=$(mktemp -d)
trap 'rm -rf "$work"; kill $(jobs -p) 2>/dev/null' EXIT
failed=0

say() { tee -a "$out" <<<"$*"; }

# The largest memory that the GPU has had in use, in MiB, once a second.
watch_memory() {
  local most=0 now
  while sleep 1; do
    now=$(nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits | head -n 1) || return
    if ((now > most)); then most=$now && echo "$most" >"$work/memory"; fi
  done
}

# part NAME COMMAND ...: runs it, reports whether it went well and how long it took.
part() {
  local name=$1 start=$SECONDS code=0
  shift
  "$@" >"$work/said" 2>&1 || code=$?
  if ((code == 0)); then
    say "- $name: $((SECONDS - start)) s"
  else
    failed=1
    say "- **$name: exit code $code** after $((SECONDS - start)) s:"
    say '```'
    say "$(tail -n 20 "$work/said")"
    say '```'
  fi
}

table() { "$bin/experiments/tiny" tests/tiny.json --device="$1" --cache="$work/$2" --out="$work/$2.json"; }

: >"$out"
say "# Excise on $device"
say
if command -v nvidia-smi >/dev/null; then
  say "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader)"
  watch_memory 2>/dev/null &
else
  say "No nvidia-smi on this machine."
fi
say "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores."
say
part "the tests' table on $device" table "$device" device
part "the same on the CPU" table cpu host
part "verify replays the CPU's on $device" "$bin/experiments/verify" "$work/host.json" --device="$device" --cache="$work/verify"
say
say '```'
say "$(tail -n 5 "$work/said")"
say '```'
if [[ -f $work/memory ]]; then say "Most memory of the GPU in use: $(cat "$work/memory") MiB."; fi
say
if "$python" -c "import torch, diffusers, transformers" 2>/dev/null; then
  part "SD 1.4's parts against PyTorch" "$python" tools/compare_speed.py --scratch="$work/speed" --forward="$bin/models/forward" \
    --device="$device" --threads="$(nproc)" --seconds=10 --out="$work/speed.md"
  say
  say "$(cat "$work/speed.md" 2>/dev/null)"
else
  say "Not compared with PyTorch: $python lacks torch, diffusers or transformers."
fi
exit "$failed"
