// Bars 2 and 3: what the autoencoder gives back, and what the CLIP models recognise.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "datasets/emoji/emoji_captions.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "pretraining/bars/bars_bench.h"

namespace excise {
namespace {

constexpr int64_t kPairPictures = 64;  // at least, on each side of a pair

// The direction of the mean over several captions of one thing (Radford et al., 2021, 3.1.4).
at::Tensor EmbedEnsemble(const ClipModel& clip, const std::vector<std::string>& texts) {
  return nn::Normalised(nn::Normalised(EmbedTexts(clip, texts)).mean(0, false));
}

// Captions of `thing` that were withheld from training: those without a background, and one for
// each background so that there are some in any case.
std::vector<std::string> WithheldCaptions(const EmojiWorld& world, const std::string& thing,
                                          int style_word) {
  std::vector<std::string> texts;
  const int templates = static_cast<int>(CaptionTemplates().size());
  for (int t = 0; t < templates; ++t) {
    if (PartOf(t, "", style_word) != CaptionPart::kTest) continue;
    texts.push_back(ComposeCaption(t, thing, "", style_word));
  }
  for (const Background& background : world.backgrounds()) {
    for (int t = 0; t < templates; ++t) {
      if (PartOf(t, background.name, style_word) != CaptionPart::kTest) continue;
      texts.push_back(ComposeCaption(t, thing, background.name, style_word));
      break;
    }
  }
  return texts;
}

// (classes, projection): each class's name in withheld captions; style_word -1 = none.
at::Tensor EmbedNames(const Bench& bench, const ClipModel& clip, int style_word) {
  const auto n = static_cast<int64_t>(bench.world->classes().size());
  std::vector<at::Tensor> rows(static_cast<size_t>(n));
  ForBatches(bench, "names", n, [&](int64_t first, int64_t count) {
    for (int64_t i = first; i < first + count; ++i) {
      const std::string thing = ThingOf(bench.world->classes()[i]);
      rows[i] = EmbedEnsemble(clip, WithheldCaptions(*bench.world, thing, style_word));
    }
  });
  return at::stack(rows);
}

struct ClipNames {
  const ClipModel& clip;
  std::string column;  // in the tables
  at::Tensor texts;    // (classes, projection)
};

void MeasureZeroShot(const Bench& bench, const ClipNames& names, const std::string& all_id,
                     const std::string& plain_id, BarReport* report) {
  const SceneTallies seen =
      ClassifyScenes(bench, {"bars/clip", 2 * bench.options.n}, names.column + ": zero-shot",
                     [&](const at::Tensor& images) {
                       const at::Tensor embeds = nn::Normalised(EmbedPictures(names.clip, images));
                       return at::Tensor(embeds.mm(names.texts.t()).argmax(1));
                     });
  report->Set(all_id, MeasureRate(seen.all));
  if (!plain_id.empty()) report->Set(plain_id, MeasureRate(seen.by_style.at("plain")));
  ReportTallies(seen, names.column, report);
}

// Pictures of one side of a pair, embedded.
struct PairPictures {
  at::Tensor embeddings;  // (n, projection)
  at::Tensor classes;     // (n)
};

// Plain pictures of a class, or pictures of all classes in a style.
PairPictures DrawPair(const Bench& bench, const Concept& subject, const ClipModel& clip,
                      const std::vector<std::string>& shown, const std::string& side) {
  const bool by_style = subject.judge.kind == "style";
  std::vector<int> classes;
  if (!by_style) {
    for (const std::string& id : shown) classes.push_back(bench.world->ClassIndex(id));
  }
  SceneRequest request{bench.options.seed,
                       fmt::format("bars/pair/{}/{}", subject.name, side),
                       std::max(kPairPictures, 2 * bench.options.n),
                       0,
                       nullptr,
                       nullptr};
  request.pick = [&](int64_t i) { return by_style ? -1 : classes[i % classes.size()]; };
  request.allowed = [&](const Scene& scene) {
    return StyleName(scene.style) == (by_style ? shown.front() : "plain");
  };
  const SceneBatch batch = MakeScenes(*bench.world, request, 0);
  return {nn::Normalised(EmbedPictures(clip, batch.images)), batch.classes};
}

// (n), true where the target's text is nearer: the best of the targets' names against the best of
// the anchors'.
at::Tensor NearerClass(const Bench& bench, const Concept& subject, const at::Tensor& texts,
                       const PairPictures& pictures) {
  const auto best = [&](const std::vector<std::string>& ids) {
    std::vector<at::Tensor> rows;
    for (const std::string& id : ids) rows.push_back(texts[bench.world->ClassIndex(id)]);
    return pictures.embeddings.mm(at::stack(rows).t()).amax(1);
  };
  return best(subject.judge.target) > best(subject.judge.anchor);
}

// The same for a style: "a sepia picture of a poodle" against "a picture of a poodle" where a
// poodle is shown. `blind`: the mean of these captions over all classes, as if it were not known
// what is shown, which is how a bare style name is used.
at::Tensor NearerStyle(const at::Tensor& styled, const at::Tensor& plain,
                       const PairPictures& pictures, bool blind) {
  const auto similarity = [&](const at::Tensor& texts) {
    const at::Tensor rows = blind
                                ? nn::Normalised(texts.mean(0, true)).expand_as(pictures.embeddings)
                                : texts.index_select(0, pictures.classes);
    return (pictures.embeddings * rows).sum({1});
  };
  return similarity(styled) > similarity(plain);
}

struct PairTallies {
  Tally known, blind;  // blind: styles only
};

PairTallies MeasurePair(const Bench& bench, const Concept& subject, const ClipNames& names) {
  const bool by_style = subject.judge.kind == "style";
  at::Tensor styled;
  if (by_style) styled = EmbedNames(bench, names.clip, StyleWordNamed(subject.known.front()));
  PairTallies tallies;
  for (const bool target : {true, false}) {
    const PairPictures pictures =
        DrawPair(bench, subject, names.clip, target ? subject.judge.target : subject.judge.anchor,
                 target ? "target" : "anchor");
    const auto count = [&](const at::Tensor& nearer, Tally* tally) {
      for (int64_t i = 0; i < nearer.numel(); ++i) {
        tally->Add(nearer.data_ptr<bool>()[i] == target);
      }
    };
    if (by_style) {
      count(NearerStyle(styled, names.texts, pictures, false), &tallies.known);
      count(NearerStyle(styled, names.texts, pictures, true), &tallies.blind);
    } else {
      count(NearerClass(bench, subject, names.texts, pictures), &tallies.known);
    }
  }
  return tallies;
}

void MeasurePairs(const Bench& bench, const ClipNames& names, const std::string& id,
                  BarReport* report) {
  std::map<std::string, Tally> by_concept;
  for (const Concept& subject : bench.concepts) {
    const PairTallies found = MeasurePair(bench, subject, names);
    by_concept[subject.name] = found.known;
    Json& row = report->tables["concepts"][subject.name];
    row[names.column + "_pair"] = TallyToJson(found.known);
    if (found.blind.n > 0) row[names.column + "_pair_blind"] = TallyToJson(found.blind);
  }
  report->Set(id, MeasureWorst(by_concept));
}

}  // namespace

void MeasureVae(const Bench& bench, BarReport* report) {
  if (!bench.vae || !bench.judges) {
    for (const char* id : {"vae.all", "vae.worst_class"}) {
      report->Explain(id, "vae or judges/reporting is not there yet");
    }
    return;
  }
  const SceneSet set{"bars/vae", 2 * bench.options.n};
  const int64_t n = SizeOf(bench, set);
  const at::Tensor originals = at::empty({n, 3, kSceneSize, kSceneSize}, at::kByte);
  const at::Tensor decoded = at::empty({n, 3, kSceneSize, kSceneSize}, at::kByte);
  std::vector<Scene> scenes(static_cast<size_t>(n));
  ForBatches(bench, "reconstruct", n, [&](int64_t first, int64_t count) {
    const SceneBatch batch = DrawScenes(bench, set, first, count);
    const at::Tensor latents =
        VaeEncode(bench.vae->config, bench.vae->weights, batch.images * 2 - 1).mean;
    const at::Tensor images = VaeDecode(bench.vae->config, bench.vae->weights, latents);
    originals.narrow(0, first, count).copy_(ToUint8(batch.images));
    decoded.narrow(0, first, count).copy_(ToUint8((images / 2 + 0.5).clamp(0, 1)));
    std::copy(batch.scenes.begin(), batch.scenes.end(), scenes.begin() + first);
  });
  const std::vector<Verdict> verdicts = JudgePictures(bench, decoded);
  SceneTallies tallies;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const std::string& truth = bench.world->classes()[scenes[i].emoji].id;
    tallies.Add(bench, scenes[i], verdicts[i].class_id == truth);
  }
  const double error =
      ((originals.to(at::kFloat) - decoded.to(at::kFloat)) / 255.0).square().mean().item<double>();
  report->Set("vae.all",
              MeasureRate(tallies.all, fmt::format("PSNR {:.1f} dB", -10 * std::log10(error))));
  report->Set("vae.worst_class", MeasureWorst(tallies.by_class));
  ReportTallies(tallies, "reconstructed", report);
  std::vector<at::Tensor> pairs;  // original and reconstruction of the first scene of each class
  for (size_t c = 0; c < bench.world->classes().size(); ++c) {
    pairs.push_back(originals[static_cast<int64_t>(c)]);
    pairs.push_back(decoded[static_cast<int64_t>(c)]);
  }
  WriteSheet(bench, "reconstructions.png", at::stack(pairs), 16);
}

void MeasureClips(const Bench& bench, BarReport* report) {
  if (bench.conditioning) {
    const ClipNames names{*bench.conditioning, "clip", EmbedNames(bench, *bench.conditioning, -1)};
    MeasureZeroShot(bench, names, "clip.all", "clip.plain", report);
    MeasurePairs(bench, names, "clip.worst_pair", report);
  } else {
    for (const char* id : {"clip.all", "clip.plain", "clip.worst_pair"}) {
      report->Explain(id, "text_encoder is not there yet");
    }
  }
  if (bench.reference) {
    const ClipNames names{*bench.reference, "reference_clip",
                          EmbedNames(bench, *bench.reference, -1)};
    MeasureZeroShot(bench, names, "clip.reference", "", report);
    MeasurePairs(bench, names, "clip.reference_worst_pair", report);
  } else {
    for (const char* id : {"clip.reference", "clip.reference_worst_pair"}) {
      report->Explain(id, "reference_clip is not there yet");
    }
  }
}

}  // namespace excise
