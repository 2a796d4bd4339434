// Bar 1: the reporting judge. Garbage comes in kinds that are drawn, and in kinds that the model
// itself makes: pictures decoded half-way, and those of a U-Net with ruined weights.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <mutex>

#include "core/error.h"
#include "datasets/emoji/emoji_garbage.h"
#include "judges/template_judge.h"
#include "models/nets/judge_net.h"
#include "pretraining/bars/bars_bench.h"

namespace excise {
namespace {

constexpr double kRuin = 0.5;  // noise on weights, in standard deviations of the tensor

at::Tensor BestClasses(const JudgeNet& judge, const at::Tensor& images) {
  return JudgeForward(judge.config, judge.weights, images).class_logits.argmax(1);
}

at::Tensor DrawnGarbage(const Bench& bench, GarbageKind kind, int64_t first, int64_t count) {
  std::vector<Image8> images;
  for (int64_t i = first; i < first + count; ++i) {
    Philox rng({bench.options.seed, fmt::format("bars/garbage/{}", static_cast<int>(kind)),
                static_cast<uint64_t>(i), Stream::kData, 0});
    std::vector<bool> used(bench.world->classes().size(), false);
    const auto draw = [&] {
      Scene scene = bench.world->SampleScene(rng);
      while (scene.style != SceneStyle::kPlain || used[scene.emoji]) {
        scene = bench.world->SampleScene(rng);
      }
      used[scene.emoji] = true;
      const Image8 image = bench.world->Render(scene);
      return FloatImage(image.pixels.begin(), image.pixels.end());
    };
    images.push_back(ToImage8(DrawGarbage(kind, rng, draw)));
  }
  return ToTensor(images);
}

void MeasureDrawnGarbage(const Bench& bench, BarReport* report) {
  static const char* const kNames[kNumGarbageKinds] = {"noise",      "flat", "blend", "scramble",
                                                       "half noise", "blob", "warp"};
  const JudgeNet& judge = bench.judges->reporting();
  const int64_t n = 16 * bench.options.n;
  Tally all;
  std::string worst;
  for (int kind = 0; kind < kNumGarbageKinds; ++kind) {
    Tally tally;
    std::mutex mutex;
    ForBatches(bench, fmt::format("garbage: {}", kNames[kind]), n,
               [&](int64_t first, int64_t count) {
                 const at::Tensor images =
                     DrawnGarbage(bench, static_cast<GarbageKind>(kind), first, count);
                 const at::Tensor seen = BestClasses(judge, images);
                 const std::lock_guard<std::mutex> lock(mutex);
                 for (int64_t i = 0; i < count; ++i) {
                   const bool rejected = seen.data_ptr<int64_t>()[i] == judge.config.num_classes;
                   tally.Add(rejected);
                   all.Add(rejected);
                 }
               });
    report->tables["garbage"][kNames[kind]]["rejected"] = TallyToJson(tally);
    if (tally.rate() < .95) worst += fmt::format("{} {:.1f} % ", kNames[kind], 100 * tally.rate());
  }
  report->Set("judge.garbage",
              MeasureRate(all, worst.empty() ? "every kind at least 95 %" : worst));
}

// Keeps the latents after some of the steps.
class CaptureHooks : public Hooks {
 public:
  CaptureHooks(std::vector<int64_t> steps, std::vector<at::Tensor>* out)
      : steps_(std::move(steps)), out_(out) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch&) const override {
    return std::make_unique<Run>(*this);
  }

 private:
  class Run : public HookRun {
   public:
    explicit Run(const CaptureHooks& hooks) : hooks_(hooks) {}
    at::Tensor Mix(int64_t step, at::Tensor latents) override {
      for (const int64_t wanted : hooks_.steps_) {
        if (step + 1 == wanted) hooks_.out_->push_back(latents.clone());
      }
      return latents;
    }

