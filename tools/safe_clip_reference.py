#!/usr/bin/env python3
"""Writes tests/fixtures/safe_clip.safetensors: Safe-CLIP's loss and a few of its training steps, as
torch, transformers and peft make them. Run by hand, as tools/make_fixtures.py (torch 2.11.0,
transformers 5.23.0, peft, safetensors); nothing at run or test time needs Python.

"loss.*": six embeddings, the eight terms and their weighted sum. "model.*": a small CLIPModel.
"batch.*": two batches of quadruplets. "lora.*": adapters at the start, under the names of
training/lora.h. "<mode>.*": losses of every step and the tuned embeddings, for the reference as a
frozen copy and, as in the released code, for the very model that peft has put the adapters into.
"states.*": how far the adapters at the start move token states (not in the paper): of the safe
texts and the empty prompt from their own, of the unsafe texts from the safe ones', and the
gradient of both by one adapter.
"""

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel
from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

OUT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "safe_clip.safetensors"
LAMBDAS = torch.tensor([0.1, 0.1, 0.1, 0.2, 0.25, 0.25, 0.25, 0.5], dtype=torch.float64)
TARGETS = ["k_proj", "v_proj", "out_proj", "fc1", "fc2", "patch_embedding"]
RANK, STEPS, BATCH, LR = 3, 4, 5, 0.01


def terms(t, tu, v, vu, t0, v0):
    """In the order text_safe ... G_Sref."""
    def cosine(x, y):
        return (1 - F.cosine_similarity(x, y)).mean()

    def contrastive(x, y):
        logits = 100 * F.normalize(x) @ F.normalize(y).T
        labels = torch.arange(len(x))
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    return torch.stack([cosine(t, t0), cosine(tu, t0), cosine(v, v0), cosine(vu, v0),
                        contrastive(t, v0), contrastive(tu, v0), contrastive(t0, v),
                        contrastive(t0, vu)])


def total(values):
    return (LAMBDAS / LAMBDAS.sum() * values).sum() / 8


def small_clip():
    text = dict(vocab_size=30, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=8, projection_dim=6,
                bos_token_id=28, eos_token_id=29, pad_token_id=29)
    vision = dict(hidden_size=20, intermediate_size=28, num_hidden_layers=1, num_attention_heads=2,
                  image_size=12, patch_size=4, projection_dim=6)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)).eval()
    for name, parameter in model.named_parameters():  # initial weights are too small to tell apart
        noise = torch.randn(parameter.shape) * 0.25
        parameter.data = noise + (1 if "norm" in name and name.endswith("weight") else 0)
    return model


def batches():
    ids = torch.randint(0, 28, (2, 2, BATCH, 8))  # (safe, unsafe)
    ids[..., 0] = 28
    for row in ids.view(-1, 8):
        row[int(torch.randint(3, 8, ())):] = 29
    return ids, torch.randn(2, 2, BATCH, 3, 12, 12)


def towers(model):
    """The two halves, each with weights of its own."""
    text, vision = (cls(config) for cls, config in
                    ((CLIPTextModelWithProjection, model.config.text_config),
                     (CLIPVisionModelWithProjection, model.config.vision_config)))
    for half in (text, vision):
        state = {k: v.clone() for k, v in model.state_dict().items() if k in half.state_dict()}
        assert len(state) == len(half.state_dict()), set(half.state_dict()) - set(state)
        half.load_state_dict(state)
    return text, vision


def plain(name):
    return name.replace("base_model.model.", "").replace(".default", "")


