#!/usr/bin/env python3
"""Writes tests/fixtures/samplers/: whole loops of diffusers' schedulers on a small formula in the
place of a U-Net, for every sampler and option that Excise reads from scheduler_config.json. Run by
hand, in the environment of make_fixtures.py (torch 2.11.0, diffusers 0.42.1, transformers 5.23.0):

    HF_HUB_OFFLINE=1 /tmp/venv/bin/python tools/make_sampler_fixtures.py

cases.json lists {file: scheduler_config.json, scheduler: the sampler that is put in its place or "",
steps, eta, timesteps, init_noise_sigma}; loops.safetensors holds `latents`, where every loop begins,
and for case i "<i>.middle" and "<i>.final", the latents half-way and at the end. Noise that a
sampler adds is torch's CPU generator with seed 7.
"""

import itertools
import json
import logging
import shutil
import warnings
from pathlib import Path

import diffusers
import torch
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "samplers"
SEED = 7
CLASSES = {"ddim": "DDIMScheduler", "ddpm": "DDPMScheduler", "pndm": "PNDMScheduler",
           "lms": "LMSDiscreteScheduler", "euler": "EulerDiscreteScheduler",
           "euler_ancestral": "EulerAncestralDiscreteScheduler",
           "dpmsolver": "DPMSolverMultistepScheduler"}
SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
# scheduler_config.json of Stable Diffusion 1.4 and 2.1 as on the hub, and one that says little.
SD14 = dict(SD, _class_name="PNDMScheduler", num_train_timesteps=1000, set_alpha_to_one=False,
            skip_prk_steps=True, trained_betas=None, clip_sample=False)
SD21 = dict(SD, _class_name="DDIMScheduler", num_train_timesteps=1000, set_alpha_to_one=False,
            skip_prk_steps=True, trained_betas=None, clip_sample=False,
            prediction_type="v_prediction")
BARE = dict(_class_name="EulerDiscreteScheduler", beta_schedule="scaled_linear")
DREAM = dict(SD, _class_name="DPMSolverMultistepScheduler", algorithm_type="dpmsolver++",
             solver_type="midpoint", solver_order=2, use_karras_sigmas=True, clip_sample=False,
             lower_order_final=True, thresholding=False, timestep_spacing="leading")
FLAWED = dict(SD, _class_name="DDIMScheduler", steps_offset=0, clip_sample=True,
              timestep_spacing="trailing", rescale_betas_zero_snr=True,
              prediction_type="v_prediction")


def model(x, t):
    """Smooth, different at every place and time, and tame enough not to amplify rounding."""
    return 0.6 * torch.tanh(x) + 0.3 * torch.sin(2 * x + float(t) / 300)