   private:
    const CaptureHooks& hooks_;
  };
  std::vector<int64_t> steps_;
  std::vector<at::Tensor>* out_;
};

// Asks for each kind of garbage that the model makes.
int64_t ModelGarbage(const Bench& bench) { return 8 * bench.options.n; }

std::vector<Ask> GarbageAsks(const Bench& bench, const std::string& id) {
  std::vector<Ask> asks;
  const std::vector<EmojiClass>& classes = bench.world->classes();
  for (int64_t i = 0; i < ModelGarbage(bench); ++i) {
    const int emoji = static_cast<int>(i % static_cast<int64_t>(classes.size()));
    asks.push_back(MakeAsk(bench, fmt::format("{}/{}", id, i), ThingOf(classes[emoji]), emoji, -1));
  }
  return asks;
}

struct Rejections {
  Tally rejected;
  int64_t shown = 0;      // left out: both judges see the same class, so it is no garbage
  int64_t templates = 0;  // in which the template judge sees a class, right or wrong
};

// Whether the reporting judge rejects `pictures`. The template judge, which was not learned, says
// which of its other answers are right: some half-drawn bananas are bananas.
Rejections Reject(const Bench& bench, const TemplateJudge& templates, const at::Tensor& pictures) {
  const int64_t n = pictures.size(0);
  std::vector<TemplateJudge::Match> matches(static_cast<size_t>(n));
  ForBatches(bench, "template judge", n, [&](int64_t first, int64_t count) {
    const auto batch = templates.Report(pictures.narrow(0, first, count));
    std::copy(batch.begin(), batch.end(), matches.begin() + first);
  });
  const std::vector<Verdict> verdicts = JudgePictures(bench, pictures);
  Rejections found;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const std::string& seen = verdicts[i].class_id;
    found.templates += matches[i].class_id.empty() ? 0 : 1;
    if (!seen.empty() && seen == matches[i].class_id) {
      ++found.shown;
    } else {
      found.rejected.Add(seen.empty());
    }
  }
  return found;
}

std::string LeftOut(const Rejections& found) {
  return fmt::format(
      "left out: {} in which both judges see the same class; the template judge "
      "alone rejects {} of {}",
      found.shown, found.rejected.n + found.shown - found.templates,
      found.rejected.n + found.shown);
}

// Decoded after a quarter and after half of the sampler's steps, noise and all.
void MeasureHalfDenoised(const Bench& bench, const TemplateJudge& templates, BarReport* report) {
  const std::vector<Ask> asks = GarbageAsks(bench, "bars/half_denoised");
  const int64_t n = ModelGarbage(bench), steps = bench.options.sampler.steps;
  const int64_t quarter = std::max<int64_t>(1, steps / 4), half = std::max<int64_t>(1, steps / 2);
  const at::Tensor pictures = at::empty({2 * n, 3, kSceneSize, kSceneSize}, at::kByte);
  ForBatches(bench, "half-denoised", n, [&](int64_t first, int64_t count) {
    std::vector<at::Tensor> latents;
    const CaptureHooks hooks({quarter, half}, &latents);
    DrawLatents(bench, *bench.base, asks, first, count, &hooks);
    for (size_t k = 0; k < 2; ++k) {
      pictures.narrow(0, static_cast<int64_t>(k) * n + first, count)
          .copy_(ToUint8(DecodeImages(*bench.base, latents.at(k))));
    }
  });
  const Rejections early = Reject(bench, templates, pictures.narrow(0, 0, n));
  const Rejections late = Reject(bench, templates, pictures.narrow(0, n, n));
  const Rejections all{
      {early.rejected.right + late.rejected.right, early.rejected.n + late.rejected.n},
      early.shown + late.shown,
      early.templates + late.templates};
  report->Set("judge.half_denoised", MeasureRate(all.rejected, LeftOut(all)));
  report->tables["garbage"]["quarter denoised"]["rejected"] = TallyToJson(early.rejected);
  report->tables["garbage"]["half denoised"]["rejected"] = TallyToJson(late.rejected);
  WriteSheet(bench, "half_denoised.png", pictures, 16);
}

