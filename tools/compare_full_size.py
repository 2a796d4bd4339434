"""Full-size models with random weights: Excise's `forward` against diffusers and transformers.

Stable Diffusion 1.4 and 2.1 (U-Net, both halves of the VAE, text encoder) and CLIP ViT-B/32, L/14
and H/14, one after the other, so that 8 GB of memory and 4 GB of disk suffice. Prints the relative
L2 difference of every output as a Markdown table and exits 1 when one is above --tolerance.

    bazel build -c opt //models:forward
    python tools/compare_full_size.py --scratch=/tmp/full --out=results/quality/parity.md

For developers; needs torch, diffusers, transformers and safetensors (made with torch 2.11.0,
diffusers 0.42.1, transformers 5.23.0). About 6 minutes on two cores.
"""

import argparse
import gc
import os
import pathlib
import shutil
import subprocess
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parent.parent


def disturb(model):
    """Norms start as ones and zeros, which would hide a swapped or forgotten one."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.dim() <= 1:
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    return model.eval()


def unet(**config):
    from diffusers import UNet2DConditionModel

    return disturb(UNet2DConditionModel(**config))


def vae():
    from diffusers import AutoencoderKL

    return disturb(
        AutoencoderKL(
            block_out_channels=[128, 256, 512, 512],
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=2,
            sample_size=512,
        )
    )


def text_config(width, layers, heads, act, **more):
    return dict(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        hidden_act=act,
        vocab_size=49408,
        max_position_embeddings=77,
        **more,
    )


def text_encoder(width, layers, heads, act, projection):
    from transformers import CLIPTextConfig, CLIPTextModel

    config = text_config(width, layers, heads, act, projection_dim=projection, eos_token_id=2)
    return disturb(CLIPTextModel(CLIPTextConfig(**config)))


def clip(text, vision, patch, projection):
    from transformers import CLIPConfig, CLIPModel

    width, layers, heads, act = vision
    return disturb(
        CLIPModel(
            CLIPConfig(
                text_config=text_config(*text, projection_dim=projection, eos_token_id=49407),
                vision_config=dict(
                    hidden_size=width,
                    intermediate_size=4 * width,
                    num_hidden_layers=layers,
                    num_attention_heads=heads,
                    hidden_act=act,
                    patch_size=patch,
                    projection_dim=projection,
                ),
                projection_dim=projection,
            )
        )
    )


SD1_UNET = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
SD2_UNET = dict(
    sample_size=96,
    cross_attention_dim=1024,
    attention_head_dim=[5, 10, 20, 20],
    use_linear_projection=True,
    upcast_attention=True,
)

# name: (how to make it, modules of `forward`, number of text states' features)
MODELS = {
    "SD 1.4 U-Net": (lambda: unet(**SD1_UNET), ["unet"], 768),
    "SD 2.1 U-Net": (lambda: unet(**SD2_UNET), ["unet"], 1024),
    "SD VAE": (vae, ["vae_encoder", "vae_decoder"], 0),
    "SD 1.4 text encoder": (
        lambda: text_encoder(768, 12, 12, "quick_gelu", 768),
        ["text_encoder"],
        0,
    ),
    "SD 2.1 text encoder": (lambda: text_encoder(1024, 23, 16, "gelu", 512), ["text_encoder"], 0),
    "CLIP ViT-B/32": (
        lambda: clip((512, 12, 8, "quick_gelu"), (768, 12, 12, "quick_gelu"), 32, 512),
        ["clip", "text_encoder", "vision_model"],
        0,
    ),
    "CLIP ViT-L/14": (
        lambda: clip((768, 12, 12, "quick_gelu"), (1024, 24, 16, "quick_gelu"), 14, 768),
        ["clip", "text_encoder", "vision_model"],
        0,
    ),
    "CLIP ViT-H/14": (
        lambda: clip((1024, 24, 16, "gelu"), (1280, 32, 16, "gelu"), 14, 1024),
        ["clip", "text_encoder", "vision_model"],
        0,
    ),
}


def inputs_of(module, features):
    generator = torch.Generator().manual_seed(7)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    ids = torch.randint(1, 49405, (2, 77), generator=generator)
    ids[:, 0] = 49406
    ids[0, 9:], ids[1, 40:] = 49407, 49407
    return {
        "unet": lambda: {
            "sample": normal(2, 4, 64, 64),
            "timestep": torch.tensor([981, 21]),
            "encoder_hidden_states": normal(2, 77, features),
        },
        "vae_encoder": lambda: {"sample": normal(1, 3, 512, 512).clamp(-1, 1)},
        "vae_decoder": lambda: {"sample": normal(1, 4, 64, 64)},
        "text_encoder": lambda: {"input_ids": ids},
        "vision_model": lambda: {"pixel_values": normal(2, 3, 224, 224)},
        "clip": lambda: {"input_ids": ids, "pixel_values": normal(2, 3, 224, 224)},
    }[module]()


def reference(model, module, inputs):
    """The library's outputs under the names that `forward` writes."""
    with torch.no_grad():
        if module == "unet":
            return {"sample": model(**inputs).sample}
        if module == "vae_encoder":
            moments = model.encode(inputs["sample"]).latent_dist
            return {"latent_dist.mean": moments.mean, "latent_dist.logvar": moments.logvar}
        if module == "vae_decoder":
            return {"sample": model.decode(inputs["sample"]).sample}
        if module == "clip":
            out = model(**inputs)
            return {
                name: getattr(out, name)
                for name in ("text_embeds", "image_embeds", "logits_per_image")
            }
        part = model if not hasattr(model, "vision_model") else getattr(
            model, "text_model" if module == "text_encoder" else "vision_model"
        )
        out = part(**inputs)
        return {"last_hidden_state": out.last_hidden_state, "pooler_output": out.pooler_output}


