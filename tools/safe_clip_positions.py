#!/usr/bin/env python3
"""Which token states of an edited text encoder break a picture? Draws neighbours of the unsafe
concepts with the states of some positions from the unmodified encoder and the others from the
edited one, and counts pictures in which the model's own judge sees what was asked. Run by hand
(torch, transformers 5.23.0, diffusers 0.42.1, safetensors); nothing at run or test time needs
Python.

    bazel run //experiments:table2 -- --methods=published_terms --export_models=/tmp/edited
    python tools/safe_clip_positions.py \\
        /tmp/edited/published_terms/text_encoder/model.safetensors OUT.json
"""

import json
import sys
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models" / "emoji"
FRAMES = ["an illustration of {}", "a print of {}", "a sticker with {}", "a rendering of {}",
          "this is {} on a white background", "an illustration of {} on a blue background"]
EACH, STEPS, GUIDANCE, SEED = 4, 8, 3.0, 7

torch.set_num_threads(1)
torch.set_grad_enabled(False)


def load(cls, part, **more):
    return cls.from_pretrained(MODEL / part, **more).float().eval()


tokenizer = transformers.CLIPTokenizer(str(MODEL / "tokenizer/vocab.json"),
                                       str(MODEL / "tokenizer/merges.txt"))
clip = load(transformers.CLIPModel, "text_encoder")
unet = load(diffusers.UNet2DConditionModel, "unet")
vae = load(diffusers.AutoencoderKL, "vae")
scheduler = diffusers.DPMSolverMultistepScheduler.from_pretrained(MODEL / "scheduler")
judge_config = json.loads((MODEL / "judges/reporting/config.json").read_text())
judge = {k: v.float() for k, v in
         load_file(MODEL / "judges/reporting/model.safetensors").items()}
START, END = clip.config.text_config.bos_token_id, clip.config.text_config.eos_token_id
LENGTH = clip.config.text_config.max_position_embeddings


def token_ids(texts):
    rows = [tokenizer(t.lower(), add_special_tokens=False)["input_ids"] for t in texts]
    return torch.tensor([[START] + r + [END] * (LENGTH - 1 - len(r)) for r in rows])


def states(model, ids):
    return model.text_model(input_ids=ids).last_hidden_state


def draw(prompts, empty):
    generator = torch.Generator().manual_seed(SEED)
    scheduler.set_timesteps(STEPS)
    x = torch.randn(len(prompts), 4, 8, 8, generator=generator) * scheduler.init_noise_sigma
    both = torch.cat([empty.expand(len(prompts), -1, -1), prompts])
    for t in scheduler.timesteps:
        plain, asked = unet(torch.cat([x, x]), t, encoder_hidden_states=both).sample.chunk(2)
        x = scheduler.step(plain + GUIDANCE * (asked - plain), t, x).prev_sample
    return (vae.decode(x / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def classes(pictures):
    def conv(x, name, stride, padding):
        return F.conv2d(x, judge[name + ".weight"], judge.get(name + ".bias"), stride, padding)

    def norm(x, name):
        return F.batch_norm(x, judge[name + ".running_mean"], judge[name + ".running_var"],
                            judge[name + ".weight"], judge[name + ".bias"])

    h = F.relu(norm(conv(pictures * 2 - 1, "stem", 2, 1), "stem_norm"))
    for i in range(len(judge_config["channels"])):
        p, stride = f"stages.{i}", 1 if i == 0 else 2
        y = F.relu(norm(conv(h, p + ".conv1", stride, 1), p + ".norm1"))
        y = norm(conv(y, p + ".conv2", 1, 1), p + ".norm2")
        if p + ".shortcut.weight" in judge:
            h = norm(conv(h, p + ".shortcut", stride, 0), p + ".shortcut_norm")
        h = F.relu(y + h)
    logits = F.linear(h.mean((2, 3)), judge["class_head.weight"], judge["class_head.bias"])
    return [(judge_config["class_ids"] + ["none"])[i] for i in logits.argmax(1)]


def groups():
    """name -> class ids, of the unsafe concepts."""
    world = json.loads((ROOT / "datasets/emoji_classes.json").read_text())["classes"]
    by_name = {c["name"]: c for c in world}
    found = {"near": [], "far": [], "unsafe": []}
    for concept in ("weapons", "smoking"):
        spec = json.loads((ROOT / f"datasets/concepts/{concept}.json").read_text())
        found["unsafe"] += spec["judge"]["target"]
        for group in ("near", "far"):
            found[group] += [by_name[n]["id"] for n in spec["neighbours"][group] if n in by_name]
    keep = {g: sorted(set(ids) - set(found["unsafe"] if g != "unsafe" else []))
            for g, ids in found.items()}
    return {c["id"]: (c["article"] + " " + c["name"]).strip() for c in world}, keep


def main(weights, out):
    edited = load(transformers.CLIPModel, "text_encoder")
    own = edited.state_dict()
    for name, tensor in load_file(weights).items():
        name = name.removeprefix("text_encoder/")
        if name in own:
            own[name].copy_(tensor)
    blank = token_ids([""])
    empty, empty_edited = states(clip, blank), states(edited, blank)
    named, kept = groups()
    report = {"pictures": {}, "drift": {}}
    for group, ids in kept.items():
        asked = [c for c in ids for _ in range(EACH)]
        rows = token_ids([FRAMES[i % len(FRAMES)].format(named[c]) for i, c in enumerate(asked)])
        end = (rows == END).int().argmax(1, keepdim=True)
        place = torch.arange(LENGTH)[None].expand(len(rows), -1)
        kinds = {"start": place == 0, "words": (place > 0) & (place < end), "end": place == end,
                 "padding": place > end}
        h0, h1 = states(clip, rows), states(edited, rows)
        moved = (h1 - h0).norm(dim=-1) / h0.norm(dim=-1)
        report["drift"][group] = {k: round(moved[m].mean().item(), 3) for k, m in kinds.items()}

        def shown(prompts, negative):
            seen = classes(draw(prompts, negative))
            return round(sum(a == b for a, b in zip(seen, asked)) / len(asked), 3)

        counts = {"n": len(asked), "unmodified": shown(h0, empty),
                  "edited": shown(h1, empty_edited),
                  "edited, empty prompt unmodified": shown(h1, empty),
                  "unmodified, empty prompt edited": shown(h0, empty_edited)}
        for kind, mask in kinds.items():
            mask = mask[..., None].float()
            counts[f"edited at {kind} alone"] = shown(h0 * (1 - mask) + h1 * mask, empty)
            counts[f"unmodified at {kind} alone"] = shown(h1 * (1 - mask) + h0 * mask, empty)
        report["pictures"][group] = counts
        print(group, report["drift"][group], counts, flush=True)
    moved = (empty_edited - empty).norm() / empty.norm()
    report["drift"]["empty prompt"] = round(moved.item(), 3)
    report["versions"] = {m.__name__: m.__version__ for m in (torch, transformers, diffusers)}
    Path(out).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
