"""Seconds and memory of Excise against diffusers and transformers, in one go.

Both sides get the same random weights (written once below --scratch), the same inputs, threads and
dtype, and take turns run by run (ours, theirs, ours, theirs, ...), so that a machine that is busy
for a while is busy for both. A table row is a median over runs; memory is the peak resident size of
the process that holds this one model. Prints a Markdown table, and writes it with --out.

    bazel build -c opt //models:forward
    python tools/compare_speed.py --scratch=/tmp/speed --out=results/quality/speed.md

For developers; needs torch, diffusers, transformers and safetensors (made with torch 2.11.0,
diffusers 0.42.1, transformers 5.23.0). 7 GB of disk, 8 GB of memory, about 16 minutes on two cores.
"""

import argparse
import itertools
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

DTYPES = ("fp32", "bf16")
ROOT = pathlib.Path(__file__).resolve().parent.parent
EMOJI = ROOT / "models" / "emoji"

# name: (model folder below --scratch, or the embedded one; module of //models:forward; what is run)
CASES = {
    "unet_sd14": ("sd14/unet", "unet", "U-Net of SD 1.4, batch 2, 64x64 latents"),
    "clip_image": ("clip_l14", "vision_model", "CLIP ViT-L/14, 8 images"),
    "clip_text": ("clip_l14", "text_encoder", "CLIP ViT-L/14, 32 texts of 77 tokens"),
    "vae": ("sd14/vae", "vae_decoder", "VAE decoder of SD 1.4, one 512x512 image"),
    "unet_emoji": (EMOJI, "unet", "U-Net of the emoji backbone, batch 32"),
}


def folder_of(case, scratch):
    folder = CASES[case][0]
    return folder / "unet" if folder == EMOJI else scratch / folder


