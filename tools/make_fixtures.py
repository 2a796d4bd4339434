#!/usr/bin/env python3
"""Writes tests/fixtures/: small models of random weights as Hugging Face folders, with inputs and
the outputs of the reference implementations. Run by hand, in a virtual environment:

    python -m venv /tmp/venv && /tmp/venv/bin/pip install \
        torch==2.11.0 transformers==5.23.0 diffusers==0.42.1 safetensors
    HF_HUB_OFFLINE=1 /tmp/venv/bin/python tools/make_fixtures.py

The committed files were made with exactly these versions, on the CPU, in float32. Nothing at run or
test time needs Python. In every folder inputs.safetensors holds what goes in and
expected.safetensors what comes out; names with a dot are "<case>.<tensor>". More is added by
make_parity_fixtures.py, which reads the folders made here, and make_sampler_fixtures.py.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from diffusers import (AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline,
                       UNet2DConditionModel)
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

ROOT = Path(__file__).resolve().parent.parent / "tests" / "fixtures"
MAX_LENGTH = 16
NUM_MERGES = 90

torch.set_num_threads(1)
torch.set_grad_enabled(True)

# ------------------------------------------------------------------------------------------------
# Tokenizer: an independent byte-pair training, so that TrainTokenizer has something to equal.


def training_texts():
    things = ["a poodle", "a tropical fish", "Santa Claus", "an umbrella", "the dog's ball",
              "a kitchen knife", "ein Pudel", "der Weihnachtsmann", "Papá Noël", "пудель", "サンタ"]
    grounds = ["red", "blue", "green", "white"]
    texts = [f"a picture of {thing} on a {ground} background"
             for thing in things for ground in grounds]
    return texts + ["don't you're 1234 !!!", "banana bananas aaaa aaa aa", "ΟΔΟΣ İstanbul ½ Ⅻ"]


def byte_symbols():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    table = {b: chr(b) for b in printable}
    table.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return table, printable + rest


def train_bpe(texts, num_merges):
    """The textbook loop: recount everything, take the most frequent pair, ties to the smaller."""
    table, order = byte_symbols()
    reference = CLIPTokenizer()._tokenizer  # only its normaliser and word pattern are used
    words = {}
    for text in texts:
        normalized = reference.normalizer.normalize_str(text)
        for piece, _ in reference.pre_tokenizer.pre_tokenize_str(normalized):
            word = (*piece[:-1], piece[-1] + "</w>")
            words[word] = words.get(word, 0) + 1
    tokens = [table[b] for b in order] + [table[b] + "</w>" for b in order]
    merges = []
    for _ in range(num_merges):
        counts = {}
        for word, count in words.items():
            for pair in zip(word, word[1:]):
                counts[pair] = counts.get(pair, 0) + count
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        if "".join(best) not in tokens:
            tokens.append("".join(best))
        merged_words = {}
        for word, count in words.items():
            merged, i = [], 0
            while i < len(word):
                joined = word[i:i + 2] == best
                merged.append("".join(best) if joined else word[i])
                i += 2 if joined else 1
            merged_words[tuple(merged)] = merged_words.get(tuple(merged), 0) + count
        words = merged_words
    return tokens + ["<|startoftext|>", "<|endoftext|>"], merges


def write_json(path, value, **style):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, **style) + "\n")


def write_tokenizer(folder, tokens, merges, pad):
    """`pad` "!": as Stable Diffusion 2, where only special_tokens_map.json says so."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokens)}, indent=0)
    lines = "".join(f"{left} {right}\n" for left, right in merges)
    (folder / "merges.txt").write_text("#version: 0.2\n" + lines)

    def token(content, **extra):
        return dict(extra, content=content, lstrip=False, normalized=True, rstrip=False,
                    single_word=False)

    names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
             "unk_token": "<|endoftext|>"}
    added = {"__type": "AddedToken"} if pad == "!" else {}
    config = {name: token(content, **added) if added else content
              for name, content in names.items()}
    special = {name: token(content) if added else content for name, content in names.items()}
    write_json(folder / "tokenizer_config.json",
               dict(config, pad_token="<|endoftext|>", model_max_length=MAX_LENGTH,
                    tokenizer_class="CLIPTokenizer"), indent=2)
    write_json(folder / "special_tokens_map.json", dict(special, pad_token=pad), indent=2)


