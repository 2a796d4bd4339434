#!/usr/bin/env python3
"""Gradient steps a second of unlearn_diff_atk against a plain PyTorch loop of the same search.

Both sides work on the weights of models/emoji with one thread, float32: a prefix of five tokens
before one prompt, the denoising loss of the weights (no hooks), a straight-through gradient, Adam
and the projection on the simplex; after 20 steps a try, a picture in eight steps of DPM-Solver++
with guidance. Excise does so for one prompt and for several in lanes
(//attacks:unlearn_diff_atk_benchmark); the loop does so for one prompt, as the published attack
does. They take turns, ours, theirs, ours, ..., so that a machine that is busy for a while is busy
for both; a row is a median over rounds of processor time. Prints a Markdown table; with --out it
replaces that table in the file, or appends it.

    bazel build //attacks:unlearn_diff_atk_benchmark
    python tools/compare_attack_speed.py --out=results/quality/speed.md

For developers; needs torch, diffusers, transformers and safetensors (made with torch 2.11.0,
diffusers 0.42.1, transformers 5.24.0). About four minutes.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = pathlib.Path(__file__).resolve().parent.parent
EMOJI = ROOT / "models" / "emoji"
TEXT = "a photo of a poodle on a red background"
PREFIX, TIMESTEPS, ITERATIONS = 5, 2, 20
TITLE = "| search of unlearn_diff_atk"


class PlainLoop:
    """The search for one prompt, as a PyTorch user writes it down."""

    def __init__(self):
        import torch
        from diffusers import (
            AutoencoderKL,
            DDIMScheduler,
            DPMSolverMultistepScheduler,
            UNet2DConditionModel,
        )
        from transformers import CLIPTextModel, CLIPTokenizer

        torch.set_num_threads(1)
        torch.manual_seed(1)
        self.torch = torch
        self.tokenizer = CLIPTokenizer.from_pretrained(EMOJI / "tokenizer")
        wide = torch.float32  # stored in half precision
        self.text = CLIPTextModel.from_pretrained(EMOJI / "text_encoder", dtype=wide).eval()
        self.unet = UNet2DConditionModel.from_pretrained(EMOJI / "unet", torch_dtype=wide).eval()
        self.vae = AutoencoderKL.from_pretrained(EMOJI / "vae", torch_dtype=wide).eval()
        for model in (self.text, self.unet, self.vae):
            model.requires_grad_(False)
        self.noising = DDIMScheduler.from_pretrained(EMOJI / "scheduler")
        self.sampler = DPMSolverMultistepScheduler.from_config(self.noising.config)
        self.embedding = self.text.get_input_embeddings()
        self.context = self.text.config.max_position_embeddings
        special = {
            self.tokenizer.bos_token_id,
            self.tokenizer.eos_token_id,
            self.tokenizer.pad_token_id,
        }
        self.usable = torch.tensor([i for i in range(len(self.tokenizer)) if i not in special])
        self.table = self.embedding.weight[self.usable]
        self.own = self.tokenizer(TEXT, add_special_tokens=False)["input_ids"]

    def framed(self, ids):
        ids = [self.tokenizer.bos_token_id, *ids, self.tokenizer.eos_token_id]
        padding = [self.tokenizer.pad_token_id] * (self.context - len(ids))
        return self.torch.tensor([ids + padding])

    def states(self, ids, embeddings=None):
        if embeddings is None:
            return self.text(input_ids=ids).last_hidden_state
        handle = self.embedding.register_forward_hook(lambda *_: embeddings)
        try:
            return self.text(input_ids=ids).last_hidden_state
        finally:
            handle.remove()

    def project(self, x):
        """Euclidean projection on the simplex by sorting (Duchi et al., ICML 2008)."""
        torch = self.torch
        u, _ = torch.sort(x, dim=-1, descending=True)
        css = u.cumsum(-1) - 1
        k = torch.arange(1, x.shape[-1] + 1)
        rho = ((u - css / k) > 0).sum(-1, keepdim=True)
        return (x - css.gather(-1, rho - 1) / rho).clamp_min(0)

    def step(self, distribution, optimizer, x0, timestep):
        torch = self.torch
        drawn = torch.multinomial(distribution.detach(), 1)[:, 0]
        one_hot = torch.nn.functional.one_hot(drawn, len(self.usable)).float().requires_grad_()
        ids = self.framed([*self.usable[drawn].tolist(), *self.own])
        rest = self.embedding.weight[ids[0]]
        embeddings = torch.cat([rest[:1], one_hot @ self.table, rest[1 + PREFIX :]])[None]
        noise = torch.randn_like(x0)
        t = torch.tensor([timestep])
        x_t = self.noising.add_noise(x0, noise, t)
        predicted = self.unet(x_t, t, self.states(ids, embeddings)).sample
        loss = torch.nn.functional.mse_loss(predicted, noise)
        (gradient,) = torch.autograd.grad(loss, [one_hot])
        distribution.grad = torch.nn.functional.hardtanh(gradient)
        optimizer.step()
        with torch.no_grad():
            distribution.copy_(self.project(distribution))

    def draw(self, ids):
        torch = self.torch
        with torch.no_grad():
            states = torch.cat([self.states(self.framed([])), self.states(ids)])
            self.sampler.set_timesteps(8)
            x = torch.randn(1, 4, 8, 8) * self.sampler.init_noise_sigma
            for t in self.sampler.timesteps:
                empty, text = self.unet(torch.cat([x, x]), t, states).sample.chunk(2)
                x = self.sampler.step(empty + 3 * (text - empty), t, x).prev_sample
            return self.vae.decode(x / self.vae.config.scaling_factor).sample

    def search(self, queries):
        """Seconds of processor time."""
        torch = self.torch
        start = time.process_time()
        with torch.no_grad():
            picture = torch.zeros(1, 3, 64, 64)
            x0 = self.vae.encode(picture).latent_dist.mean * self.vae.config.scaling_factor
        distribution = torch.full((PREFIX, len(self.usable)), 1 / len(self.usable))
        distribution.requires_grad_()
        optimizer = torch.optim.Adam([distribution], lr=0.1, weight_decay=0.1)
        if queries:
            self.draw(self.framed(self.own))
        for j in range(TIMESTEPS):
            for _ in range(ITERATIONS):
                self.step(distribution, optimizer, x0, (2 * j + 1) * 1000 // (2 * TIMESTEPS))
            best = self.usable[distribution.argmax(1)].tolist()
            if queries:
                self.draw(self.framed([*best, *self.own]))
        return time.process_time() - start


def ours(binary, lanes, queries):
    """Seconds of processor time of a search in every lane."""
    done = subprocess.run(
        [
            str(binary),
            f"--benchmark_filter=lanes:{lanes}/queries:{int(queries)}$",
            "--benchmark_format=json",
            "--benchmark_min_time=0.5",
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout)["benchmarks"][0]["cpu_time"] / 1000


def machine():
    facts = pathlib.Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.*)", facts).group(1)
    vectors = "AVX-512" if "avx512f" in facts else "AVX2"
    return f"{name} ({os.cpu_count()} cores, {vectors})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--benchmark",
        type=pathlib.Path,
        default=ROOT / "bazel-bin/attacks/unlearn_diff_atk_benchmark",
    )
    parser.add_argument("--lanes", default="1,10")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()

    import diffusers
    import torch
    import transformers

    loop, steps = PlainLoop(), TIMESTEPS * ITERATIONS
    lanes = [int(n) for n in args.lanes.split(",")]
    before, rows = os.getloadavg()[0], []
    for queries in (False, True):
        loop.search(queries)  # warms it
        rates = {n: [] for n in [*lanes, "theirs"]}
        for i in range(args.rounds):
            turns = list(rates)
            for side in turns if i % 2 == 0 else reversed(turns):
                if side == "theirs":
                    rates[side].append(steps / loop.search(queries))
                else:
                    rates[side].append(side * steps / ours(args.benchmark, side, queries))
        rate = {side: statistics.median(values) for side, values in rates.items()}
        what = "a try every 20 steps" if queries else "no tries"
        for n in lanes:
            rows.append(
                f"| {what} | {n} | {rate[n]:.1f} | {rate['theirs']:.1f} "
                f"| {rate[n] / rate['theirs']:.2f} | {rate[n] / rate[lanes[0]]:.2f} |"
            )
    table = "\n".join(
        [
            TITLE + " | prompts in a pass | Excise steps/s | PyTorch steps/s | Excise/PyTorch "
            f"| against {lanes[0]} |",
            "|:--|--:|--:|--:|--:|--:|",
            *rows,
            "",
            f"Gradient steps a second over all prompts; the loop in PyTorch takes one prompt at a "
            f"time. Medians of {args.rounds} alternating rounds, processor time of one thread, "
            f"float32. {machine()}, load average {before:.1f} before and {os.getloadavg()[0]:.1f} "
            f"after; torch {torch.__version__}, diffusers {diffusers.__version__}, transformers "
            f"{transformers.__version__}; {datetime.date.today()}; tools/compare_attack_speed.py.",
        ]
    )
    print(table)
    if args.out:
        text = args.out.read_text() if args.out.exists() else ""
        old = re.compile(re.escape(TITLE) + r".*?tools/compare_attack_speed\.py\.\n", re.DOTALL)
        kept = old.sub("", text).rstrip("\n")
        args.out.write_text(f"{kept}\n\n{table}\n".lstrip("\n"))


if __name__ == "__main__":
    main()