def difference(ours, theirs):
    ours, theirs = ours.double(), theirs.double()
    return ((ours - theirs).norm() / theirs.norm()).item()


def run(name, args):
    make, modules, features = MODELS[name]
    folder = args.scratch / "model"
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(0)
    model = make()
    parameters = sum(tensor.numel() for tensor in model.parameters())
    model.save_pretrained(folder)
    expected = {}
    for module in modules:
        inputs = inputs_of(module, features)
        save_file(inputs, args.scratch / f"{module}.safetensors")
        expected[module] = reference(model, module, inputs)
    del model
    gc.collect()
    rows = []
    for module in modules:
        out = args.scratch / "out.safetensors"
        command = [args.forward, f"--model={folder}", f"--module={module}", f"--out={out}"]
        subprocess.run(command + [f"--in={args.scratch / (module + '.safetensors')}"], check=True)
        found = load_file(out)
        for output, tensor in expected[module].items():
            rows.append((name, parameters, module, output, difference(found[output], tensor)))
            print(rows[-1], file=sys.stderr)
    shutil.rmtree(folder)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("--forward", type=pathlib.Path, default=ROOT / "bazel-bin/models/forward")
    parser.add_argument("--out", type=pathlib.Path, help="FILE.md")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--tolerance", type=float, default=1e-5)
    args = parser.parse_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    import diffusers
    import transformers

    rows = []
    for name in args.models.split(","):
        rows += run(name, args)
    lines = [
        "| model | parameters | module | output | relative L2 |",
        "|:--|--:|:--|:--|--:|",
    ]
    for name, parameters, module, output, value in rows:
        lines.append(f"| {name} | {parameters / 1e6:.0f} M | {module} | {output} | {value:.1e} |")
    worst = max(row[-1] for row in rows)
    lines += [
        "",
        f"Random weights, float32 on the CPU; the largest difference is {worst:.1e} (at most "
        f"{args.tolerance:.0e} is allowed). torch {torch.__version__}, diffusers "
        f"{diffusers.__version__}, transformers {transformers.__version__}; "
        f"{time.strftime('%Y-%m-%d')}.",
    ]
    table = "\n".join(lines) + "\n"
    print(table, end="")
    if args.out:
        args.out.write_text("# Parity at full size\n\n" + table)
    sys.exit(0 if worst <= args.tolerance else 1)


if __name__ == "__main__":
    main()
