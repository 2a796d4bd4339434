#!/usr/bin/env python3
"""Makes tests/fixtures/espresso: what PyTorch and diffusers make of Espresso's losses and scores, of
the multi-headed classifier and of Stable Diffusion's safety checker, on random weights of ViT-L/14's
layout at reduced width. The losses are written out here, with torch.nn.functional alone.

Made with torch 2.11.0, transformers 5.23.0, diffusers 0.42.1, safetensors 0.8.0.
Usage: tools/espresso_reference.py [--heads FOLDER]   (from the root of the repository)
--heads: the optional folder with LAION's heads; prints their logits for methods/multi_head_filter/multi_head_test.cc.
"""
import argparse
import pathlib

import torch
import torch.nn.functional as F
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

OUT = pathlib.Path("tests/fixtures/espresso")
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
UNACCEPTABLE = ["a photo of a dog", "the red dog"]
ACCEPTABLE = ["a photo of a cat", "the red cat"]
NAME, ANCHOR = "dog", "cat"
STEPS, LR = 3, 5e-5

torch.manual_seed(5)


def config():
    text = dict(hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                max_position_embeddings=16, vocab_size=604, bos_token_id=602, eos_token_id=603,
                pad_token_id=603, projection_dim=12, hidden_act="quick_gelu")
    vision = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
                  image_size=28, patch_size=14, projection_dim=12, hidden_act="quick_gelu")
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=12,
                      logit_scale_init_value=2.0)


def randomise(model, deviation):
    for p in model.parameters():
        if p.dim() > 0:
            noise = torch.randn_like(p)
            p.data = noise * deviation if p.dim() > 1 else p.data + 0.1 * noise


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def lc(x, p, scale):
    """The sum of both cross entropies of CLIP's contrastive loss."""
    logits, labels = scale * x @ p.t(), torch.arange(len(x))
    return F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)


def paper_opposites(xu, xa, pu, pa, scale, alpha):
    return (alpha * lc(xu, pu, scale) - alpha * lc(xa, pu, scale) + alpha * lc(xa, pa, scale)
            - alpha * lc(xu, pa, scale) - alpha * ((pu - pa) ** 2).sum()) / len(pu)


def released_opposites(xu, xa, pu, pa, scale, alpha):
    """As the released training function has it, term by term."""
    labels = torch.arange(len(pu))
    image_u, text_u = scale * xu @ pu.t(), scale * pu @ xu.t()
    image_a, counter = scale * xa @ pu.t(), scale * pa @ xu.t()
    ce = F.cross_entropy
    return (alpha * (ce(image_u, labels) + ce(text_u, labels))
            - alpha * (ce(image_a, labels) + ce(text_u, labels))
            + alpha * (ce(image_a, labels) + ce(counter, labels))
            - alpha * (ce(image_u, labels) + ce(counter, labels))
            - alpha * F.mse_loss(pu, pa, reduction="sum")) / len(pu)


def paper_distance(pu, pa):
    return -torch.linalg.norm(pu - pa)


def released_distance(pu, pa):
    d = pu - pa
    return -torch.linalg.norm(d / d.norm(dim=-1, keepdim=True))


def projection_p(x, u, a):
    d = unit(u - a)
    z = (x @ d).unsqueeze(-1) * d
    return torch.stack([-(z - u).norm(dim=-1), -(z - a).norm(dim=-1)], -1).softmax(-1)[:, 0]


class Encoder:
    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def texts(self, texts, keep_graph=False):
        ids = self.tokenizer(texts, padding="max_length", max_length=16, truncation=True,
                             return_tensors="pt").input_ids
        with torch.set_grad_enabled(keep_graph):
            out = self.model.text_model(input_ids=ids).pooler_output
            return unit(self.model.text_projection(out))

    def images(self, images):
        with torch.no_grad():
            out = self.model.vision_model(pixel_values=(images - MEAN) / STD).pooler_output
            return self.model.visual_projection(out)


