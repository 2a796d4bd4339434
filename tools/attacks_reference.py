#!/usr/bin/env python3
"""Writes tests/fixtures/attacks/{inputs,expected}.safetensors for attacks/reference_test.cc: what
UnlearnDiffAtk (arXiv 2310.11868) and Ring-A-Bell (arXiv 2310.10012) compute on the random-weight
pipeline tests/fixtures/sd1, written down again with transformers and diffusers. Run by hand in the
environment of make_fixtures.py (torch 2.11.0, transformers 5.23.0, diffusers 0.42.1):

    HF_HUB_OFFLINE=1 /tmp/venv/bin/python tools/attacks_reference.py
"""

import pathlib

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTokenizer

FIXTURES = pathlib.Path(__file__).resolve().parent.parent / "tests/fixtures"
SD1 = FIXTURES / "sd1"
SEED_TEXT, WITHOUT = "a picture of a poodle", "a picture of a dog"
WITH = "a picture of a poodle"
PREFIX, TIMESTEP, ETA = [[17, 301, 44], [5, 17, 90]], [410, 870], 2.5

torch.set_num_threads(1)
tokenizer = CLIPTokenizer.from_pretrained(SD1 / "tokenizer")
text_encoder = CLIPTextModel.from_pretrained(SD1 / "text_encoder", dtype=torch.float32).eval()
unet = UNet2DConditionModel.from_pretrained(SD1 / "unet", torch_dtype=torch.float32).eval()
vae = AutoencoderKL.from_pretrained(SD1 / "vae", torch_dtype=torch.float32).eval()
scheduler = DDPMScheduler.from_pretrained(SD1 / "scheduler")
for model in (text_encoder, unet, vae):
    model.requires_grad_(False)
LENGTH = text_encoder.config.max_position_embeddings
TABLE = text_encoder.get_input_embeddings().weight


def own_ids(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def framed(ids):
    ids = [tokenizer.bos_token_id, *ids, tokenizer.eos_token_id]
    return torch.tensor([ids + [tokenizer.pad_token_id] * (LENGTH - len(ids))])


def states(ids, embeddings=None):
    """last_hidden_state of ids, with other embeddings put in the table's place."""
    if embeddings is None:
        return text_encoder(input_ids=ids).last_hidden_state
    handle = text_encoder.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: embeddings)
    try:
        return text_encoder(input_ids=ids).last_hidden_state
    finally:
        handle.remove()


def project(x):
    """Euclidean projection on the simplex by sorting (Duchi et al., ICML 2008)."""
    u, _ = torch.sort(x.double(), dim=-1, descending=True)
    css = u.cumsum(-1) - 1
    k = torch.arange(1, x.shape[-1] + 1, dtype=torch.double)
    rho = ((u - css / k) > 0).sum(-1, keepdim=True)
    tau = css.gather(-1, rho - 1) / rho
    return (x.double() - tau).clamp_min(0).float()


generator = torch.Generator().manual_seed(5)
picture = torch.rand(1, 3, 64, 64, generator=generator)
noise = torch.randn(2, 4, 8, 8, generator=generator)
inputs = {"picture": picture, "noise": noise, "prefix": torch.tensor(PREFIX),
          "timestep": torch.tensor(TIMESTEP)}
expected = {}

# UnlearnDiffAtk: two gradient steps, at two timesteps with one draw of noise each.
x0 = vae.encode(2 * picture - 1).latent_dist.mean * vae.config.scaling_factor
usable = torch.tensor([i for i in range(len(tokenizer)) if i not in
                       (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)])
distribution = torch.full((3, len(usable)), 1 / len(usable)).requires_grad_()
optimizer = torch.optim.Adam([distribution], lr=0.05, weight_decay=0.1)
for i, (prefix, timestep) in enumerate(zip(PREFIX, TIMESTEP)):
    one_hot = torch.nn.functional.one_hot(torch.tensor(prefix), len(usable)).float()
    one_hot.requires_grad_()
    ids = framed([*usable[prefix].tolist(), *own_ids(SEED_TEXT)])
    embeddings = TABLE[ids[0]]
    embeddings = torch.cat([embeddings[:1], one_hot @ TABLE[usable], embeddings[4:]])[None]
    t = torch.tensor([timestep])
    x_t = scheduler.add_noise(x0, noise[i:i + 1], t)
    loss = torch.nn.functional.mse_loss(unet(x_t, t, states(ids, embeddings)).sample,
                                        noise[i:i + 1])
    gradient, = torch.autograd.grad(loss, [one_hot])
    expected[f"loss{i}"], expected[f"gradient{i}"] = loss.detach(), gradient
    # The reference's straight-through estimator: torch.nn.functional.hardtanh of the gradient.
    distribution.grad = torch.nn.functional.hardtanh(gradient)
    optimizer.step()
    with torch.no_grad():
        distribution.copy_(project(distribution))
    expected[f"distribution{i}"] = distribution.detach().clone()

# Ring-A-Bell: fitness of four sequences of five tokens.
with torch.no_grad():
    concept = states(framed(own_ids(WITH))) - states(framed(own_ids(WITHOUT)))
    target = states(framed(own_ids(SEED_TEXT))) + ETA * concept
    sequences = torch.randint(0, len(usable), (4, 5), generator=generator)
    inputs["sequences"] = usable[sequences]
    expected["concept"] = concept[0]
    expected["fitness"] = -torch.stack(
        [((states(framed(row.tolist())) - target) ** 2).sum() for row in usable[sequences]])

folder = FIXTURES / "attacks"
folder.mkdir(exist_ok=True)
save_file(inputs, folder / "inputs.safetensors")
save_file({name: t.contiguous() for name, t in expected.items()}, folder / "expected.safetensors")
print({name: (tuple(t.shape), float(t.norm())) for name, t in expected.items()})
