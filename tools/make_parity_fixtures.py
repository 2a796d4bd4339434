#!/usr/bin/env python3
"""Adds to tests/fixtures/ what the two pipelines of make_fixtures.py do not cover: other layouts of
CLIP, U-Net and VAE, sharded and half-precision files, sizes that no power of two divides, and whole
12-step runs of diffusers' StableDiffusionPipeline. Run by hand after make_fixtures.py, in the same
environment (torch 2.11.0, transformers 5.23.0, diffusers 0.42.1):

    HF_HUB_OFFLINE=1 /tmp/venv/bin/python tools/make_parity_fixtures.py
"""

import json
import logging
import shutil
import warnings

import diffusers
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import (CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel,
                          CLIPTextModelWithProjection, CLIPTokenizer)

from make_fixtures import (MAX_LENGTH, ROOT, hub_names, randomize, save_model, save_tensors,
                           write_json, write_tokenizer)
from make_sampler_fixtures import CLASSES

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
torch.set_num_threads(1)
torch.set_grad_enabled(False)

PROMPT = "a picture of a poodle on a red background"
NEGATIVE = "a blue dog"


def fresh(name):
    folder = ROOT / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def shard(folder, stem):
    """One file of weights as two, with the index that libraries write."""
    from safetensors.torch import load_file, save_file
    state = load_file(folder / f"{stem}.safetensors")
    names = sorted(state)
    parts = [names[::2], names[1::2]]
    index = {}
    for i, part in enumerate(parts):
        file = f"{stem}-{i + 1:05}-of-{len(parts):05}.safetensors"
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        index.update({name: file for name in part})
    size = sum(t.numel() * t.element_size() for t in state.values())
    write_json(folder / f"{stem}.safetensors.index.json",
               {"metadata": {"total_size": size}, "weight_map": index})
    (folder / f"{stem}.safetensors").unlink()


def text_rows(start, end):
    rows = [[start, 20, 9, 7, end], [start, end], [start] + list(range(10, 24)) + [end]]
    return torch.tensor([row + [end] * (MAX_LENGTH - len(row)) for row in rows])


def make_clip_sharded():
    """gelu, end id 2 (old configs), sharded; another depth and width in each tower."""
    folder, end = fresh("clip_sharded"), 63
    model = randomize(CLIPModel(CLIPConfig(
        text_config=dict(vocab_size=64, hidden_size=12, intermediate_size=20, num_hidden_layers=3,
                         num_attention_heads=3, max_position_embeddings=MAX_LENGTH,
                         hidden_act="quick_gelu", bos_token_id=62, eos_token_id=2, pad_token_id=1,
                         projection_dim=10, layer_norm_eps=1e-6),
        vision_config=dict(hidden_size=20, intermediate_size=28, num_hidden_layers=1,
                           num_attention_heads=5, image_size=15, patch_size=5, hidden_act="gelu",
                           projection_dim=10),
        projection_dim=10)), 600)
    save_model(model, folder, "model", rename=hub_names)
    shard(folder, "model")
    ids = text_rows(62, end)
    pixels = torch.randn(2, 3, 15, 15, generator=torch.Generator().manual_seed(601))
    text, vision = model.text_model(input_ids=ids), model.vision_model(pixel_values=pixels)
    save_tensors(folder / "inputs.safetensors", {"input_ids": ids, "pixel_values": pixels})
    save_tensors(folder / "expected.safetensors", {
        "text.last_hidden_state": text.last_hidden_state,
        "text.pooler_output": text.pooler_output,
        "text.text_embeds": model.text_projection(text.pooler_output),
        "vision.last_hidden_state": vision.last_hidden_state,
        "vision.pooler_output": vision.pooler_output,
        "vision.image_embeds": model.visual_projection(vision.pooler_output)})


def make_clip_text_only():
    """A text model with a projection, as transformers 5 itself saves it."""
    folder, end = fresh("clip_text_only"), 63
    model = randomize(CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=66, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=MAX_LENGTH, hidden_act="gelu",
        bos_token_id=62, eos_token_id=end, pad_token_id=0, projection_dim=6)), 610)
    model.save_pretrained(folder)
    ids = text_rows(62, end)
    ids[0, 2] = 65  # larger than the end id: the pooled position is not the largest id's
    out = model(ids)
    save_tensors(folder / "inputs.safetensors", {"input_ids": ids})
    save_tensors(folder / "expected.safetensors", {"text.last_hidden_state": out.last_hidden_state,
                                                   "text.text_embeds": out.text_embeds})


def unet_case(unet, folder, batch, height, width, cross, timestep, seed):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(batch, 4, height, width, generator=generator)
    states = torch.randn(batch, 5, cross, generator=generator)
    out = unet(sample, timestep, encoder_hidden_states=states).sample
    save_tensors(folder / "inputs.safetensors", {
        "sample": sample, "timestep": timestep, "encoder_hidden_states": states})
    save_tensors(folder / "expected.safetensors", {"sample": out})


def make_unet_plain():
    """Blocks without attention first and in the middle of the way, sines first, other epsilons, one
    resnet a block, a size that halves unevenly, a timestep with a fraction, fp16 on disk."""
    folder = fresh("unet_plain")
    unet = randomize(UNet2DConditionModel(
        sample_size=12, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        block_out_channels=[8, 16, 12], layers_per_block=1, attention_head_dim=4,
        norm_num_groups=4, norm_eps=1e-6, cross_attention_dim=6, flip_sin_to_cos=False,
        freq_shift=1), 620)
    save_model(unet, folder, "diffusion_pytorch_model", half=True)
    unet_case(unet, folder, 3, 5, 11, 6, torch.tensor([978.61224, 0.0, 1.0]), 621)


