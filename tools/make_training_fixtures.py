#!/usr/bin/env python3
"""Writes tests/fixtures/training.safetensors: what torch's optimisers, torch's losses and diffusers'
training targets give on small fixed problems. Run by hand, as tools/make_fixtures.py (torch 2.11.0,
diffusers 0.42.1, safetensors); nothing at run or test time needs Python.

Names: "problem.*" and "losses.*" are inputs; "<optimiser case>.<tensor>" has one row a step.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "training.safetensors"
STEPS = 5
CASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, foreach=False),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01,
                                              foreach=False),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1,
                                       foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1,
                                         foreach=False),
    # Gradients clipped to a norm that they exceed at every step.
    "adamw_clip": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0, eps=1e-3,
                                              foreach=False),
}
CLIP_NORM = 0.05


def optimisers(tensors, generator):
    x, y = torch.randn(8, 3, generator=generator), torch.randn(8, 4, generator=generator)
    weight, bias = torch.randn(4, 3, generator=generator), torch.randn(4, generator=generator)
    tensors.update({"problem.x": x, "problem.y": y, "problem.weight": weight, "problem.bias": bias})
    for name, make in CASES.items():
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        optimiser = make([w, b])
        rows = {"weight": [], "bias": [], "loss": []}
        for _ in range(STEPS):
            optimiser.zero_grad()
            loss = F.mse_loss(F.linear(x, w, b), y)
            loss.backward()
            if name == "adamw_clip":
                assert torch.nn.utils.clip_grad_norm_([w, b], CLIP_NORM) > CLIP_NORM
            optimiser.step()
            for key, value in (("weight", w), ("bias", b), ("loss", loss)):
                rows[key].append(value.detach().clone())
        tensors.update({f"{name}.{key}": torch.stack(value) for key, value in rows.items()})


def losses(tensors, generator):
    image, text = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    scale = torch.tensor(7.5)
    logits = scale * F.normalize(image) @ F.normalize(text).T
    labels = torch.arange(6)
    mean, logvar = torch.randn(3, 4, 2, 2, generator=generator), torch.randn(3, 4, 2, 2,
                                                                             generator=generator)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(mean, (0.5 * logvar).exp()), normal(0.0, 1.0))
    tensors.update({
        "losses.image": image, "losses.text": text, "losses.scale": scale, "losses.mean": mean,
        "losses.logvar": logvar,
        "losses.contrastive": 0.5 * (F.cross_entropy(logits, labels) +
                                     F.cross_entropy(logits.T, labels)),
        "losses.cosine": 1 - F.cosine_similarity(image, text),
        "losses.kl": kl.sum((1, 2, 3)),
        "losses.smoothed": F.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1),
    })


def diffusion(tensors, generator):
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    x0, noise = torch.randn(4, 4, 2, 2, generator=generator), torch.randn(4, 4, 2, 2,
                                                                          generator=generator)
    timesteps = torch.tensor([0, 10, 500, 999])
    tensors.update({
        "diffusion.x0": x0, "diffusion.noise": noise, "diffusion.timesteps": timesteps,
        "diffusion.velocity": scheduler.get_velocity(x0, noise, timesteps),
        "diffusion.snr": compute_snr(scheduler, timesteps),
    })


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(7)
    tensors = {}
    optimisers(tensors, generator)
    losses(tensors, generator)
    diffusion(tensors, generator)
    save_file({key: value.contiguous() for key, value in tensors.items()}, OUT,
              {"made_by": f"tools/make_training_fixtures.py, torch {torch.__version__}"})
    OUT.chmod(0o644)


if __name__ == "__main__":
    main()