def train(model, ids, pixels, adapters, released, tensors):
    """`adapters`: filled at the first call, read at the others."""
    text0, vision0 = towers(model)
    frozen = copy.deepcopy(text0), copy.deepcopy(vision0)
    config = LoraConfig(r=RANK, lora_alpha=1, target_modules=TARGETS, lora_dropout=0.0, bias="none")
    text, vision = get_peft_model(text0, config), get_peft_model(vision0, config)
    if not released:
        text0, vision0 = frozen
    trained = []
    for half in (text, vision):
        for name, parameter in half.named_parameters():
            if "lora" not in name:
                continue
            if plain(name) not in adapters:
                adapters[plain(name)] = torch.randn(parameter.shape) * 0.3
            parameter.data = adapters[plain(name)].clone()
            trained.append(parameter)
    optimiser = torch.optim.Adam(trained, lr=LR)
    losses = []
    for step in range(STEPS):
        b = step % 2
        with torch.no_grad():
            t0 = text0(input_ids=ids[b, 0]).text_embeds
            v0 = vision0(pixel_values=pixels[b, 0]).image_embeds
        embeds = [text(input_ids=ids[b, k]).text_embeds for k in (0, 1)]
        embeds += [vision(pixel_values=pixels[b, k]).image_embeds for k in (0, 1)]
        loss = total(terms(*embeds, t0, v0))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    mode = "released" if released else "frozen"
    merged = text.merge_and_unload(), vision.merge_and_unload()
    with torch.no_grad():
        tensors[f"{mode}.text"] = merged[0](input_ids=ids[0, 1]).text_embeds
        tensors[f"{mode}.vision"] = merged[1](pixel_values=pixels[0, 1]).image_embeds
    tensors[f"{mode}.losses"] = torch.stack(losses)


def token_states(model, ids, adapters, tensors):
    """sum |H - H0|^2 / sum |H0|^2 over tokens and widths, a text at a time."""
    original = towers(model)[0]
    tuned = get_peft_model(copy.deepcopy(original), LoraConfig(
        r=RANK, lora_alpha=1, target_modules=TARGETS[:-1], lora_dropout=0.0, bias="none"))
    for name, parameter in tuned.named_parameters():
        if "lora" in name:
            parameter.data = adapters[plain(name)].clone()
    empty = torch.full((1, 8), 29)
    empty[0, 0] = 28

    def drift(h, h0):
        return torch.stack([((a - b) ** 2).sum() / (b ** 2).sum() for a, b in zip(h, h0)])

    with torch.no_grad():
        safe0 = original(input_ids=torch.cat([ids[0, 0], empty])).last_hidden_state
    hold = drift(tuned(input_ids=torch.cat([ids[0, 0], empty])).last_hidden_state, safe0)
    redirect = drift(tuned(input_ids=ids[0, 1]).last_hidden_state, safe0[:-1])
    (2 * hold.mean() + 3 * redirect.mean()).backward()
    by = "text_model.encoder.layers.0.self_attn.v_proj.lora_A.weight"
    gradient = dict((plain(n), p.grad) for n, p in tuned.named_parameters())[by]
    tensors.update({"states.hold": hold, "states.redirect": redirect, "states.gradient": gradient})


def main():
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    tensors = {}
    embeds = [torch.randn(5, 7) for _ in range(6)]
    names = ["text_safe", "text_unsafe", "vision_safe", "vision_unsafe", "text_reference",
             "vision_reference"]
    tensors.update({f"loss.{name}": x for name, x in zip(names, embeds)})
    values = terms(*embeds)
    tensors.update({"loss.terms": values, "loss.total": total(values).reshape(1)})
    model = small_clip().double()
    tensors.update({f"model.{k}": v for k, v in model.state_dict().items()
                    if "position_ids" not in k})
    ids, pixels = batches()
    tensors.update({"batch.ids": ids, "batch.pixels": pixels})
    adapters = {}
    for released in (False, True):
        train(model, ids, pixels, adapters, released, tensors)
    assert not any("q_proj" in name or "projection" in name for name in adapters)
    tensors.update({f"lora.{name}": x for name, x in adapters.items()})
    token_states(model, ids, adapters, tensors)
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, OUT)
    print(OUT, OUT.stat().st_size, len(adapters))


if __name__ == "__main__":
    main()