def make_models(scratch):
    """Random weights as the libraries initialise them; the sizes of the real models' configs."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    wanted = {
        "sd14/unet": lambda: UNet2DConditionModel(
            sample_size=64, cross_attention_dim=768, attention_head_dim=8
        ),
        "sd14/vae": lambda: AutoencoderKL(
            block_out_channels=[128, 256, 512, 512],
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=2,
            sample_size=512,
        ),
        "clip_l14": lambda: CLIPModel(
            CLIPConfig(
                text_config=dict(
                    hidden_size=768,
                    intermediate_size=3072,
                    num_attention_heads=12,
                    projection_dim=768,
                    eos_token_id=49407,
                ),
                vision_config=dict(
                    hidden_size=1024,
                    intermediate_size=4096,
                    num_hidden_layers=24,
                    num_attention_heads=16,
                    patch_size=14,
                    projection_dim=768,
                ),
                projection_dim=768,
            )
        ),
    }
    for name, make in wanted.items():
        if not list((scratch / name).glob("*.safetensors")):
            make().save_pretrained(scratch / name)


def make_inputs(scratch):
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(1)
    ids = torch.randint(1, 49000, (32, 77))
    ids[:, 0], ids[:, 20:] = 49406, 49407

    def unet(batch, size, tokens, width):
        return {
            "sample": torch.randn(batch, 4, size, size),
            "timestep": torch.tensor(500),
            "encoder_hidden_states": torch.randn(batch, tokens, width),
        }

    emoji = json.loads((EMOJI / "unet" / "config.json").read_text())
    tokens = json.loads((EMOJI / "text_encoder" / "config.json").read_text())["text_config"]
    inputs = {
        "unet_sd14": unet(2, 64, 77, 768),
        "clip_image": {"pixel_values": torch.randn(8, 3, 224, 224)},
        "clip_text": {"input_ids": ids},
        "vae": {"sample": torch.randn(1, 4, 64, 64)},
        "unet_emoji": unet(
            32,
            emoji["sample_size"],
            tokens["max_position_embeddings"],
            emoji["cross_attention_dim"],
        ),
    }
    for case, tensors in inputs.items():
        save_file(tensors, scratch / f"{case}.safetensors")


def serve(case, dtype, scratch, threads, device):
    """Their side: the seconds of loading, then one run a line of stdin, as //models:forward --time."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    inputs = {
        name: tensor.to(device, kind if tensor.is_floating_point() else None)
        for name, tensor in load_file(scratch / f"{case}.safetensors").items()
    }
    folder, module = folder_of(case, scratch), CASES[case][1]
    start = time.perf_counter()
    if module in ("vision_model", "text_encoder"):
        from transformers import CLIPTextModel, CLIPVisionModel

        cls = CLIPVisionModel if module == "vision_model" else CLIPTextModel
        model = cls.from_pretrained(folder, dtype=kind).eval().to(device)

        def run():
            return model(**inputs).last_hidden_state

    elif module == "unet":
        from diffusers import UNet2DConditionModel

        model = UNet2DConditionModel.from_pretrained(folder, torch_dtype=kind).eval().to(device)

        def run():
            return model(**inputs).sample

    else:
        from diffusers import AutoencoderKL

        model = AutoencoderKL.from_pretrained(folder, torch_dtype=kind).eval().to(device)

        def run():
            return model.decode(inputs["sample"]).sample

    print(f"{time.perf_counter() - start:.6f}", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        with torch.no_grad():
            run().cpu()
        print(f"{time.perf_counter() - start:.6f}", flush=True)


class Side:
    """A process that holds one model and runs it once for every line that it gets."""

    def __init__(self, command, clock):
        self.clock = clock
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.load = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process ended early: " + " ".join(self.process.args))
        return float(line)

    def cpu(self):
        """Seconds of processor time so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def run(self):
        before = self.cpu()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        wall = self.read()
        return wall if self.clock == "wall" else self.cpu() - before

    def close(self):
        """Peak resident memory in MiB."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        self.process.kill()
        self.process.wait()
        return int(peak.split()[1]) / 1024


def compare(case, dtype, threads, args):
    _, module, what = CASES[case]
    ours = Side(
        [
            str(args.forward),
            f"--model={folder_of(case, args.scratch)}",
            f"--module={module}",
            f"--in={args.scratch / (case + '.safetensors')}",
            f"--out={args.scratch / 'out.safetensors'}",
            f"--dtype={dtype}",
            f"--threads={threads}",
            f"--device={args.device}",
            "--time",
        ],
        args.clock,
    )
    theirs = Side(
        [sys.executable, __file__, f"--serve={case}:{dtype}", f"--scratch={args.scratch}"]
        + [f"--threads={threads}", f"--device={args.device}"],
        args.clock,
    )
    runs = {"ours": [], "theirs": []}
    first = ours.run() + theirs.run()  # warms both; a slow case gets fewer runs
    for i in range(max(3, min(args.max_runs, int(args.seconds / max(first, 1e-3))))):
        order = [("ours", ours), ("theirs", theirs)]
        for name, side in order if i % 2 == 0 else reversed(order):
            runs[name].append(side.run())
    seconds = {name: statistics.median(values) for name, values in runs.items()}
    memory = {"ours": ours.close(), "theirs": theirs.close()}
    return {
        "case": case,
        "what": what,
        "dtype": dtype,
        "threads": threads,
        "runs": len(runs["ours"]),
        "ours_s": seconds["ours"],
        "theirs_s": seconds["theirs"],
        "ratio": seconds["theirs"] / seconds["ours"],
        "ours_mib": memory["ours"],
        "theirs_mib": memory["theirs"],
        "memory_ratio": memory["ours"] / memory["theirs"],
        "all": runs,
    }


def cpu_name():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()


def has_bf16():
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    return "amx_bf16" in flags or "avx512_bf16" in flags


def render(rows, facts):
    lines = [
        "| model | dtype | threads | Excise s | theirs s | theirs/Excise | Excise MiB | theirs MiB |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['what']} | {row['dtype']} | {row['threads']} "
            f"| {row['ours_s']:.3f} | {row['theirs_s']:.3f} "
            f"| {row['ratio']:.2f} | {row['ours_mib']:.0f} | {row['theirs_mib']:.0f} |"
        )
    lines.append("")
    lines.append(
        f"Medians of alternating runs, {facts['clock']} time (above 1: Excise is faster); peak resident memory of a process "
        f"with this one model, the host's. {facts['device']}: {facts['cpu']}, {facts['cores']} cores, load average "
        f"{facts['load_average'][0]:.1f} before and {facts['load_average'][1]:.1f} after; torch "
        f"{facts['torch']}, diffusers {facts['diffusers']}, transformers {facts['transformers']}; "
        f"{facts['date']}."
    )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scratch", type=pathlib.Path, required=True, help="weights are kept here")
    parser.add_argument("--forward", type=pathlib.Path, default=ROOT / "bazel-bin/models/forward")
    parser.add_argument("--out", type=pathlib.Path, help="FILE.md; FILE.json is written beside it")
    parser.add_argument("--device", default="cpu", help="of both sides: cpu, cuda or cuda:N")
    parser.add_argument("--threads", default="", help="such as 1,8 (default: 1 and all)")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: processor time, for a busy machine (with --threads=1, which spins at no barrier)",
    )
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--seconds", type=float, default=30, help="of runs a row, about")
    parser.add_argument("--max_runs", type=int, default=15)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(*args.serve.split(":"), args.scratch, int(args.threads), args.device)
        return
    if not args.forward.exists():
        raise SystemExit(f"{args.forward} is missing: bazel build -c opt //models:forward")
    args.scratch.mkdir(parents=True, exist_ok=True)
    make_models(args.scratch)
    make_inputs(args.scratch)
    import diffusers
    import torch
    import transformers

    before = os.getloadavg()[0]
    rows = []
    counts = [int(n) for n in args.threads.split(",") if n] or sorted({1, os.cpu_count()})
    for case, dtype, threads in itertools.product(
        args.cases.split(","), args.dtypes.split(","), counts
    ):
        if dtype == "bf16" and args.device == "cpu" and not has_bf16():
            print(f"{case}: this CPU has no bf16", file=sys.stderr)
            continue
        rows.append(compare(case, dtype, threads, args))
        print(f"{case} {dtype} {threads}: {rows[-1]['ratio']:.2f}", file=sys.stderr)
    facts = {
        "cpu": cpu_name(),
        "device": args.device,
        "cores": os.cpu_count(),
        "clock": args.clock,
        "load_average": [before, os.getloadavg()[0]],
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    table = render(rows, facts)
    print(table, end="")
    if args.out:
        args.out.write_text("# Speed and memory\n\n" + table)
        args.out.with_suffix(".json").write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
