#include "methods/captioned_pictures.h"

#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cctype>
#include <functional>

#include "core/error.h"
#include "methods/concept_text.h"
#include "models/nets/attention_maps.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || (c & 0x80) != 0; }

// Where `words` stands in `text` as whole words, from `start` on; npos: nowhere.
size_t FindWords(const std::string& text, const std::string& words, size_t start) {
  for (size_t at = text.find(words, start); at != std::string::npos;
       at = text.find(words, at + 1)) {
    const size_t end = at + words.size();
    const bool begins = at == 0 || !IsWord(text[at - 1]);
    if (begins && (end == text.size() || !IsWord(text[end]))) return at;
  }
  return std::string::npos;
}

at::Tensor StatesOf(const Backbone& base, const CaptionedPictures& pictures,
                    const std::function<std::string(size_t row)>& caption) {
  const NoGrad no_grad;
  std::vector<std::string> texts;
  for (size_t row = 0; row < pictures.captions.size(); ++row) texts.push_back(caption(row));
  return EncodeTexts(base, texts);
}

}  // namespace

CaptionedPictures DrawCaptioned(Context& context, const Backbone& base,
                                const std::vector<Concept>& concepts, const std::string& group,
                                int64_t limit) {
  const NoGrad no_grad;
  CaptionedPictures pictures;
  for (const Concept& subject : concepts) {
    for (const std::string& caption : context.Prompts(subject, group, limit)) {
      pictures.captions.push_back(caption);
      pictures.subjects.push_back(&subject);
    }
  }
  pictures.states = EncodeTexts(base, pictures.captions);
  pictures.latents = context.Latents(pictures.captions).to(pictures.states.device());
  return pictures;
}

std::string Renamed(const std::string& caption, const std::string& from, const std::string& to) {
  std::string renamed;
  size_t done = 0;
  for (size_t at = FindWords(caption, from, 0); at != std::string::npos;
       at = FindWords(caption, from, done)) {
    renamed += caption.substr(done, at - done) + to;
    done = at + from.size();
  }
  return done == 0 ? caption + ", " + to : renamed + caption.substr(done);
}

std::string NameIn(const std::string& caption, const Concept& subject) {
  for (const std::string& name : subject.known) {
    if (FindWords(caption, name, 0) != std::string::npos) return name;
  }
  return "";
}

std::vector<NamedCaption> NamedCaptions(const Backbone& base, const CaptionedPictures& pictures,
                                        bool end_token) {
  const int64_t context = base.clip.text.max_position_embeddings;
  std::vector<NamedCaption> named;
  for (size_t row = 0; row < pictures.captions.size(); ++row) {
    const std::string& caption = pictures.captions[row];
    const std::string name = NameIn(caption, *pictures.subjects[row]);
    if (name.empty()) continue;
    NamedCaption one{static_cast<int64_t>(row), name,
                     WordPositions(*base.tokenizer, caption, name)};
    if (end_token) {
      const auto words = static_cast<int64_t>(base.tokenizer->Encode(caption).size());
      one.positions.push_back(std::min(words + 1, context - 1));
    }
    named.push_back(std::move(one));
  }
  if (named.empty()) {
    throw Error(
        "No prompt of the erase split holds a known name of the concepts, so there is no attention "
        "to it. Give the concept names that its prompts use.");
  }
  return named;
}

std::pair<at::Tensor, at::Tensor> RowsAround(const Tokenizer& tokenizer, const std::string& one,
                                             const std::string& other, int64_t context) {
  const std::vector<int64_t> left = tokenizer.Encode(one), right = tokenizer.Encode(other);
  const size_t shorter = std::min(left.size(), right.size());
  size_t before = 0, behind = 0;
  while (before < shorter && left[before] == right[before]) ++before;
  while (before + behind < shorter &&
         left[left.size() - 1 - behind] == right[right.size() - 1 - behind]) {
    ++behind;
  }
  // A row further than the words: the start token is the first.
  const auto rows = [&](const std::vector<int64_t>& tokens) {
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < context; ++i) {
      const bool parts =
          i > static_cast<int64_t>(before) && i <= static_cast<int64_t>(tokens.size() - behind);
      if (!parts) kept.push_back(i);
    }
    return kept;
  };
  std::vector<int64_t> kept = rows(left), other_kept = rows(right);
  kept.resize(std::min(kept.size(), other_kept.size()));
  other_kept.resize(kept.size());
  return {at::tensor(kept, at::kLong), at::tensor(other_kept, at::kLong)};
}

at::Tensor StatesWithAnchor(const Backbone& base, const CaptionedPictures& pictures) {
  return StatesOf(base, pictures, [&](size_t row) {
    const Concept& subject = *pictures.subjects[row];
    const std::string name = NameIn(pictures.captions[row], subject);
    // A caption without a name keeps its words: there is nothing to take out of it.
    return name.empty() ? pictures.captions[row]
                        : Renamed(pictures.captions[row], name, subject.anchor);
  });
}

at::Tensor StatesWithNames(const Backbone& base, const CaptionedPictures& pictures) {
  return StatesOf(base, pictures, [&](size_t row) {
    const Concept& subject = *pictures.subjects[row];
    return Renamed(pictures.captions[row], subject.anchor,
                   subject.known[row % subject.known.size()]);
  });
}

}  // namespace excise
