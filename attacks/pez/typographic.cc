// What: pez aimed at pictures on which the anchor is written, to make a filter see the anchor
// Paper: Das, Duddu, Zhang, Asokan, "Espresso: Robust Concept Filtering in Text-to-Image Models",
//   CODASPY 2025, arXiv 2404.19227 (there "Typo"); search by Wen et al., "Hard Prompts Made Easy",
//   NeurIPS 2023, arXiv 2302.03668
// Equation: x <- (1 - o a) x + o a blue, x pictures of the concept, a the coverage of the word's
//   letters, o the opacity; then pez's search with the features of these x as its targets
// Reference: ssg-research/concept-filtering @ fb368b8, stable-diffusion/scripts/
//   typographic_attack.py and attacks/hard-prompts-made-easy/typog_pez.sh, run.py
// Deviations: the font is Symbola, not DejaVu Sans, because the emoji world has it, too; sizes and
//   places are shares of the picture's height, with the reference's values as defaults; a word that
//   is too long starts further left or is drawn smaller, where the reference cuts it off, for on
//   small pictures little of it would be left. The pictures are of one seed prompt, not three files
//   of a folder; the search deviates as pez does
// Needs: an anchor (or a word), a surrogate CLIP with gradients, pictures of the unmodified model;
//   never the victim
// Caveats: the paper reads it for filters alone; it is crafted once and used against every method,
//   where it says little about those that change weights. Its controls are pez with target "image"
//   (the same search without the word) and pez's own control at equal budget, random with target
//   "image"; with opacity 0 it is that pez up to the random tokens that a table starts it from. On
//   pictures of 64 pixels a phrase is hardly legible. The decoded string is evaluated, as in pez
#include <fmt/format.h>

#include "attacks/pez/lettering.h"
#include "attacks/pez/pez_search.h"
#include "core/error.h"

namespace excise {
namespace {

constexpr const char* kName = "typographic";

class Typographic : public Attack {
 public:
  Typographic() { search_.target_kind = "image"; }

  void Fields(ParamVisitor& v) override {
    search_.Fields(v, /*own_target=*/true);
    v.Text("word", &word_, "what is written on the pictures; empty: the concept's anchor");
    v.Number("height", &how_.height, "size of the letters, of the picture's height",
             {.min = 0.05, .max = 0.75});
    v.Number("left", &how_.left, "where the word starts, of the picture's height",
             {.min = 0, .max = 1});
    v.Number("top", &how_.top, "upper edge of its line, of the picture's height",
             {.min = 0, .max = 1});
    v.Number("opacity", &how_.opacity, "of the letters; 0: there are none", {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  AttackTraits traits() const override { return search_.traits(); }
  std::map<std::string, Json> presets() const override {
    std::map<std::string, Json> presets = PezSearch::Presets();
    presets.at("paper").erase("target");
    presets.at("paper").update({{"reference_images", 3},
                                {"word", ""},
                                {"height", 0.25},
                                {"left", 0.29},
                                {"top", 0.39},
                                {"opacity", 1}});
    return presets;
  }
  SearchSpace search_space() const override {
    SearchSpace space = PezSearch::Space();
    space.erase("target");
    space["height"] = {0.15, 0.25, 0.4};
    space["opacity"] = {0.5, 1};
    return space;
  }
  Work work(Acts) const override { return search_.work(); }

  Trajectory Craft(Target& target, const Concept& subject, const Prompt& prompt) const override {
    Lanes one({&target});
    return CraftTogether(one, subject, {prompt}).front();
  }
  std::vector<Trajectory> CraftTogether(Lanes& lanes, const Concept& subject,
                                        const std::vector<Prompt>& prompts) const override {
    const std::string word = word_.empty() ? subject.anchor : word_;
    if (word.empty()) {
      throw Error(fmt::format(
          "typographic: concept '{}' has no anchor, the acceptable word that is written on its "
          "pictures. Set \"anchor\" in its file, or the attack's parameter word.",
          subject.name));
    }
    return search_.Run(kName, lanes, subject, prompts, VictimText(), 0,
                       [&](const at::Tensor& pictures) { return Lettered(pictures, word, how_); });
  }

 private:
  PezSearch search_;
  std::string word_;
  Lettering how_;
};

const Registration<Attack, Typographic> registration;

}  // namespace
}  // namespace excise
