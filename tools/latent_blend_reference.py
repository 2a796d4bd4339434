"""Writes tests/fixtures/latent_blend.safetensors: latents of runs with two streams, by diffusers on
the fixture pipeline tests/fixtures/sd1, with the equation spelled out step by step.

  python tools/latent_blend_reference.py tests/fixtures

Every run starts from `latents`; prompts are rows of `prompt_states`, the safe embedding is
`safe_states`, both under guidance 3 against `empty_states`. Names say what was done:
<streams>_<what is summed>_<w>_<tau_gc>[_schedule][_renormalised].

Made with torch 2.11.0, diffusers 0.42.1 and safetensors 0.8.0, in double precision.
"""

import json
import math
import pathlib
import sys

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file

STEPS, GUIDANCE = 6, 3.0


def deviation(x):
    return x.std(dim=(1, 2, 3), correction=0, keepdim=True)


def blend(u, s, w, renormalise):
    mixed = (1 - w) * u + w * s
    if not renormalise:
        return mixed
    mean = mixed.mean(dim=(1, 2, 3), keepdim=True)
    wanted = (1 - w) * deviation(u) + w * deviation(s)
    return mean + (mixed - mean) * wanted / deviation(mixed)


def weight(w, schedule, i, n):
    if schedule == "linear":
        return w * (i + 1) / n
    if schedule == "cosine":
        return w * (1 - math.cos(math.pi * (i + 1) / n)) / 2
    return w


class Run:
    def __init__(self, folder):
        self.unet = UNet2DConditionModel.from_pretrained(folder / "unet").double().eval()
        config = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        self.config = {k: v for k, v in config.items() if not k.startswith("_")}

    def scheduler(self):
        scheduler = DDIMScheduler(
            num_train_timesteps=1000, beta_start=self.config["beta_start"],
            beta_end=self.config["beta_end"], beta_schedule=self.config["beta_schedule"],
            steps_offset=self.config.get("steps_offset", 0), clip_sample=False,
            set_alpha_to_one=False)
        scheduler.set_timesteps(STEPS)
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
        scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
        return scheduler

    def noise(self, x, t, empty, text):
        e = self.unet(x, t, encoder_hidden_states=empty).sample
        c = self.unet(x, t, encoder_hidden_states=text).sample
        return e + GUIDANCE * (c - e)

    @torch.no_grad()
    def sample(self, data, streams, quantity, w, tau, schedule="constant", renormalise=False):
        scheduler = self.scheduler()
        step = lambda eps, t, x: scheduler.step(eps, t, x).prev_sample
        empty, prompt = data["empty_states"].double(), data["prompt_states"].double()
        safe = data["safe_states"].double().expand_as(prompt)
        u = data["latents"].double()
        s = u
        first = round(tau * STEPS)
        for i, t in enumerate(scheduler.timesteps):
            if streams == "coupled":
                s = u  # both start every step from one latent
            eps_u, eps_s = self.noise(u, t, empty, prompt), self.noise(s, t, empty, safe)
            next_s = step(eps_s, t, s)
            if i < first:
                next_u = step(eps_u, t, u)
            else:
                now = weight(w, schedule, i - first, STEPS - first)
                alpha = scheduler.alphas_cumprod[t] ** 0.5
                sigma = (1 - scheduler.alphas_cumprod[t]) ** 0.5
                if quantity == "latent":
                    next_u = blend(step(eps_u, t, u), next_s, now, renormalise)
                elif quantity == "noise":
                    next_u = step(blend(eps_u, eps_s, now, renormalise), t, u)
                else:
                    x0 = blend((u - sigma * eps_u) / alpha, (s - sigma * eps_s) / alpha, now,
                               renormalise)
                    next_u = step((u - alpha * x0) / sigma, t, u)
            u, s = next_u, next_s
        return u.float().contiguous()


def main():
    out = pathlib.Path(sys.argv[1])
    run = Run(out / "sd1")
    config = run.unet.config
    generator = torch.Generator().manual_seed(17)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    side, width = config.sample_size, config.cross_attention_dim
    data = {"latents": normal(2, 4, side, side), "prompt_states": normal(2, 7, width),
            "empty_states": normal(1, 7, width).repeat(2, 1, 1), "safe_states": normal(1, 7, width)}
    cases = [("coupled", q, 0.4, 0.0) for q in ("latent", "x0", "noise")]
    cases += [("independent", q, 0.4, 0.34) for q in ("latent", "x0", "noise")]
    cases += [("independent", q, 0.6, 0.0, "cosine", True) for q in ("latent", "x0", "noise")]
    cases += [("coupled", q, 0.6, 0.5, "linear", True) for q in ("x0", "noise")]
    result = dict(data)
    for streams, quantity, w, tau, *rest in cases:
        name = f"{streams}_{quantity}_{w}_{tau}" + (f"_{rest[0]}_renormalised" if rest else "")
        result[name] = run.sample(data, streams, quantity, w, tau, *rest)
    save_file(result, out / "latent_blend.safetensors")


if __name__ == "__main__":
    main()