def cases():
    """(file, sampler put in its place, steps, eta)"""
    def own(name, steps=12, eta=0.0, **options):
        return dict(SD, _class_name=CLASSES[name], **options), "", steps, eta

    for name in CLASSES:
        skip = {"skip_prk_steps": True} if name == "pndm" else {}
        few = name in ("pndm", "euler_ancestral")
        for spacing, prediction in itertools.product(
                ["leading", "trailing", "linspace"],
                ["epsilon", "v_prediction"] + ([] if few else ["sample"])):
            yield own(name, timestep_spacing=spacing, prediction_type=prediction, **skip)
        for steps in (1, 2, 3, 5, 20, 48):
            if steps > 1 or name != "pndm":
                yield own(name, steps=steps, **skip)
        for schedule in ("linear", "squaredcos_cap_v2"):
            yield (dict(_class_name=CLASSES[name], beta_schedule=schedule, steps_offset=1,
                        clip_sample=False, **skip), "", 10, 0.0)
        if name not in ("pndm", "lms"):
            yield own(name, timestep_spacing="trailing", prediction_type="v_prediction",
                      rescale_betas_zero_snr=True)
        for file in (SD14, SD21, BARE, DREAM, FLAWED):
            yield file, name, 12, 0.0
    for file in (SD14, SD21, BARE, DREAM, FLAWED):
        yield file, "", 12, 0.0
    yield own("pndm", skip_prk_steps=False)
    yield own("pndm", skip_prk_steps=False, timestep_spacing="linspace", set_alpha_to_one=True)
    for eta in (0.4, 1.0):
        yield own("ddim", eta=eta, set_alpha_to_one=False, prediction_type="v_prediction")
        yield own("ddim", eta=eta, set_alpha_to_one=True)
    for name in ("ddim", "ddpm"):
        # Clipping as from_config leaves it, which the pipeline does not undo.
        yield dict(BARE, clip_sample_range=0.8), name, 12, 0.0
        yield own(name, thresholding=True, sample_max_value=1.5, dynamic_thresholding_ratio=0.9)
    for kind in ("fixed_small_log", "fixed_large"):
        yield own("ddpm", variance_type=kind)
    for name in ("lms", "euler", "dpmsolver"):
        for kind in ("karras", "exponential"):
            for steps in (6, 25):
                yield own(name, steps=steps, **{f"use_{kind}_sigmas": True})
    yield own("euler", use_karras_sigmas=True, sigma_min=0.1, sigma_max=9.0)
    yield own("euler", final_sigmas_type="sigma_min")
    for order, kind, algorithm, steps in itertools.product(
            (1, 2, 3), ("midpoint", "heun"), ("dpmsolver++", "sde-dpmsolver++"), (8, 20)):
        yield own("dpmsolver", steps=steps, solver_order=order, solver_type=kind,
                  algorithm_type=algorithm)
    yield own("dpmsolver", solver_order=3, lower_order_final=False, final_sigmas_type="sigma_min")
    yield own("dpmsolver", steps=20, euler_at_final=True, final_sigmas_type="sigma_min")
    yield own("dpmsolver", solver_type="bh2")
    yield own("dpmsolver", thresholding=True, sample_max_value=1.5)
    for spacing in ("leading", "trailing", "linspace"):
        yield dict(_class_name=CLASSES["dpmsolver"], beta_schedule="squaredcos_cap_v2",
                   lambda_min_clipped=-5.1, steps_offset=1, timestep_spacing=spacing), "", 12, 0.0
    yield (dict(_class_name=CLASSES["dpmsolver"], beta_schedule="squaredcos_cap_v2",
                use_karras_sigmas=True, steps_offset=1), "", 12, 0.0)


def make_scheduler(file, replacement):
    """As a user gets it: from the snapshot through the pipeline, then, perhaps, replaced."""
    own = getattr(diffusers, file["_class_name"]).from_config(file)
    pipe = diffusers.StableDiffusionPipeline(
        vae=None, text_encoder=None, tokenizer=None, unet=None, scheduler=own, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False)
    if not replacement:
        return pipe.scheduler
    return getattr(diffusers, CLASSES[replacement]).from_config(pipe.scheduler.config)


def loop(scheduler, latents, steps, eta):
    generator = torch.Generator("cpu").manual_seed(SEED)
    scheduler.set_timesteps(steps)
    x = latents * scheduler.init_noise_sigma
    middle = None
    for i, t in enumerate(scheduler.timesteps):
        if i == len(scheduler.timesteps) // 2:
            middle = x.clone()
        arguments = {}
        if isinstance(scheduler, diffusers.DDIMScheduler):
            arguments = {"eta": eta, "generator": generator}
        elif not isinstance(scheduler, (diffusers.PNDMScheduler, diffusers.LMSDiscreteScheduler)):
            arguments = {"generator": generator}
        seen = scheduler.scale_model_input(x, t)
        x = scheduler.step(model(seen, t), t, x, **arguments).prev_sample
    return middle, x


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    latents = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(500))
    tensors, entries = {"latents": latents}, []
    for file, replacement, steps, eta in cases():
        scheduler = make_scheduler(file, replacement)
        try:
            middle, final = loop(scheduler, latents, steps, eta)
        except IndexError as error:
            # Truncated timesteps that repeat make diffusers begin at its second level.
            print("diffusers fails:", error, file, replacement, steps)
            continue
        assert torch.isfinite(final).all(), (file, replacement, steps)
        tensors[f"{len(entries)}.middle"] = middle.contiguous()
        tensors[f"{len(entries)}.final"] = final.contiguous()
        entries.append({"file": file, "scheduler": replacement, "steps": steps, "eta": eta,
                        "timesteps": scheduler.timesteps.double().tolist(),
                        "init_noise_sigma": float(scheduler.init_noise_sigma)})
    (ROOT / "cases.json").write_text(
        "[\n" + ",\n".join(json.dumps(entry) for entry in entries) + "\n]\n")
    save_file(tensors, ROOT / "loops.safetensors")
    size = sum(f.stat().st_size for f in ROOT.iterdir())
    print(f"{ROOT}: {len(entries)} cases, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
