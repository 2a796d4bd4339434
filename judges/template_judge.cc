#include "judges/template_judge.h"

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

constexpr int64_t kSide = kSceneSize / 2;  // correlation works at half size
constexpr int64_t kPixels = kSide * kSide;
constexpr float kSizes[] = {44, 47, 50, 53, 56};  // longer side of a glyph, pixels
constexpr int64_t kMaxShift = 2;                  // at half size, each way

// float (3, 32, 32) in [0,1] of uint8 (3, 64, 64).
at::Tensor HalfSize(const at::Tensor& image) {
  return at::avg_pool2d(image.to(at::kFloat).div(255).unsqueeze(0), 2)[0];
}

at::Tensor RenderHalf(const EmojiWorld& world, const Scene& scene) {
  Image8 image = world.Render(scene);
  return HalfSize(
      at::from_blob(image.pixels.data(), {3, kSceneSize, kSceneSize}, at::kByte).clone());
}

int BackgroundIndex(const EmojiWorld& world, std::string_view name) {
  const std::vector<Background>& all = world.backgrounds();
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].name == name) return static_cast<int>(i);
  }
  throw Error(
      fmt::format("The emoji world has no background '{}': templates cannot be cut out.", name));
}

at::Tensor Colour(const Background& background) {
  return at::tensor(
             {background.rgb[0] / 255.0, background.rgb[1] / 255.0, background.rgb[2] / 255.0},
             at::kFloat)
      .view({3, 1, 1});
}

// a T and a of a glyph, (4, 32, 32): two backgrounds tell how much of each shines through.
at::Tensor CutOut(const EmojiWorld& world, Scene scene, int light, int dark) {
  scene.background = light;
  const at::Tensor on_light = RenderHalf(world, scene);
  scene.background = dark;
  const at::Tensor on_dark = RenderHalf(world, scene);
  const at::Tensor light_colour = Colour(world.backgrounds()[light]);
  const at::Tensor dark_colour = Colour(world.backgrounds()[dark]);
  const at::Tensor through =
      on_light.sub(on_dark).div(light_colour.sub(dark_colour)).mean(0, true).clamp(0, 1);
  const at::Tensor colour = on_dark.sub(through.mul(dark_colour));
  return at::cat({colour, through.neg().add(1)});
}

// Median of the picture's border, (3).
at::Tensor BorderColour(const at::Tensor& image) {
  const at::Tensor border = at::cat({image.select(1, 0), image.select(1, kSide - 1),
                                     image.select(2, 0), image.select(2, kSide - 1)},
                                    1);
  return std::get<0>(border.median(1));
}

// The picture moved by (dx, dy), zeros where nothing was.
at::Tensor Shifted(const at::Tensor& image, int64_t dx, int64_t dy) {
  at::Tensor result = at::zeros(image.sizes(), at::kFloat);
  const int64_t w = kSide - std::abs(dx), h = kSide - std::abs(dy);
  result.slice(1, std::max<int64_t>(dy, 0), std::max<int64_t>(dy, 0) + h)
      .slice(2, std::max<int64_t>(dx, 0), std::max<int64_t>(dx, 0) + w)
      .copy_(image.slice(1, std::max<int64_t>(-dy, 0), std::max<int64_t>(-dy, 0) + h)
                 .slice(2, std::max<int64_t>(-dx, 0), std::max<int64_t>(-dx, 0) + w));
  return result;
}

}  // namespace

std::shared_ptr<const TemplateJudge> TemplateJudge::Build(const EmojiWorld& world,
                                                          double threshold) {
  const NoGrad no_grad;
  auto judge = std::make_shared<TemplateJudge>();
  judge->threshold_ = threshold;
  const int light = BackgroundIndex(world, "white"), dark = BackgroundIndex(world, "black");
  std::vector<at::Tensor> templates;
  for (size_t c = 0; c < world.classes().size(); ++c) {
    judge->class_ids_.push_back(world.classes()[c].id);
    for (size_t variant = 0; variant < world.classes()[c].glyphs.size(); ++variant) {
      for (const float size : kSizes) {
        for (const bool mirror : {false, true}) {
          Scene scene;
          scene.emoji = static_cast<int>(c);
          scene.variant = static_cast<int>(variant);
          scene.size = size;
          scene.mirror = mirror;
          templates.push_back(CutOut(world, scene, light, dark).flatten());
          judge->class_of_.push_back(static_cast<int64_t>(c));
        }
      }
    }
  }
  judge->templates_ = at::stack(templates);
  const at::Tensor planes = judge->templates_.view({-1, 4, kPixels});
  const at::Tensor colour = planes.slice(1, 0, 3), alpha = planes.slice(1, 3);
  judge->moments_ =
      at::cat({colour.square().sum(2), colour.mul(alpha).sum(2), alpha.square().sum(2)}, 1);
  return judge;
}

TemplateJudge::Match TemplateJudge::ReportOne(const at::Tensor& image) const {
  const at::Tensor background = BorderColour(image);
  const at::Tensor contrast = image.sub(background.view({3, 1, 1}));
  const double length = contrast.norm().item<double>();
  const auto classes = static_cast<int64_t>(class_ids_.size());
  if (length < 1e-3) return {"", 0, at::zeros({classes}, at::kFloat)};  // a uniform picture

  std::vector<at::Tensor> rows;  // (I - b) by channel, and -sum_channels b (I - b)
  for (int64_t dy = -kMaxShift; dy <= kMaxShift; ++dy) {
    for (int64_t dx = -kMaxShift; dx <= kMaxShift; ++dx) {
      const at::Tensor moved = Shifted(contrast, dx, dy).view({3, kPixels});
      rows.push_back(at::cat({moved, at::matmul(background.neg().unsqueeze(0), moved)}).flatten());
    }
  }
  const at::Tensor products = at::matmul(at::stack(rows), templates_.t());  // (shifts, templates)
  const at::Tensor square = moments_.slice(1, 0, 3)
                                .sum(1)
                                .sub(at::matmul(moments_.slice(1, 3, 6), background), 2)
                                .add(moments_.select(1, 6).mul(background.square().sum()));
  const at::Tensor cosines =
      std::get<0>(products.max(0)).div(square.clamp_min(1e-6).sqrt().mul(length));
  const int64_t best = cosines.argmax().item<int64_t>();
  Match match;
  match.score = cosines[best].item<double>();
  match.scores = at::full({classes}, -1, at::kFloat);
  for (size_t i = 0; i < class_of_.size(); ++i) {
    float& score = match.scores.data_ptr<float>()[class_of_[i]];
    score = std::max(score, cosines.data_ptr<float>()[i]);
  }
  if (match.score >= threshold_) match.class_id = class_ids_[class_of_[best]];
  return match;
}

std::vector<TemplateJudge::Match> TemplateJudge::Report(const at::Tensor& images) const {
  const NoGrad no_grad;
  std::vector<Match> matches;
  for (int64_t i = 0; i < images.size(0); ++i) matches.push_back(ReportOne(HalfSize(images[i])));
  return matches;
}

}  // namespace excise
