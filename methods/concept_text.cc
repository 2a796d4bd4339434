#include "methods/concept_text.h"

#include <fmt/format.h>

#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace excise {
namespace {

class HooksWithText : public Hooks {
 public:
  HooksWithText(at::Tensor states, StartRun start)
      : states_(std::move(states)), start_(std::move(start)) {}
  std::unique_ptr<HookRun> Start(const GuidanceBatch& batch) const override {
    return start_(states_.to(batch.prompt_states.device(), batch.prompt_states.scalar_type()),
                  batch);
  }

 private:
  at::Tensor states_;
  StartRun start_;
};

}  // namespace

std::string KnownNames(const std::vector<Concept>& concepts) {
  std::vector<std::string> names;
  for (const Concept& subject : concepts) {
    names.insert(names.end(), subject.known.begin(), subject.known.end());
  }
  return Joined(names);
}

at::Tensor EncodeTexts(const Backbone& base, const std::vector<std::string>& texts) {
  return EncodeText(base,
                    TokenizeBatch(*base.tokenizer, texts, base.clip.text.max_position_embeddings));
}

at::Tensor EncodeNames(const Backbone& base, const std::vector<Concept>& concepts) {
  const std::string names = KnownNames(concepts);
  const int64_t context = base.clip.text.max_position_embeddings;
  bool truncated = false;
  base.tokenizer->EncodePadded(names, context, &truncated);
  if (truncated && concepts.size() > 1) {
    throw Error(fmt::format(
        "the known names of {} concepts ('{}') are longer than the {} tokens that the text encoder "
        "of '{}' reads, so the last ones would not be removed. Remove fewer concepts together.",
        concepts.size(), names, context, base.name));
  }
  return EncodeTexts(base, {names});
}

std::shared_ptr<const Hooks> TextHooks(at::Tensor states, StartRun start) {
  return std::make_shared<HooksWithText>(std::move(states), std::move(start));
}

}  // namespace excise
