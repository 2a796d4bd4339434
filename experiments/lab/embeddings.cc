#include "experiments/lab/embeddings.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

constexpr int64_t kBatch = 50;  // decides bytes: kEmbeddingVersion

QuadrupletPart PartOfGroup(const QuadrupletSettings& settings, const std::string& group) {
  if (group == "unseen") return QuadrupletPart::kUnseen;
  return settings.part == "test" ? QuadrupletPart::kTest : QuadrupletPart::kValidation;
}

// embed(items start, ..., start + kBatch - 1) for all of n items; the last batch is padded with the
// last item.
at::Tensor InBatches(int64_t n,
                     const std::function<at::Tensor(const std::vector<int64_t>&)>& embed) {
  std::vector<at::Tensor> rows;
  for (int64_t start = 0; start < n; start += kBatch) {
    std::vector<int64_t> items;
    for (int64_t i = start; i < start + kBatch; ++i) items.push_back(std::min(i, n - 1));
    const at::Tensor embeds = embed(items).to(at::kCPU, at::kFloat);
    rows.push_back(nn::Normalised(embeds).narrow(0, 0, std::min(kBatch, n - start)));
  }
  return at::cat(rows);
}

// Both towers of the CLIP that is a model's text encoder.
class Towers {
 public:
  Towers(const Backbone& model, const Hooks* hooks)
      : model_(model), weights_(model.text_encoder), hooks_(hooks) {
    for (const auto& [name, what] : {std::pair{"text_projection.weight", "text projection"},
                                     std::pair{"visual_projection.weight", "image tower"}}) {
      if (weights_.Contains(name)) continue;
      throw Error(fmt::format(
          "{}: the text encoder has no {}, so quadruplets cannot be embedded. Put the whole "
          "CLIPModel that the encoder was taken from (for Stable Diffusion 1.x "
          "openai/clip-vit-large-patch14) in its place.",
          (model.folder / "text_encoder").string(), what));
    }
    device_ = weights_.Get("text_projection.weight").device();
  }

  at::Tensor Texts(const std::vector<std::string>& texts) const {
    return InBatches(static_cast<int64_t>(texts.size()), [&](const std::vector<int64_t>& items) {
      std::vector<std::string> batch;
      for (const int64_t i : items) batch.push_back(texts[i]);
      const at::Tensor ids =
          TokenizeBatch(*model_.tokenizer, batch, model_.clip.text.max_position_embeddings)
              .to(device_);
      const auto layers = hooks_ == nullptr ? nullptr : hooks_->TextLayers();
      return EmbedIds(model_.clip.text, weights_, ids, ClipPass::kPooledToken, layers.get());
    });
  }

  // picture(i, side) is uint8 (3, side, side).
  at::Tensor Pictures(int64_t n, const std::function<at::Tensor(int64_t, int64_t)>& picture) const {
    const ClipVisionConfig& config = model_.clip.vision;
    return InBatches(n, [&](const std::vector<int64_t>& items) {
      std::vector<at::Tensor> batch;
      for (size_t i = 0; i < items.size(); ++i) {
        const bool padding = i > 0 && items[i] == items[i - 1];
        batch.push_back(padding ? batch.back() : picture(items[i], config.image_size));
      }
      const at::Tensor pixels = ClipPreprocess(config, at::stack(batch).to(at::kFloat).div(255));
      return EmbedPixels(config, weights_, pixels.to(device_), ClipPass::kPooledToken);
    });
  }

 private:
  const Backbone& model_;
  const StateDict& weights_;
  const Hooks* hooks_;
  at::Device device_ = at::kCPU;
};

void RequireOneWidth(const Backbone& model, const at::Tensor& texts, const at::Tensor& pictures) {
  if (texts.size(1) == pictures.size(1)) return;
  throw Error(fmt::format(
      "{}: texts are embedded in {} dimensions and pictures in {}. The two towers are of different "
      "models.",
      (model.folder / "text_encoder").string(), texts.size(1), pictures.size(1)));
}

}  // namespace