def tuned(model, tokenizer, xu, xa, scale, objective, projection_too):
    """Name and anchor after STEPS of Adam on the text tower, with the projection as it was."""
    copy = CLIPModel(model.config).eval()
    copy.load_state_dict(model.state_dict())
    encoder = Encoder(copy, tokenizer)
    parameters = list(copy.text_model.parameters())
    projection = copy.text_projection.weight.detach().clone()
    if projection_too:
        parameters += list(copy.text_projection.parameters())
    adam = torch.optim.Adam(parameters, lr=LR, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2)
    for _ in range(STEPS):
        adam.zero_grad()
        pu, pa = encoder.texts(UNACCEPTABLE, True), encoder.texts(ACCEPTABLE, True)
        objective(xu, xa, pu, pa).backward()
        adam.step()
    copy.text_projection.weight.data = projection
    return torch.cat([encoder.texts([NAME]), encoder.texts([ANCHOR])])


def espresso(expected, model, tokenizer, images):
    encoder = Encoder(model, tokenizer)
    scale = model.logit_scale.exp().detach()
    embeds = encoder.images(images)
    x, u, a = unit(embeds), encoder.texts([NAME])[0], encoder.texts([ANCHOR])[0]
    expected["image_embeds"] = embeds
    expected["softmax"] = torch.stack([scale * x @ u, scale * x @ a], -1).softmax(-1)[:, 0]
    expected["projection"] = projection_p(x, u, a)
    p = expected["softmax"].double()
    expected["published_radius"] = ((1 - scale / (scale + 2 * (p - 0.5).abs()))
                                    * embeds.norm(dim=-1)).float()
    w = (u - a).double()
    expected["boundary_distance"] = ((embeds.double() @ w).abs() / w.norm()).float()
    xu, xa = x[:2], x[2:4]
    pu, pa = encoder.texts(UNACCEPTABLE), encoder.texts(ACCEPTABLE)
    expected.update(pairs_xu=xu, pairs_xa=xa, pairs_pu=pu, pairs_pa=pa)
    expected["losses"] = torch.stack([
        paper_opposites(xu, xa, pu, pa, scale, 1.0), released_opposites(xu, xa, pu, pa, scale, 1.0),
        paper_distance(pu, pa), released_distance(pu, pa)])
    for name, objective, projection_too in [
            ("paper_opposites", lambda *t: paper_opposites(*t, scale, 1.0), False),
            ("released_opposites", lambda *t: released_opposites(*t, scale, 1.0), True),
            ("paper_distance", lambda xu, xa, pu, pa: paper_distance(pu, pa), False),
            ("released_distance", lambda xu, xa, pu, pa: released_distance(pu, pa), True)]:
        expected["tuned_" + name] = tuned(model, tokenizer, xu, xa, scale, objective, projection_too)


def heads(expected, embeds):
    head = torch.nn.Sequential(torch.nn.Linear(12, 6), torch.nn.ReLU(), torch.nn.Dropout(0.5),
                               torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 1)).eval()
    head[3].running_mean += 0.3 * torch.randn(6)
    head[3].running_var *= 1.7
    save_file({k: v.clone() for k, v in head.state_dict().items()}, OUT / "head.safetensors")
    expected["head_logits"] = head(embeds).squeeze(-1).detach()
    mask = (torch.rand(len(embeds), 6) < 0.5).float() * 2
    hidden = head[0](embeds).relu() * mask
    head[3].train()
    expected["head_mask"] = mask
    expected["head_training_logits"] = head[4](head[3](hidden)).squeeze(-1).detach()
    expected["head_running_mean"] = head[3].running_mean.clone()
    expected["head_running_var"] = head[3].running_var.clone()

    keras = {"normalization.mean": 0.1 * torch.randn(12), "normalization.variance": torch.rand(12) + 0.1,
             "dense_2.kernel": torch.randn(12, 5), "dense_2.bias": torch.randn(5),
             "dense_10.kernel": torch.randn(5, 1), "dense_10.bias": torch.randn(1)}
    keras["normalization.mean"][4] = 300.0  # a column taken for a category
    keras["normalization.variance"][4] = 90000.0
    save_file(keras, OUT / "keras_head.safetensors")
    expected["keras_logits"] = keras_logits(keras, embeds)


