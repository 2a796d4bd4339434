// What the oracle is trained on beside scenes: pictures that models draw. Those of `retrained` for
// prompts of the targets, found by a search or behind random tokens, show no target, whatever they
// look like. Those of both models for what they know show that; they look as drawn as the others,
// with and without random tokens, so that no trace of a model or of a search gives the answer away.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "core/progress.h"
#include "core/text.h"
#include "core/workers.h"
#include "datasets/emoji/emoji_captions.h"
#include "judges/template_judge.h"
#include "models/tensors/numerics.h"
#include "models/tensors/safetensors.h"
#include "pretraining/stages/recipe.h"
#include "pretraining/stages/scenes.h"
#include "pretraining/stages/searched_pictures.h"
#include "training/soft_prompt.h"
#include "training/usable_tokens.h"

namespace excise {
namespace {

constexpr int64_t kPrefix = 5;  // random tokens before a prompt, as searches have them
constexpr SearchBudget kBudget = {10, 10};
constexpr int64_t kRandomShare = 48;  // prompts of a target behind random tokens, of each split
constexpr double kSepiaShare = .2;    // of the pictures that show something

// Rows that grow batch by batch.
struct Pictures {
  std::vector<at::Tensor> pictures, not_classes, not_styles;
  std::vector<int64_t> classes, styles;  // -100: unknown

  // `subject`'s targets are not in `drawn`; nothing else is known of it.
  void AddRuledOut(const EmojiWorld& world, const Concept& subject, const at::Tensor& drawn) {
    const int64_t n = drawn.size(0);
    at::Tensor no_class = at::zeros({1, static_cast<int64_t>(world.classes().size()) + 1});
    at::Tensor no_style = at::zeros({1, kNumStyles});
    for (const std::string& target : subject.judge.target) {
      if (subject.judge.kind == "class") no_class[0][world.ClassIndex(target)] = 1;
      for (int64_t style = 0; style < kNumStyles; ++style) {
        if (subject.judge.kind == "style" && target == kStyleNames[style]) no_style[0][style] = 1;
      }
    }
    pictures.push_back(drawn);
    not_classes.push_back(no_class.expand({n, -1}));
    not_styles.push_back(no_style.expand({n, -1}));
    classes.insert(classes.end(), n, -100);
    styles.insert(styles.end(), n, -100);
  }

  void Add(const Pictures& more) {
    const auto append = [](auto* to, const auto& from) {
      to->insert(to->end(), from.begin(), from.end());
    };
    append(&pictures, more.pictures);
    append(&not_classes, more.not_classes);
    append(&not_styles, more.not_styles);
    append(&classes, more.classes);
    append(&styles, more.styles);
  }

  void AddShown(const EmojiWorld& world, const at::Tensor& picture, int emoji, SceneStyle style) {
    pictures.push_back(picture);
    not_classes.push_back(at::zeros({1, static_cast<int64_t>(world.classes().size()) + 1}));
    not_styles.push_back(at::zeros({1, kNumStyles}));
    classes.push_back(emoji);
    styles.push_back(static_cast<int64_t>(style));
  }
};

// (1, context): `text`, behind `prefix` random tokens of `usable`.
at::Tensor IdsOf(const Backbone& model, const std::string& text, int64_t prefix,
                 const std::vector<int64_t>& usable, Philox* rng) {
  std::vector<int64_t> ids;
  for (int64_t i = 0; i < prefix; ++i) ids.push_back(usable[rng->Below(usable.size())]);
  for (const int64_t id : model.tokenizer->Encode(text)) ids.push_back(id);
  const int64_t context = model.clip.text.max_position_embeddings;
  ids.resize(std::min<size_t>(ids.size(), static_cast<size_t>(context - 2)));
  return FrameIds(*model.tokenizer, at::tensor(ids, at::kLong).unsqueeze(0), context);
}

class Studio {
 public:
  explicit Studio(const Workshop& shop)
      : shop_(shop),
        seed_(static_cast<uint64_t>(shop.recipe.seed)),
        base_(LoadBackbone(shop.out)),
        retrained_(base_),
        templates_(TemplateJudge::Build(*shop.world)) {
    LoadUNet(shop.out / "retrained/unet", &retrained_.unet_config, &retrained_.unet);
    usable_ = UsableTokens(*base_.tokenizer, "printable", {});
  }

  void DrawRuledOut(const Concept& subject, Pictures* all) const {
    const std::vector<Prompt> searched =
        TargetPrompts(subject, Split::kSelect, shop_.recipe.search_prompts);
    const at::Tensor found = SearchPictures(base_, retrained_, subject, searched, kBudget, seed_);
    all->AddRuledOut(*shop_.world, subject, found.flatten(0, 1));
    Philox rng({seed_, "oracle/random/" + subject.name, 0, Stream::kData, 0});
    Asked asked;
    std::vector<at::Tensor> ids;
    for (const Split split : {Split::kAttackSeed, Split::kSelect}) {
      for (const Prompt& prompt : TargetPrompts(subject, split, kRandomShare)) {
        const int64_t prefix = rng.Below(4) == 0 ? 0 : kPrefix;
        ids.push_back(IdsOf(base_, prompt.text, prefix, usable_, &rng));
        asked.noise.push_back("oracle/random/" + prompt.id);
      }
    }
    asked.ids = at::cat(ids);
    all->AddRuledOut(*shop_.world, subject, DrawAsked(retrained_, asked, seed_));
  }