bool IsEmbeddedGroup(const std::string& group) {
  return std::find(std::begin(kEmbeddedGroups), std::end(kEmbeddedGroups), group) !=
         std::end(kEmbeddedGroups);
}

QuadrupletBench::QuadrupletBench(const QuadrupletSettings& settings, const Json& params)
    : settings_(settings), set_(MakeQuadrupletSet(settings.set)) {
  DecodeParams(params, *set_, fmt::format("quadruplets '{}'", settings.set));
  if (const std::string missing = MissingSetting(*set_); !missing.empty()) {
    throw UsageError(fmt::format(
        "quadruplets '{}' cannot be read: {}. Set it, as in --set quadruplets.params.{}=PATH.",
        settings.set, missing, set_->needs_one_of().front()));
  }
  params_ = EncodeParams(*set_, PathForm::kName);
  key_params_ = EncodeParams(*set_, PathForm::kLeftOut);
  for (const char* group : kEmbeddedGroups) {
    prompts_[group];
    excluded_[group];
  }
  AddQuadruplets("quadruplets", settings.pool);
  AddQuadruplets("unseen", settings.unseen);
  AddZeroShot(settings.zero_shot);
}

void QuadrupletBench::AddQuadruplets(const std::string& group, int64_t limit) {
  if (limit <= 0) return;
  const QuadrupletPart part = PartOfGroup(settings_, group);
  for (Quadruplet& row : set_->Rows(part, limit)) {
    Prompt prompt;
    prompt.id = prompt.root_id = row.id;
    prompt.text = row.safe_text;
    prompts_[group].push_back(std::move(prompt));
    const std::string id = row.id;
    if (rows_[group].emplace(id, std::move(row)).second) continue;
    throw Error(
        fmt::format("quadruplets '{}': two rows of a part are called {}.", settings_.set, id));
  }
  excluded_[group] = set_->Excluded(part, limit);
  const std::map<std::string, std::string> digests = set_->Digests(part, limit);
  if (!digests.empty()) files_[group] = digests;
}

void QuadrupletBench::AddZeroShot(int64_t limit) {
  if (limit <= 0) return;
  classes_ = set_->OutsideClasses();
  for (OutsideItem& item : set_->OutsideItems(limit)) {
    const auto shown = std::find_if(classes_.begin(), classes_.end(), [&](const OutsideClass& one) {
      return one.id == item.class_id;
    });
    if (shown == classes_.end()) {
      throw Error(fmt::format("quadruplets '{}': {} is of the class '{}', which is none.",
                              settings_.set, item.id, item.class_id));
    }
    Prompt prompt;
    prompt.id = prompt.root_id = item.id;
    prompt.text = shown->text;
    prompt.expected_class = item.class_id;
    prompts_["zero_shot"].push_back(std::move(prompt));
    const std::string id = item.id;
    outside_.emplace(id, std::move(item));
  }
}

const std::vector<Prompt>& QuadrupletBench::Prompts(const std::string& group) const {
  return prompts_.at(group);
}

int64_t QuadrupletBench::RowsOf(const std::string& group) const {
  return group == "zero_shot" ? 1 + static_cast<int64_t>(classes_.size()) : 4;
}

const std::vector<Exclusion>& QuadrupletBench::Excluded(const std::string& group) const {
  return excluded_.at(group);
}

Json QuadrupletBench::Key(const std::string& group) const {
  Json key = {{"set", settings_.set},
              {"version", set_->version()},
              {"embedding", kEmbeddingVersion},
              {"params", key_params_}};
  key["part"] = group == "zero_shot" ? "outside" : PartName(PartOfGroup(settings_, group));
  if (files_.contains(group)) key["files"] = files_[group];
  return key;
}