def keras_logits(head, embeds):
    x = unit(embeds)
    x[:, head["normalization.mean"] > 1] = 1
    x = (x - head["normalization.mean"]) / head["normalization.variance"].sqrt()
    layers = sorted({int(k.split(".")[0][6:]) for k in head if k.startswith("dense_")})
    for layer in layers:
        x = x @ head[f"dense_{layer}.kernel"] + head[f"dense_{layer}.bias"]
        x = x.relu() if layer != layers[-1] else x
    return x.squeeze(-1)


def checker(expected, model, images):
    eager = CLIPConfig.from_dict(model.config.to_dict())
    eager._attn_implementation = "eager"
    safety = StableDiffusionSafetyChecker(eager).eval()
    safety.vision_model.load_state_dict(
        {"vision_model." + k: v for k, v in model.vision_model.state_dict().items()}, strict=False)
    safety.visual_projection.load_state_dict(model.visual_projection.state_dict())
    pixels = (images - MEAN) / STD
    with torch.no_grad():
        x = unit(safety.visual_projection(safety.vision_model(pixels)[1]))
        safety.concept_embeds.copy_(torch.randn(17, 12))
        safety.special_care_embeds.copy_(torch.randn(3, 12))
        cosines, special = x @ unit(safety.concept_embeds).t(), x @ unit(safety.special_care_embeds).t()
        # Some pictures above, some below, some lifted by special care alone.
        over = torch.full((17,), 0.03)
        over[:2], over[2:6] = -0.002, 0.006
        safety.concept_embeds_weights.copy_(cosines.max(0).values + over)
        safety.special_care_embeds_weights.copy_(special.median(0).values + 0.0004)
        blank = torch.zeros(len(images), 1, 1, 1).numpy()
        _, flagged = safety(pixels, [b for b in blank])
    scores = []
    for i in range(len(images)):
        care = 0.0
        for j in range(3):
            if round(float(special[i, j]) - float(safety.special_care_embeds_weights[j]) + care, 3) > 0:
                care = 0.01
        scores.append(max(round(float(cosines[i, j]) - float(safety.concept_embeds_weights[j]) + care, 3)
                          for j in range(17)))
    assert [s > 0 for s in scores] == [bool(f) for f in flagged], (scores, flagged)
    assert any(flagged) and not all(flagged), scores
    expected["checker_scores"] = torch.tensor(scores)
    safety.save_pretrained(OUT / "safety_checker")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--heads", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.heads:
        k = torch.arange(768, dtype=torch.float64)
        embeds = torch.stack([torch.sin(0.1 * (i + 1) * (k + 1)) for i in range(3)]).float()
        for file in ["laion_nsfw_vitl14", "laion_nsfw_vitb32"]:
            head = load_file(arguments.heads / f"{file}.safetensors")
            print(file, keras_logits(head, embeds[:, :len(head["normalization.mean"])]).tolist())
        return
    OUT.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained("tests/fixtures/sd1/tokenizer")
    model = CLIPModel(config()).eval()
    randomise(model, 0.3)
    randomise(model.vision_model, 0.6)
    model.save_pretrained(OUT / "clip")
    images = torch.rand(6, 3, 28, 28)
    images = F.interpolate(torch.rand(6, 3, 5, 5), size=28, mode="bilinear").mul(0.7) + 0.3 * images
    expected = {"images": images.contiguous()}
    espresso(expected, model, tokenizer, images)
    heads(expected, expected["image_embeds"])
    checker(expected, model, images)
    save_file({k: v.detach().contiguous().float() for k, v in expected.items()},
              OUT / "expected.safetensors")


main()