PROBES = [
    "", " ", "a", "a picture of a poodle on a red background", "  HELLO \n\t World  ", "!!! hi!",
    "don't we're 'S'T 's ''s I'LL", "3.14 is 1,000½", "café cafe\u0301 NAÏVE", "🐩🎅🏽 👩‍👩‍👧", "ΟΔΟΣ İ ẞ Ǆ",
    "日本語 サンタ हिन्दी ไทย", "x\u00a0y\u3000z\u200bw\u000bv\u0085u", "hello <|endoftext|> x", "a<|STARTOFTEXT|>!!b",
    "<|startoftext|>a<|endoftext|>", "</w> <w/> Ġ Ģ", "bananas " * 12, "\ufeffa\u0000b", "rock’n’roll #1 @me",
]


def probe_tokenizer(folder):
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    cases = []
    for text in PROBES:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        padded = tokenizer(text, padding="max_length", truncation=True,
                           max_length=MAX_LENGTH)["input_ids"]
        cases.append({"text": text, "ids": ids, "padded": padded,
                      "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    return cases


# ------------------------------------------------------------------------------------------------
# Models


def randomize(model, seed):
    """Weights of a size at which every layer matters, representable in float16."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("logit_scale"):
                value = torch.tensor(1.5)
            elif parameter.dim() < 2:
                value = 0.1 * noise + (1.0 if re.search(r"norm\w*\.weight$", name) else 0.0)
            elif "embedding" in name and "patch" not in name and "time" not in name:
                value = 0.5 * noise
            else:
                value = noise / parameter[0].numel() ** 0.5
            parameter.copy_(value.half().float())
    return model.eval()


def save_model(model, folder, stem, half=False, rename=None, extra=None):
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder) if hasattr(model.config, "save_pretrained") \
        else model.save_config(folder)
    state = {name: tensor.detach().clone().contiguous()
             for name, tensor in model.state_dict().items()}
    if rename:
        state = {rename(name): tensor for name, tensor in state.items()}
    if half:
        state = {name: tensor.half() for name, tensor in state.items()}
    state.update(extra or {})
    save_file(state, folder / f"{stem}.safetensors", metadata={"format": "pt"})


def save_tensors(path, tensors):
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()},
              path)


def weighted_loss(out, seed):
    """A scalar that sees every element of `out` differently."""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed))
    return (out * weight).sum(), weight


def hub_names(name):
    """Names as on the hub, should the library have flattened its modules."""
    return name if name.startswith(("text_", "vision_", "visual_", "logit_")) \
        else "text_model." + name


def make_clip(name, *, text_width, vision_width, act, eos, vocab_size, end_id, seed, half):
    folder = ROOT / name
    config = CLIPConfig(
        text_config=dict(vocab_size=vocab_size, hidden_size=text_width,
                         intermediate_size=2 * text_width, num_hidden_layers=2,
                         num_attention_heads=4, max_position_embeddings=MAX_LENGTH,
                         hidden_act=act, bos_token_id=end_id - 1, eos_token_id=eos,
                         pad_token_id=end_id, projection_dim=20),
        vision_config=dict(hidden_size=vision_width, intermediate_size=3 * vision_width,
                           num_hidden_layers=2, num_attention_heads=2, image_size=16,
                           patch_size=8 if vision_width < 32 else 4, hidden_act=act,
                           projection_dim=20),
        projection_dim=20)
    model = randomize(CLIPModel(config), seed)
    extra = {} if half else {  # buffers that old checkpoints carry
        "text_model.embeddings.position_ids": torch.arange(MAX_LENGTH)[None]}
    save_model(model, folder, "model", half=half, rename=hub_names, extra=extra)

    start, end = end_id - 1, end_id
    high = vocab_size - 1  # not the end token, though larger, where the vocabulary goes on
    rows = [[start, 320, 40, 7, end], [start, 5, 2, high if eos != 2 else 17, 300, 11, end],
            [start] + list(range(100, 114)) + [end]]
    input_ids = torch.tensor([row + [end] * (MAX_LENGTH - len(row)) for row in rows])
    attention_mask = torch.tensor([[1] * len(row) + [0] * (MAX_LENGTH - len(row)) for row in rows])
    generator = torch.Generator().manual_seed(seed + 1)
    pixel_values = torch.randn(2, 3, 16, 16, generator=generator).requires_grad_()
    inputs = dict(input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values)

    embeddings = []

    def keep(_module, _args, output):
        output.retain_grad()
        embeddings.append(output)

    handle = model.text_model.embeddings.token_embedding.register_forward_hook(keep)
    text = model.text_model(input_ids=input_ids)
    handle.remove()
    vision = model.vision_model(pixel_values=pixel_values)
    both = model(input_ids=input_ids, pixel_values=pixel_values)
    masked = model.text_model(input_ids=input_ids, attention_mask=attention_mask)
    text_embeds = model.text_projection(text.pooler_output)
    image_embeds = model.visual_projection(vision.pooler_output)
    loss_text, inputs["text_weight"] = weighted_loss(text_embeds, seed + 2)
    loss_image, inputs["image_weight"] = weighted_loss(image_embeds, seed + 3)
    loss_text.backward()
    loss_image.backward()
    save_tensors(folder / "inputs.safetensors", inputs)
    save_tensors(folder / "expected.safetensors", {
        "text.last_hidden_state": text.last_hidden_state, "text.pooler_output": text.pooler_output,
        "text.text_embeds": text_embeds, "vision.last_hidden_state": vision.last_hidden_state,
        "vision.pooler_output": vision.pooler_output, "vision.image_embeds": image_embeds,
        "masked.last_hidden_state": masked.last_hidden_state,
        "masked.pooler_output": masked.pooler_output,
        "clip.text_embeds": both.text_embeds, "clip.image_embeds": both.image_embeds,
        "clip.logits_per_image": both.logits_per_image,
        "grad.token_embeddings": embeddings[0].grad, "grad.pixel_values": pixel_values.grad})


UNET_GRADIENTS = ["conv_in.weight", "time_embedding.linear_1.weight",
                  "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
                  "mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.bias",
                  "mid_block.resnets.0.time_emb_proj.weight",
                  "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight",
                  "mid_block.attentions.0.proj_in.weight", "conv_norm_out.bias"]


def unet_case(unet, width, seed):
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randn(2, 4, 8, 8, generator=generator).requires_grad_()
    states = torch.randn(2, MAX_LENGTH, width, generator=generator).requires_grad_()
    timestep = torch.tensor([981, 20])
    out = unet(sample, timestep, encoder_hidden_states=states).sample
    loss, weight = weighted_loss(out, seed + 1)
    unet.zero_grad()
    loss.backward()
    parameters = dict(unet.named_parameters())
    expected = {"unet.sample": out, "unet.grad.sample": sample.grad,
                "unet.grad.encoder_hidden_states": states.grad}
    for name in UNET_GRADIENTS:
        expected[f"unet.grad.{name}"] = parameters[name].grad
    inputs = {"unet.sample": sample, "unet.timestep": timestep,
              "unet.encoder_hidden_states": states, "unet.weight": weight}
    return inputs, expected


def vae_case(vae, seed):
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(1, 3, 32, 48, generator=generator) * 2 - 1).requires_grad_()
    latents = torch.randn(1, 4, 4, 6, generator=generator).requires_grad_()
    moments = vae.encode(images).latent_dist
    decoded = vae.decode(latents).sample
    loss_mean, mean_weight = weighted_loss(moments.mean, seed + 1)
    loss_image, image_weight = weighted_loss(decoded, seed + 2)
    loss_mean.backward()
    loss_image.backward()
    return ({"vae_encoder.sample": images, "vae_decoder.sample": latents,
             "vae.mean_weight": mean_weight, "vae.image_weight": image_weight},
            {"vae_encoder.latent_dist.mean": moments.mean,
             "vae_encoder.latent_dist.logvar": moments.logvar,
             "vae_decoder.sample": decoded, "vae.grad.images": images.grad,
             "vae.grad.latents": latents.grad})


def old_attention_names(name):
    """The VAE attention's names in snapshots of 2022, Stable Diffusion 1.4's among them."""
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"),
                     ("to_out.0", "proj_attn")):
        name = re.sub(rf"(attentions\.0)\.{re.escape(new)}\.", rf"\1.{old}.", name)
    return name


SHARED_SAMPLER_KEYS = {"clip_sample": False, "skip_prk_steps": True}


def sample_cases(pipe, guidance, seed):
    """The whole pipeline with its own sampler and with the other one."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    inputs, expected = {"latents": latents}, {}
    own = pipe.scheduler
    for name, scheduler, negative in (
            ("ddim", DDIMScheduler.from_config(own.config, **SHARED_SAMPLER_KEYS), ""),
            ("pndm", PNDMScheduler.from_config(own.config, **SHARED_SAMPLER_KEYS), "a blue dog")):
        pipe.scheduler = scheduler
        arguments = dict(prompt="a picture of a poodle on a red background", num_inference_steps=6,
                         negative_prompt=negative, guidance_scale=guidance, height=64, width=64,
                         latents=latents.clone())
        with torch.no_grad():
            expected[f"{name}.latents"] = pipe(**arguments, output_type="latent").images
            expected[f"{name}.image"] = torch.as_tensor(pipe(**arguments, output_type="pt").images)
    pipe.scheduler = own
    return inputs, expected


def make_pipeline(name, tokens, merges, *, text_width, act, pad, unet_config, scheduler, seed,
                  half, guidance, vae_channels, old_names):
    folder = ROOT / name
    write_tokenizer(folder / "tokenizer", tokens, merges, pad)
    end = len(tokens) - 1
    text_config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=text_width, intermediate_size=2 * text_width,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=MAX_LENGTH,
        hidden_act=act, bos_token_id=end - 1, eos_token_id=2 if half else end,
        pad_token_id=0 if pad == "!" else end)
    text = randomize(CLIPTextModel(text_config), seed)
    unet = randomize(UNet2DConditionModel(
        sample_size=8, norm_num_groups=8, cross_attention_dim=text_width, **unet_config), seed + 1)
    vae = randomize(AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=vae_channels, layers_per_block=1, latent_channels=4, norm_num_groups=4,
        sample_size=64), seed + 2)
    save_model(text, folder / "text_encoder", "model", half=half, rename=hub_names)
    save_model(unet, folder / "unet", "diffusion_pytorch_model", half=True)
    save_model(vae, folder / "vae", "diffusion_pytorch_model", half=half,
               rename=old_attention_names if old_names else None)
    scheduler.save_pretrained(folder / "scheduler")
    # As on the hub, where one file serves every sampler: the keys of the other one stay in it.
    scheduler_file = folder / "scheduler" / "scheduler_config.json"
    scheduler_config = dict(json.loads(scheduler_file.read_text()), **SHARED_SAMPLER_KEYS)
    write_json(scheduler_file, scheduler_config, indent=2)
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]},
        indent=2)
    inputs, expected = {}, {}
    for more_inputs, more_expected in (unet_case(unet, text_width, seed + 3),
                                       vae_case(vae, seed + 4),
                                       sample_cases(pipe, guidance, seed + 5)):
        inputs.update(more_inputs)
        expected.update(more_expected)
    ids = pipe.tokenizer(["a picture of a poodle", ""], padding="max_length",
                         max_length=MAX_LENGTH, return_tensors="pt").input_ids
    inputs["text.input_ids"] = ids
    out = text(ids)
    expected["text.last_hidden_state"] = out.last_hidden_state
    expected["text.pooler_output"] = out.pooler_output
    save_tensors(folder / "inputs.safetensors", inputs)
    save_tensors(folder / "expected.safetensors", expected)
    write_json(folder / "tokenizer_expected.json", probe_tokenizer(folder / "tokenizer"), indent=1)