Json QuadrupletBench::Describe() const {
  Json json = {{"set", settings_.set}, {"version", set_->version()}, {"params", params_}};
  if (files_.contains("quadruplets")) json["files"] = files_["quadruplets"];
  if (files_.contains("unseen")) json["unseen_files"] = files_["unseen"];
  for (const char* group : kEmbeddedGroups) {
    if (!excluded_.at(group).empty()) json["excluded"][group] = excluded_.at(group).size();
  }
  return json;
}

at::Tensor QuadrupletBench::Embed(const Backbone& model, const std::string& group,
                                  const std::vector<Prompt>& prompts, const Hooks* hooks) const {
  const NoGrad no_grad;
  return group == "zero_shot" ? EmbedZeroShot(model, prompts, hooks)
                              : EmbedQuadruplets(model, group, prompts, hooks);
}

at::Tensor QuadrupletBench::EmbedQuadruplets(const Backbone& model, const std::string& group,
                                             const std::vector<Prompt>& prompts,
                                             const Hooks* hooks) const {
  std::vector<Quadruplet> rows;
  std::vector<std::string> texts;
  for (const Prompt& prompt : prompts) {
    const auto group_rows = rows_.find(group);
    if (group_rows == rows_.end() || group_rows->second.count(prompt.id) == 0) {
      throw Error(
          fmt::format("'{}' is none of the quadruplets of the group '{}'.", prompt.id, group));
    }
    rows.push_back(group_rows->second.at(prompt.id));
  }
  for (const Quadruplet& row : rows) texts.push_back(row.safe_text);
  for (const Quadruplet& row : rows) texts.push_back(row.unsafe_text);
  const auto n = static_cast<int64_t>(rows.size());
  const QuadrupletPart part = PartOfGroup(settings_, group);
  const Towers towers(model, hooks);
  const at::Tensor text = towers.Texts(texts);
  const at::Tensor picture = towers.Pictures(2 * n, [&](int64_t i, int64_t side) {
    return set_->Picture(part, rows[i % n], /*unsafe=*/i >= n, side);
  });
  RequireOneWidth(model, text, picture);
  return at::stack({text.narrow(0, 0, n), picture.narrow(0, 0, n), text.narrow(0, n, n),
                    picture.narrow(0, n, n)},
                   1);
}

at::Tensor QuadrupletBench::EmbedZeroShot(const Backbone& model, const std::vector<Prompt>& prompts,
                                          const Hooks* hooks) const {
  std::vector<OutsideItem> items;
  std::vector<std::string> texts;
  for (const Prompt& prompt : prompts) {
    const auto item = outside_.find(prompt.id);
    if (item == outside_.end()) {
      throw Error(fmt::format("'{}' is no picture outside the quadruplets.", prompt.id));
    }
    items.push_back(item->second);
  }
  for (const OutsideClass& one : classes_) texts.push_back(one.text);
  const Towers towers(model, hooks);
  const at::Tensor text = towers.Texts(texts);
  const at::Tensor picture = towers.Pictures(
      static_cast<int64_t>(items.size()),
      [&](int64_t i, int64_t side) { return set_->OutsidePicture(items[i], side); });
  RequireOneWidth(model, text, picture);
  std::vector<at::Tensor> samples;
  for (size_t i = 0; i < items.size(); ++i) {
    std::vector<at::Tensor> rows = {picture[static_cast<int64_t>(i)]};
    for (size_t c = 0; c < classes_.size(); ++c) {
      const at::Tensor row = text[static_cast<int64_t>(c)];
      rows.insert(classes_[c].id == items[i].class_id ? rows.begin() + 1 : rows.end(), row);
    }
    samples.push_back(at::stack(rows));
  }
  return at::stack(samples);
}

std::shared_ptr<const QuadrupletBench> OpenQuadruplets(const Experiment& experiment) {
  if (experiment.quadruplets.set.empty()) return nullptr;
  return std::make_shared<QuadrupletBench>(experiment.quadruplets, experiment.quadruplet_params);
}

}  // namespace excise
