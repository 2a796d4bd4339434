#!/usr/bin/env python3
"""Writes tests/fixtures/lora/: LoRAs with random weights for the model tests/fixtures/sd1, in the
names that people have, and what diffusers and peft add to the weights when they merge. Run by
hand, in a virtual environment:

    pip install torch==2.11.0 transformers==5.23.0 diffusers==0.42.1 peft==0.21.2 accelerate==1.15.0
    HF_HUB_OFFLINE=1 python tools/make_lora_fixtures.py

The committed files were made with exactly these versions, on the CPU, in float32.
expected.safetensors holds "<file>/<unet|text_encoder>.<tensor>" -> merged minus base.
"""

import shutil
from pathlib import Path

import peft
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel

FIXTURES = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
OUT = FIXTURES / "lora"
SOME = r"(down_blocks\.0|mid_block|up_blocks\.2\.attentions\.1)\..*\."  # keeps the files small
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
ATTENTION_LAYERS = SOME + r"(to_q|to_k|to_v|to_out\.0)"
UNET_LAYERS = SOME + r"(to_q|to_k|to_v|to_out\.0|proj_in|conv1|time_emb_proj)"
TEXT_LAYERS = ["q_proj", "out_proj", "fc1"]
expected = {}


def modules():
    return {"unet": UNet2DConditionModel.from_pretrained(FIXTURES / "sd1" / "unet"),
            "text_encoder": CLIPTextModel.from_pretrained(FIXTURES / "sd1" / "text_encoder",
                                                          dtype=torch.float32)}


def randomise(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)


def enter(case, part, base, merged):
    for name, tensor in base.items():
        if "position_ids" in name:
            continue
        change = merged[name] - tensor
        if change.abs().max() > 0:
            expected[f"{case}/{part}.{name}"] = change.contiguous()


def text_name(name):
    return name if name.startswith("text_model.") else "text_model." + name


def save_peft(case, part, layers, **settings):
    """An adapter as peft saves it, and the weights as peft merges it."""
    model = modules()[part]
    base = {k: v.clone() for k, v in model.state_dict().items()}
    config = peft.LoraConfig(target_modules=layers, **settings)
    adapted = peft.get_peft_model(model, config)
    randomise(adapted, sum(map(ord, case)))
    adapted.save_pretrained(OUT / case)
    (OUT / case / "README.md").unlink(missing_ok=True)
    merged = adapted.merge_and_unload().state_dict()
    if part == "text_encoder":
        base = {text_name(k): v for k, v in base.items()}
        merged = {text_name(k): v for k, v in merged.items()}
    enter(case, part, base, merged)


def adapter_tensors(part, layers, rank, seed):
    """{layer: (down, up)} of a module, from peft."""
    model = modules()[part]
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=layers, r=rank))
    randomise(adapted, seed)
    state = peft.get_peft_model_state_dict(adapted)
    pairs = {}
    for name, tensor in state.items():
        layer = name.removeprefix("base_model.model.").removesuffix(".weight")
        side = 0 if layer.endswith(".lora_A") else 1
        layer = layer.rsplit(".", 1)[0]
        if part == "text_encoder":
            layer = text_name(layer)
        pairs.setdefault(layer, [None, None])[side] = tensor.contiguous()
    return pairs


def check_with_diffusers(case, file, scale=1.0):
    """Loads the file into a pipeline, fuses it and keeps what that changed."""
    pipe = StableDiffusionPipeline.from_pretrained(
        FIXTURES / "sd1", safety_checker=None, feature_extractor=None, image_encoder=None,
        requires_safety_checker=False).to(torch.float32)
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    base = {part: {k: v.clone() for k, v in m.state_dict().items()} for part, m in parts.items()}
    pipe.load_lora_weights(str(OUT), weight_name=file)
    pipe.fuse_lora(lora_scale=scale)
    pipe.unload_lora_weights()
    for part, module in parts.items():
        merged, before = module.state_dict(), base[part]
        if part == "text_encoder":
            merged = {text_name(k): v for k, v in merged.items()}
            before = {text_name(k): v for k, v in before.items()}
        enter(case, part, before, merged)