def main():
    for name in ("clip_quick_gelu", "clip_legacy", "sd1", "sd2"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    texts = training_texts()
    tokens, merges = train_bpe(texts, NUM_MERGES)
    write_json(ROOT / "tokenizer_texts.json", {"texts": texts, "num_merges": NUM_MERGES}, indent=1)
    end = len(tokens) - 1

    make_clip("clip_quick_gelu", text_width=24, vision_width=32, act="quick_gelu", eos=end,
              vocab_size=end + 4, end_id=end, seed=100, half=False)
    make_clip("clip_legacy", text_width=32, vision_width=16, act="gelu", eos=2,
              vocab_size=end + 1, end_id=end, seed=200, half=True)
    betas = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                 steps_offset=1, set_alpha_to_one=False)
    # Stable Diffusion 1: PNDM, 1x1 convolutions around attention, one number of heads, old names.
    make_pipeline(
        "sd1", tokens, merges, text_width=24, act="quick_gelu", pad="<|endoftext|>",
        unet_config=dict(
            down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            block_out_channels=[16, 16, 32], layers_per_block=1, attention_head_dim=2),
        scheduler=PNDMScheduler(skip_prk_steps=True, **betas), seed=300, half=True, guidance=7.5,
        vae_channels=[8, 8, 16, 16], old_names=True)
    # Stable Diffusion 2: DDIM, v-prediction, linear projections, heads a level, pad "!".
    make_pipeline(
        "sd2", tokens, merges, text_width=32, act="gelu", pad="!",
        unet_config=dict(
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[16, 24],
            layers_per_block=2, attention_head_dim=[2, 3], use_linear_projection=True),
        scheduler=DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **betas),
        seed=400, half=False, guidance=3.0, vae_channels=[4, 8, 8, 16], old_names=False)
    size = sum(f.stat().st_size for f in ROOT.rglob("*") if f.is_file())
    print(f"{ROOT}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
