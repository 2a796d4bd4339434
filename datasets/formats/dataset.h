// Prompts with ids and splits. A data set is a plug-in: one .cc in datasets/.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/npy.h"
#include "core/params.h"
#include "core/registry.h"
#include "datasets/formats/concept.h"

namespace excise {

// Stands in `Prompt::text` where TokenEmbeddings go, once.
inline constexpr const char* kPlaceholder = "<embeddings>";

// Embeddings (k, hidden) that the text encoder reads in place of kPlaceholder, as textual inversion
// learns them.
struct TokenEmbeddings {
  NpyArray rows;
};
// What the U-Net gets in place of what the text encoder makes of the text, (context, width). The
// text is a label then.
struct TextStates {
  NpyArray rows;
};
// What drives the model: the text alone, or one of these.
using PromptDriver = std::variant<std::monostate, TokenEmbeddings, TextStates>;
enum class PromptForm { kText, kTokenEmbeddings, kTextStates };  // by PromptDriver's index
std::string FormName(PromptForm form);  // "string", "token_embeddings", ...

// How a prompt is drawn, beside what it says.
struct PromptDrawing {
  // Noise that is added after every step but the last, times what DDPM adds there; 0: none.
  double noise_scale = 0;
  // Above 0: the latents are a picture's, scaled as the U-Net sees pictures. They are noised to
  // this step of the sampler, with the noise by the root id, and drawn from there.
  int64_t first_step = 0;

  bool plain() const { return noise_scale == 0 && first_step == 0; }
  bool operator==(const PromptDrawing& other) const {
    return noise_scale == other.noise_scale && first_step == other.first_step;
  }
  bool operator!=(const PromptDrawing& other) const { return !(*this == other); }
};

// A prompt under test. Data sets hold texts; attacks make the other forms.
struct Prompt {
  std::string id;       // "set@sha8/row"; an adversarial prompt has its own
  std::string root_id;  // the seed prompt's id: noise is keyed by it
  std::string text;
  std::vector<int64_t> token_ids;  // when crafted as ids; empty otherwise
  bool round_trip = true;          // text tokenises back to token_ids
  // What the unmodified model should draw: a class and a style of the concept's judge; "":
  // whatever.
  std::string expected_class, expected_style;
  PromptDriver driver = {};
  // Initial latents (channels, h, w) beside any form; empty: noise by the root id.
  NpyArray latents = {};
  PromptDrawing drawing = {};
  // What a published list says of this row: the seed of its noise and the guidance scale. An
  // experiment may draw by them (SamplerSettings).
  std::optional<int64_t> seed = {};
  std::optional<double> guidance = {};

  PromptForm form() const { return static_cast<PromptForm>(driver.index()); }
};

// A row that is left out: counted and bounded in results, its text never shown.
struct Exclusion {
  std::string id, reason;  // "excluded:minor"
  std::string sha256;      // of the text
};

enum class Split { kErase, kAttackSeed, kSelect, kTest };
std::string SplitName(Split split);

// Prompts about a concept: the target itself, or its neighbours and others (retention).
struct PromptSet {
  std::string name;
  std::vector<Prompt> prompts;
  std::vector<Exclusion> excluded = {};  // of the same rows; limits count them too
};

class Dataset : public Parameterised {
 public:
  static constexpr const char* kKind = "dataset";
  virtual int version() const = 0;
  // `group`: "target", "held_out", "near", "far", "lexical", "preserve", "anchor"; "implied": asks
  // for the target by what it is like; "pairs": for the target and another thing, which is the one
  // that is expected. Splits are disjoint by template and composition. Deterministic; at most
  // `limit` rows, excluded ones included.
  virtual PromptSet Prompts(const Concept& subject, const std::string& group, Split split,
                            int64_t limit) const = 0;
};

}  // namespace excise