Backbone Ruined(const Bench& bench) {
  Backbone model = *bench.base;
  for (const auto& [name, tensor] : bench.base->unet) {
    if (tensor.dim() < 2) continue;
    at::Tensor noise = at::empty(tensor.sizes(), at::kFloat);
    Philox rng({bench.options.seed, "bars/ruin/" + name, 0, Stream::kInit, 0});
    rng.FillNormal(noise.data_ptr<float>(), static_cast<size_t>(noise.numel()));
    const double deviation = (tensor - tensor.mean()).square().mean().sqrt().item<double>();
    model.unet.Set(name, tensor + noise * (kRuin * deviation));
  }
  return model;
}

// What a ruined model would draw.
void MeasureBrokenModel(const Bench& bench, const TemplateJudge& templates, BarReport* report) {
  const std::vector<Ask> asks = GarbageAsks(bench, "bars/broken");
  const at::Tensor pictures = DrawPictures(bench, Ruined(bench), asks, "broken model");
  const Rejections all = Reject(bench, templates, pictures);
  report->Set("judge.broken_model", MeasureRate(all.rejected, LeftOut(all)));
  report->tables["garbage"]["broken model"]["rejected"] = TallyToJson(all.rejected);
  WriteSheet(bench, "broken_model.png", pictures, 16);
}

void MeasureAgreement(const Bench& bench, const TemplateJudge& templates, BarReport* report) {
  const SceneSet set{"bars/template", std::max<int64_t>(1, bench.options.n / 2), true};
  const auto classes = static_cast<int64_t>(bench.world->classes().size());
  std::vector<std::vector<int64_t>> confusion(classes + 1, std::vector<int64_t>(classes + 1, 0));
  std::map<std::string, Tally> right;
  std::mutex mutex;
  const auto index = [&](const std::string& id) -> int64_t {
    return id.empty() ? classes : bench.world->ClassIndex(id);
  };
  ForBatches(bench, "template judge", SizeOf(bench, set), [&](int64_t first, int64_t count) {
    const SceneBatch batch = DrawScenes(bench, set, first, count);
    const at::Tensor images = ToUint8(batch.images);
    const std::vector<Verdict> verdicts = bench.judges->Report(images).verdicts;
    const std::vector<TemplateJudge::Match> matches = templates.Report(images);
    const std::lock_guard<std::mutex> lock(mutex);
    for (int64_t i = 0; i < count; ++i) {
      ++confusion[index(verdicts[i].class_id)][index(matches[i].class_id)];
      const std::string& truth = bench.world->classes()[batch.scenes[i].emoji].id;
      right[truth].Add(matches[i].class_id == truth);
    }
  });
  report->Set("judge.kappa", MeasureKappa(confusion));
  for (const auto& [name, tally] : right) {
    report->tables["classes"][name]["template_judge"] = TallyToJson(tally);
  }
}

}  // namespace

void MeasureJudges(const Bench& bench, BarReport* report) {
  for (const char* id : {"judge.half_denoised", "judge.broken_model"}) {
    report->Explain(id, "unet, vae, text_encoder or the reporting judge is not there yet");
  }
  MeasureOracle(bench, report);
  if (!bench.judges) {
    for (const char* id : {"judge.scenes", "judge.garbage", "judge.kappa"}) {
      report->Explain(id, "judges/reporting is not there yet");
    }
    return;
  }
  const auto classify = [&](const at::Tensor& images) {
    return BestClasses(bench.judges->reporting(), images);
  };
  MeasureScenes(bench, "judge.scenes", "judge", classify, report);
  MeasureDrawnGarbage(bench, report);
  const std::shared_ptr<const TemplateJudge> templates = TemplateJudge::Build(*bench.world);
  MeasureAgreement(bench, *templates, report);
  if (!bench.base) return;
  MeasureHalfDenoised(bench, *templates, report);
  MeasureBrokenModel(bench, *templates, report);
}

}  // namespace excise