  // Scenes that `allowed` lets pass, as `model` draws them when a caption of the training part asks
  // for them, half of them behind random tokens. The unlearned judge says which plain ones are what
  // was asked for.
  void DrawShown(const Backbone& model, const std::string& id,
                 const std::function<bool(const Scene&)>& allowed, int64_t n, Pictures* all) const {
    std::vector<Scene> scenes;
    Asked asked;
    std::vector<at::Tensor> ids;
    for (int64_t i = 0; i < n; ++i) {
      Philox rng({seed_, "oracle/" + id, static_cast<uint64_t>(i), Stream::kData, 0});
      const Scene scene = SceneToAsk(i, allowed, &rng);
      const std::string text = CaptionOf(scene, &rng);
      scenes.push_back(scene);
      ids.push_back(IdsOf(model, text, rng.Below(2) == 0 ? 0 : kPrefix, usable_, &rng));
      asked.noise.push_back(fmt::format("oracle/{}/{}", id, i));
    }
    asked.ids = at::cat(ids);
    const at::Tensor drawn = DrawAsked(model, asked, seed_);
    const std::vector<TemplateJudge::Match> matches = templates_->Report(drawn);
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      const Scene& scene = scenes[i];
      const std::string& wanted = shop_.world->classes()[scene.emoji].id;
      if (scene.style == SceneStyle::kPlain && matches[i].class_id != wanted) continue;
      all->AddShown(*shop_.world, drawn.narrow(0, i, 1), scene.emoji, scene.style);
      ++kept;
    }
    LogInfo(fmt::format("{}: {} of {} pictures show what was asked for", id, kept, n));
  }

  const Backbone& base() const { return base_; }
  const Backbone& retrained() const { return retrained_; }

 private:
  Scene SceneToAsk(int64_t i, const std::function<bool(const Scene&)>& allowed, Philox* rng) const {
    const bool sepia = rng->Uniform() < kSepiaShare;
    int emoji = static_cast<int>(i % static_cast<int64_t>(shop_.world->classes().size()));
    while (true) {
      Scene scene = shop_.world->SampleScene(*rng, emoji);
      scene.style = sepia ? SceneStyle::kSepia : SceneStyle::kPlain;
      if (allowed(scene)) return scene;
      scene.style = SceneStyle::kPlain;
      if (allowed(scene)) return scene;
      emoji = -1;
    }
  }

  std::string CaptionOf(const Scene& scene, Philox* rng) const {
    const EmojiClass& emoji = shop_.world->classes()[scene.emoji];
    const std::string background =
        rng->Below(2) == 0 ? "" : shop_.world->backgrounds()[scene.background].name;
    const int style = scene.style == SceneStyle::kSepia ? StyleWordNamed("sepia") : -1;
    int index = 0;
    do {
      index = static_cast<int>(rng->Below(CaptionTemplates().size()));
    } while (CaptionTemplates()[index].split == Split::kTest ||
             PartOf(index, background, style) != CaptionPart::kTrain);
    return ComposeCaption(index, WithArticle(emoji.article, emoji.name), background, style);
  }

  const Workshop& shop_;
  const uint64_t seed_;
  Backbone base_, retrained_;
  std::shared_ptr<const TemplateJudge> templates_;
  std::vector<int64_t> usable_;
};

}  // namespace

void DrawOraclePicturesStage(const Workshop& shop, const Stage& stage) {
  const Studio studio(shop);
  const std::vector<std::string> concepts = ListConcepts(shop.concepts);
  const int64_t n = shop.recipe.shown_pictures;
  // What is ruled out for each concept, then what the two models show.
  std::vector<Pictures> parts(concepts.size() + 2);
  const auto last = static_cast<int64_t>(parts.size()) - 1;
  RunUnits(last + 1, static_cast<int>(shop.recipe.threads), [&](int64_t i) {
    UseOneThreadPerWorker();
    if (i == last) {
      studio.DrawShown(
          studio.base(), "unmodified", [](const Scene&) { return true; }, n, &parts[i]);
    } else if (i == last - 1) {
      studio.DrawShown(studio.retrained(), "retrained", WithoutConcepts(*shop.world, shop.concepts),
                       n / 2, &parts[i]);
    } else {
      studio.DrawRuledOut(LoadConcept(shop.concepts / (concepts[i] + ".json")), &parts[i]);
    }
  });
  at::set_num_threads(static_cast<int>(shop.recipe.threads));
  Pictures all;
  for (const Pictures& part : parts) all.Add(part);
  StateDict tensors;
  tensors.Set("pictures", at::cat(all.pictures));
  tensors.Set("classes", at::tensor(all.classes, at::kLong));
  tensors.Set("styles", at::tensor(all.styles, at::kLong));
  tensors.Set("not_classes", at::cat(all.not_classes));
  tensors.Set("not_styles", at::cat(all.not_styles));
  SaveSafetensors(shop.scratch / stage.product, tensors, shop.Metadata(stage.name));
}

}  // namespace excise