def diffusers_files():
    unet = adapter_tensors("unet", UNET_LAYERS, 3, 1)
    text = adapter_tensors("text_encoder", TEXT_LAYERS, 2, 2)
    attention = {k: v for k, v in unet.items() if any(k.endswith(a) for a in ATTENTION)}

    # As diffusers saves it today: peft's names, its settings in the metadata.
    save = {f"unet.{k}.lora_{side}.weight": t
            for k, pair in unet.items() for side, t in zip("AB", pair)}
    save |= {f"text_encoder.{k}.lora_{side}.weight": t
             for k, pair in text.items() for side, t in zip("AB", pair)}
    save_file(save, OUT / "diffusers_peft.safetensors", metadata={"format": "pt"})
    check_with_diffusers("diffusers_peft", "diffusers_peft.safetensors", scale=0.7)

    # With alpha in the metadata.
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
    import json
    config = {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": UNET_LAYERS,
              "unet.alpha_pattern": {"conv_in": 1}, "unet.rank_pattern": {},
              "text_encoder.r": 2, "text_encoder.lora_alpha": 1,
              "text_encoder.target_modules": TEXT_LAYERS}
    save_file(save, OUT / "diffusers_metadata.safetensors",
              metadata={"format": "pt", LORA_ADAPTER_METADATA_KEY: json.dumps(config)})
    check_with_diffusers("diffusers_metadata", "diffusers_metadata.safetensors")

    # Attention processors of 2023: save_attn_procs and the pipeline's own names.
    save = {}
    for layer, pair in attention.items():
        stem = layer.removesuffix(".0")
        head, name = stem.rsplit(".", 1)
        for side, tensor in zip(("down", "up"), pair):
            save[f"unet.{head}.processor.{name}_lora.{side}.weight"] = tensor
    for layer, pair in text.items():
        for side, tensor in zip(("down", "up"), pair):
            save[f"text_encoder.{layer}.lora_linear_layer.{side}.weight"] = tensor
    save_file(save, OUT / "attn_processor.safetensors", metadata={"format": "pt"})
    check_with_diffusers("attn_processor", "attn_processor.safetensors")

    # "lora.down" of diffusers 0.20 to 0.25.
    save = {f"unet.{k}.lora.{side}.weight": t
            for k, pair in attention.items() for side, t in zip(("down", "up"), pair)}
    save_file(save, OUT / "lora_down.safetensors", metadata={"format": "pt"})
    check_with_diffusers("lora_down", "lora_down.safetensors")

    # kohya-ss: flat names, an alpha for each layer, 1x1 convolutions and whole ones.
    save = {}
    for prefix, pairs in (("lora_unet_", unet), ("lora_te_", text)):
        for layer, (down, up) in pairs.items():
            stem = prefix + layer.replace(".", "_")
            save[f"{stem}.lora_down.weight"] = down
            save[f"{stem}.lora_up.weight"] = up
            save[f"{stem}.alpha"] = torch.tensor(1.5)
    save_file(save, OUT / "kohya.safetensors", metadata={"ss_network_alpha": "1.5"})
    check_with_diffusers("kohya", "kohya.safetensors")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    save_peft("peft_unet", "unet", UNET_LAYERS, r=3, lora_alpha=5,
              alpha_pattern={"mid_block.attentions.0.proj_in": 7, "conv1": 2})
    save_peft("peft_rslora", "unet", ATTENTION_LAYERS, r=4, lora_alpha=5, use_rslora=True)
    save_peft("peft_text", "text_encoder", TEXT_LAYERS, r=2, lora_alpha=3)
    diffusers_files()
    save_file(expected, OUT / "expected.safetensors")
    cases = {}
    for name in expected:
        cases[name.split("/")[0]] = cases.get(name.split("/")[0], 0) + 1
    print(cases)


main()
