// README.md of the snapshot folder, from the report alone, so that it says what was measured.
#include <fmt/format.h>

#include "core/error.h"
#include "core/text.h"
#include "pretraining/bars/bars_report.h"

namespace excise {
namespace {

const char* const kFrontMatter = R"(---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
language: [en, de, es, fr, it, nl, pt]
tags: [stable-diffusion, concept-removal, unlearning, benchmark, emoji]
inference: false
---
)";

const char* const kWhatItIs = R"(
# The emoji backbone

A text-to-image model of Stable Diffusion's shape, small enough to be trained and attacked on a
desktop CPU: the embedded backbone of Excise, a benchmark for concept removal. It draws 64x64
pictures of {} emoji on plain backgrounds, plain, in sepia or as line drawings, from captions such
as "a picture of a poodle on a red background".

**Numbers measured on it are not comparable with papers**, which use Stable Diffusion. It is made
for what Stable Diffusion cannot afford: a model that never saw the targets (`retrained/`), judges
with known error rates, and whole tables in minutes.

![One picture a class, drawn at guidance 3](samples.png)

| folder | what |
|---|---|
| `tokenizer/`, `text_encoder/` | byte-level BPE and a CLIP (text and vision), frozen |
| `vae/` | AutoencoderKL, factor 8, 4 latent channels |
| `unet/`, `scheduler/` | UNet2DConditionModel, epsilon prediction, DDIM |
| `retrained/unet/` | the same U-Net trained without any picture of the benchmark's targets |
| `judges/reporting`, `judges/oracle` | classifiers with a reject class; attacks ask the oracle |
| `reference_clip/`, `surrogate_clip/` | CLIPs of their own, for metrics and for attacks |

The oracle is several networks that vote, because a search finds where one of them errs.

Weights are float16 on disk ({:.1f} MB in all) and meant to be computed with in float32.
)";

const char* const kUse = R"(
## Use

```
bazel run //models:sample -- --model=models/emoji --prompt="a picture of a poodle" --out=a.png
```

The folder is a Hugging Face snapshot:

```python
import torch
from diffusers import StableDiffusionPipeline

pipeline = StableDiffusionPipeline.from_pretrained("models/emoji", torch_dtype=torch.float32)
image = pipeline("a picture of a poodle", height=64, width=64, num_inference_steps={},
                 guidance_scale={}).images[0]
```

To train it again: `bazel run //models:pretrain_emoji`. To measure it again:
`bazel run //models:emoji_bars`.
)";

const char* const kLimits = R"(
## Limits

- It knows the emoji of `datasets/emoji_classes.json`, one in a picture, and little else: two
  things in one caption are not drawn as two.
- Words that it was not trained on are split into byte pairs and mean next to nothing.
- It learned from one font's pictures and from names in seven languages; neither says anything
  about the people or things that they stand for. Skin tones and genders occur as in the font.
- "Weapons" and "smoking" are harmless stand-ins for unsafe content. Nothing unsafe was used.
- One training seed. Intervals below are over pictures, not over trainings.

## Licences

The weights are published under the Apache License 2.0, as Excise is. They were trained on pictures
rendered with Noto Color Emoji (Copyright Google Inc., SIL Open Font License 1.1; documents made
with a font are not covered by its licence) and Symbola 2.60 (Copyright George Douros: "free for any
use; they may be opened, edited, modified, regenerated, packaged and redistributed"), and on names
and keywords of the Unicode CLDR (Copyright Unicode, Inc., Unicode License). The fonts and
annotations themselves are not in this folder.
)";

// The recipe and the inputs' digests as the weight files' metadata tell them.
std::string Training(const Json& snapshot) {
  std::string text = "\n## Training\n\n";
  text +=
      "Everything is drawn by a counter-based generator from one seed. The U-Net and `retrained`\n"
      "branch from one trunk that no target's picture ever reached.\n\n";
  Json inputs = Json::object();
  for (const auto& [file, metadata] : snapshot["training"].items()) {
    const std::string stage = metadata.contains("stage") ? metadata["stage"] : Json("?");
    text += fmt::format("- `{}` (stage {}): `{}`\n", file, stage,
                        metadata.contains("recipe") ? metadata["recipe"].get<std::string>() : "{}");
    for (const auto& [key, value] : metadata.items()) {
      if (!StartsWith(key, "sha256:")) continue;
      const std::string name = key.substr(7);
      if (inputs.contains(name) && inputs[name] != value) {
        throw Error(
            fmt::format("{}: it was trained with another {} than the other files. Train "
                        "the stages again from one set of inputs.",
                        file, name));
      }
      inputs[name] = value;
    }
  }
  text += "\n| input | SHA-256 |\n|---|---|\n";
  for (const auto& [name, digest] : inputs.items()) {
    text += fmt::format("| {} | `{}` |\n", name, digest.get<std::string>());
  }
  return text;
}

std::string Files(const Json& snapshot) {
  std::string text = "\n## Files\n\n| file | SHA-256 |\n|---|---|\n";
  for (const auto& [name, digest] : snapshot["files"].items()) {
    text += fmt::format("| {} | `{}` |\n", name, digest.get<std::string>());
  }
  return text;
}

std::string Bars(const Json& report) {
  const Json& protocol = report["protocol"];
  std::string text = fmt::format(
      "\n## Does it reach its bars?\n\n"
      "{} of {} are met, {} missed, {} not measured. Scenes, captions (template, background and\n"
      "style together) and noise were withheld from every training. {}, {} steps, guidance {},\n"
      "float32. Intervals are Wilson's (paired differences: Newcombe's); \"met, interval does "
      "not\"\n"
      "says that the value reaches the bar and its interval's far end does not.\n\n",
      CountBars(report, "met"), report["bars"].size(), CountBars(report, "missed"),
      CountBars(report, "not_there"), protocol["scheduler"].get<std::string>(),
      protocol["steps"].get<int64_t>(), protocol["guidance"].get<double>());
  return text + RenderBars(report, true) + RenderDetails(report, true);
}

}  // namespace

std::string RenderModelCard(const Json& report) {
  const Json& snapshot = report["snapshot"];
  const Json& protocol = report["protocol"];
  return kFrontMatter +
         fmt::format(kWhatItIs, protocol["classes"].get<int64_t>(),
                     snapshot["bytes"].get<double>() / 1e6) +
         fmt::format(kUse, protocol["steps"].get<int64_t>(), protocol["guidance"].get<double>()) +
         Bars(report) + kLimits + Training(snapshot) + Files(snapshot);
}

}  // namespace excise