def make_vae_three_levels():
    folder = fresh("vae_three_levels")
    vae = randomize(AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[4, 8, 4], layers_per_block=2, latent_channels=4, norm_num_groups=4,
        sample_size=32, scaling_factor=0.13025), 630)
    save_model(vae, folder, "diffusion_pytorch_model", half=True)
    generator = torch.Generator().manual_seed(631)
    images = torch.rand(2, 3, 20, 12, generator=generator) * 2 - 1
    latents = torch.randn(2, 4, 5, 3, generator=generator)
    moments = vae.encode(images).latent_dist
    save_tensors(folder / "inputs.safetensors", {"images": images, "latents": latents})
    save_tensors(folder / "expected.safetensors", {
        "mean": moments.mean, "logvar": moments.logvar, "image": vae.decode(latents).sample})


def make_zero_snr_pipeline():
    """Trailing steps to zero terminal SNR with DPM-Solver++ and v prediction; two resnets and two
    transformer layers a block, heads a level, linear projections, upcast attention, sharded."""
    folder = fresh("sd_zero_snr")
    tokens = json.loads((ROOT / "sd2/tokenizer/vocab.json").read_text())
    lines = (ROOT / "sd2/tokenizer/merges.txt").read_text().splitlines()[1:]
    write_tokenizer(folder / "tokenizer", sorted(tokens, key=tokens.get),
                    [tuple(line.split(" ")) for line in lines], "!")
    end = len(tokens) - 1
    text = randomize(CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=8, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=MAX_LENGTH, hidden_act="gelu",
        bos_token_id=end - 1, eos_token_id=end, pad_token_id=0)), 640)
    unet = randomize(UNet2DConditionModel(
        sample_size=8, down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                         "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        block_out_channels=[8, 8, 12], layers_per_block=2, attention_head_dim=[1, 2, 4],
        transformer_layers_per_block=2, norm_num_groups=2, cross_attention_dim=8,
        use_linear_projection=True, upcast_attention=True), 641)
    vae = randomize(AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[4, 4, 4, 8], layers_per_block=1, latent_channels=4, norm_num_groups=2,
        sample_size=64), 642)
    scheduler = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True)
    save_model(text, folder / "text_encoder", "model", rename=hub_names)
    save_model(unet, folder / "unet", "diffusion_pytorch_model", half=True)
    shard(folder / "unet", "diffusion_pytorch_model")
    save_model(vae, folder / "vae", "diffusion_pytorch_model", half=True)
    scheduler.save_pretrained(folder / "scheduler")
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": [None, None], "feature_extractor": [None, None]}, indent=2)
    unet_case(unet, folder / "unet", 2, 7, 9, 8, torch.tensor([999, 1]), 643)


def pipeline_runs():
    """12 steps of the committed folders as diffusers runs them, with every sampler."""
    tensors = {}
    for name, guidance, height, width in (("sd1", 7.5, 64, 64), ("sd2", 3.0, 64, 64),
                                          ("sd_zero_snr", 2.0, 56, 72)):
        folder = ROOT / name
        parts = dict(
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder",
                                                       dtype=torch.float32),
            unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
            vae=AutoencoderKL.from_pretrained(folder / "vae"))
        own = json.loads((folder / "scheduler/scheduler_config.json").read_text())
        latents = torch.randn(1, 4, height // 8, width // 8,
                              generator=torch.Generator().manual_seed(650))
        tensors[f"{name}.latents"] = latents
        for scheduler in ["", *CLASSES]:
            pipe = diffusers.StableDiffusionPipeline(
                **{key: part.float() if hasattr(part, "float") else part
                   for key, part in parts.items()},
                scheduler=getattr(diffusers, own["_class_name"]).from_pretrained(
                    folder / "scheduler"),
                safety_checker=None, feature_extractor=None, requires_safety_checker=False)
            pipe.set_progress_bar_config(disable=True)
            if scheduler:
                pipe.scheduler = getattr(diffusers, CLASSES[scheduler]).from_config(
                    pipe.scheduler.config)
            arguments = dict(prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=12,
                             guidance_scale=guidance, height=height, width=width)
            given = dict(latents=latents.clone(), generator=torch.Generator().manual_seed(651))
            key = f"{name}.{scheduler or 'own'}"
            tensors[f"{key}.final"] = pipe(**arguments, **given, output_type="latent").images
            if not scheduler or scheduler == "euler_ancestral" and name == "sd1":
                # The ancestral run draws its first latents as well.
                if scheduler:
                    given = dict(generator=torch.Generator("cpu").manual_seed(652))
                image = pipe(**arguments, **given, output_type="np").images
                tensors[f"{key}.image"] = torch.as_tensor(image).permute(0, 3, 1, 2)
    save_tensors(ROOT / "pipelines.safetensors", tensors)


def main():
    make_clip_sharded()
    make_clip_text_only()
    make_unet_plain()
    make_vae_three_levels()
    make_zero_snr_pipeline()
    pipeline_runs()
    size = sum(f.stat().st_size for f in ROOT.rglob("*") if f.is_file())
    print(f"{ROOT}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
