#!/usr/bin/env python3
"""Draws the same pictures with diffusers and with //models:sample, from the same latents, and
compares them on [0, 1]. For developers; run by hand in a virtual environment:

    python -m venv /tmp/venv && /tmp/venv/bin/pip install \
        torch==2.11.0 transformers==5.23.0 diffusers==0.42.1 safetensors
    bazel build //models:sample
    HF_HUB_OFFLINE=1 /tmp/venv/bin/python tools/compare_diffusers.py bazel-bin/models/sample

Exits 1 if a pixel differs by more than --tolerance.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

PROMPTS = ["a picture of a poodle on a red background", "Santa Claus", "a tropical fish"]


def load_pipeline(folder):
    """In float32 whatever is on disk, as Excise computes; DDIM as --scheduler=ddim asks for."""
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False)
    pipe = StableDiffusionPipeline(
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32),
        vae=AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32),
        scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw_with_sample(binary, folder, prompt, latents, steps, guidance):
    with tempfile.TemporaryDirectory() as scratch:
        given, out = Path(scratch) / "latents.safetensors", Path(scratch) / "image.safetensors"
        save_file({"latents": latents}, given)
        subprocess.run(
            [binary, f"--model={folder}", f"--prompt={prompt}", f"--steps={steps}",
             f"--guidance={guidance}", "--scheduler=ddim", f"--latents={given}", f"--out={out}"],
            check=True)
        return load_file(out)["image"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("binary", type=Path, help="the program //models:sample")
    parser.add_argument("--model", type=Path, default=Path("models/emoji"))
    parser.add_argument("--prompt", action="append", help="may be given several times")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=1e-2)
    options = parser.parse_args()

    pipe = load_pipeline(options.model)
    size = pipe.unet.config.sample_size
    generator = torch.Generator().manual_seed(options.seed)
    worst = 0.0
    for prompt in options.prompt or PROMPTS:
        latents = torch.randn(1, pipe.unet.config.in_channels, size, size, generator=generator)
        with torch.no_grad():
            theirs = pipe(prompt, num_inference_steps=options.steps,
                          guidance_scale=options.guidance, latents=latents.clone(),
                          height=size * pipe.vae_scale_factor, width=size * pipe.vae_scale_factor,
                          output_type="pt").images
        ours = draw_with_sample(options.binary.resolve(), options.model.resolve(), prompt, latents,
                                options.steps, options.guidance)
        if ours.shape != theirs.shape:
            sys.exit(f"{prompt!r}: shapes {tuple(ours.shape)} and {tuple(theirs.shape)} differ")
        difference = (ours - theirs).abs()
        worst = max(worst, difference.max().item())
        print(f"max |difference| {difference.max():.2e}, mean {difference.mean():.2e}, "
              f"picture {theirs.min():.2f} to {theirs.max():.2f}: {prompt}")
    if not worst <= options.tolerance:
        sys.exit(f"FAILED: {worst:.2e} is above {options.tolerance:.0e}")
    print(f"ok: at most {worst:.2e}")


if __name__ == "__main__":
    main()
