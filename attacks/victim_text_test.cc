#include "attacks/victim_text.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>

#include "attacks/alarm.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

// Keeps what it was asked about; a filter of pictures, or hooks that read prompts.
class MarginHooks : public Hooks {
 public:
  explicit MarginHooks(bool of_pictures) : of_pictures_(of_pictures) {}
  bool OnlyFilters() const override { return of_pictures_; }
  at::Tensor TextMargin(const TextBatch& text) const override {
    asked = text.pooled;
    return 8 * text.pooled.select(1, 0);
  }
  mutable at::Tensor asked;

 private:
  bool of_pictures_;
};

at::Tensor IdsOf(const std::string& text) {
  const std::vector<int64_t> ids = TinyTokenizer()->Encode(text);
  return at::tensor(ids, at::kLong).unsqueeze(0);
}

double Farthest(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace

TEST_CASE("alarm: the hinge, by hand") {
  const at::Tensor margin = at::tensor({-3.0, -0.02, -0.01, 0.0, 2.0}, at::kDouble);
  const at::Tensor wanted = at::tensor({0.0, 0.0, 0.01, 0.02, 2.02}, at::kDouble);
  CHECK(Farthest(Alarm(margin), wanted) < 1e-12);
}

TEST_CASE("modality gap: a made-up one is found, and its removal mends a filter's boundary") {
  const NoGrad no_grad;
  // Texts in two groups at +-1 of the first axis; pictures of them are half as far apart and lie
  // elsewhere by (0.7, -0.4), with noise of 0.1 that cancels out.
  std::vector<at::Tensor> texts, pictures;
  for (int i = 0; i < 8; ++i) {
    const double side = i % 2 == 0 ? 1 : -1, noise = i / 2 % 2 == 0 ? 0.1 : -0.1;
    texts.push_back(at::tensor({side, 0.3 * i}, at::kDouble));
    pictures.push_back(at::tensor({0.5 * side + 0.7 + noise, 0.3 * i - 0.4 - noise}, at::kDouble));
  }
  const at::Tensor gap = ModalityGap(at::stack(pictures), at::stack(texts));
  CHECK(Farthest(gap, at::tensor({0.7, -0.4}, at::kDouble)) < 1e-12);
  // The boundary between the pictures is at 0.7. It calls all but the one side's texts right only
  // once they are moved.
  const auto margins = [&](const at::Tensor& points) { return points.select(1, 0) - 0.7; };
  CHECK(margins(at::stack(pictures)).gt(0).sum().item<int64_t>() == 4);
  CHECK(Farthest(margins(at::stack(texts) + gap), at::stack(texts).select(1, 0)) < 1e-12);
  CHECK(Farthest(margins(at::stack(texts)), at::stack(texts).select(1, 0)) > 0.6);
}

TEST_CASE("adaptive attacks ask a picture filter about texts moved by the gap") {
  const NoGrad no_grad;
  const MarginHooks hooks(/*of_pictures=*/true);
  TinyTarget target(&hooks);
  VictimText victim(target);
  const std::string candidate = "a cat";
  victim.Evaluate(IdsOf(candidate));
  const ClipModel& clip = target.Surrogate();
  const auto embed = [&](const std::string& text) {
    return nn::Normalised(EmbedTexts(clip, {text}));
  };
  CHECK(Farthest(hooks.asked, embed(candidate)) < 1e-5);

  victim.Move(victim.Gap(target, TinyConcept(), TinyPrompt("t/0", "a picture of a poodle")));
  // Four pictures of each prompt, two steps each (tests/tiny_models.cc).
  CHECK(target.ledger().unet_evaluations == 16);
  const at::Tensor pictures = nn::Normalised(EmbedPictures(clip, TinyImages(4, 5))).mean(0);
  const at::Tensor texts =
      (embed("a picture of a poodle") + embed("a picture of a dog")).div(2).squeeze(0);
  const VictimText::View view = victim.Evaluate(IdsOf(candidate));
  const at::Tensor moved = nn::Normalised(embed(candidate) + (pictures - texts));
  CHECK(Farthest(hooks.asked, moved) < 1e-5);
  CHECK(Farthest(hooks.asked, embed(candidate)) > 1e-3);
  CHECK(Farthest(view.alarm, Alarm(8 * moved.select(1, 0))) < 1e-4);
}

TEST_CASE("a margin that is of texts is asked about texts") {
  const NoGrad no_grad;
  const MarginHooks hooks(/*of_pictures=*/false);
  TinyTarget target(&hooks);
  VictimText victim(target);
  victim.Move(victim.Gap(target, TinyConcept(), TinyPrompt()));
  CHECK(target.ledger().unet_evaluations == 0);
  victim.Evaluate(IdsOf("a cat"));
  CHECK(Farthest(hooks.asked, nn::Normalised(EmbedTexts(target.Surrogate(), {"a cat"}))) < 1e-5);
}

}  // namespace excise
