// What: any CLIP and any list of classes: the text nearest to the picture
// Paper: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
//   ICML 2021, arXiv 2103.00020
// Equation: verdict = arg max softmax(s <v, t_c>), none below the threshold; v the picture's
//   embedding, t_c the mean over templates of a class's normalised text embeddings, normalised
//   again, s = exp(logit_scale)
// Reference: openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb (the mean over templates)
// Deviations: none
// Needs: the classes; a CLIP (`clip`), else the one that metrics use
// Caveats: names one of its classes for anything unless it has a threshold or a class for what else
//   there is ("a blank picture"); what is judged by the CLIP that a filter or an attack used is no
//   second opinion; no styles, no oracle
#include <ATen/core/Tensor.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/error.h"
#include "core/text.h"
#include "judges/judge.h"
#include "models/nets/nn.h"
#include "models/snapshots/clip_encoder.h"
#include "models/tensors/autograd.h"

namespace excise {
namespace {

constexpr const char* kPlace = "{}";

class ClipZeroShot : public Judge {
 public:
  void Fields(ParamVisitor& v) override {
    v.Texts("classes", &classes_, "what a picture may show, as it is put into the templates");
    v.Texts("templates", &templates_, "texts with {} in the place of the class");
    v.Path("clip", &clip_folder_, "folder of a CLIP; none: the one that metrics use");
    v.Path("oracle", &oracle_folder_,
           "folder of another CLIP, which attacks ask whether a candidate worked; none: the "
           "experiment's own of other weights, where it has one");
    v.Number("threshold", &threshold_,
             "probability below which a picture shows no class; 0: it always shows one",
             {.min = 0, .max = 1});
  }
  int version() const override { return 1; }
  std::map<std::string, Json> presets() const override {
    return {{"smoke", {{"classes", {"a dog", "a cat"}}}}};
  }
  std::vector<std::string> needs_one_of() const override { return {"classes"}; }

  void Open(const JudgeSource& source) override {
    CheckTexts();
    own_ = Reader(clip_folder_, source.reference_clip);
    if (own_.clip == nullptr) {
      throw Error(
          "The judge 'clip_zero_shot' has no CLIP: the experiment brings none. Name a folder: "
          "--set judge.params.clip=openai/clip-vit-large-patch14.");
    }
    oracle_ = Reader(oracle_folder_, source.independent_clip);
    if (oracle_.clip == nullptr) return;
    if (!oracle_folder_.empty()) {
      RequireOtherOracle("clip_zero_shot", oracle_folder_, own_.clip->digest, oracle_.clip->digest);
    } else if (oracle_.clip->digest == own_.clip->digest) {
      oracle_ = {};
    }
  }
  // The classes and templates are parameters.
  std::string digest() const override { return own_.clip->digest; }

  JudgeTraits traits() const override { return ClassTraits(classes_, threshold_); }
  Judgement Report(const at::Tensor& images) const override { return Said(own_, images); }
  at::Tensor Features(const at::Tensor& images) const override {
    const NoGrad no_grad;
    return EmbedPictures(*own_.clip, images.to(at::kFloat) / 255).to(at::kCPU, at::kFloat);
  }
  std::string oracle_digest() const override {
    return oracle_.clip != nullptr ? oracle_.clip->digest : Judge::oracle_digest();
  }
  Judgement ConsultOracle(const at::Tensor& images) const override {
    return oracle_.clip != nullptr ? Said(oracle_, images) : Judge::ConsultOracle(images);
  }

 private:
  struct Clip {
    std::shared_ptr<const ClipModel> clip;
    at::Tensor texts;  // (classes, projection)
    double scale = 1;
  };

  // The folder's CLIP, else `given`, else none.
  Clip Reader(const std::string& folder, const ClipModel* given) const {
    Clip reader;
    if (!folder.empty()) {
      reader.clip = std::make_shared<const ClipModel>(LoadClipModel(folder));
    } else if (given != nullptr) {
      reader.clip = {given, [](const ClipModel*) {}};  // the run's
    } else {
      return reader;
    }
    const NoGrad no_grad;
    std::vector<at::Tensor> rows;
    for (const std::string& name : classes_) {
      std::vector<std::string> texts;
      for (const std::string& text : templates_) texts.push_back(Filled(text, name));
      rows.push_back(nn::Normalised(nn::Normalised(EmbedTexts(*reader.clip, texts)).mean(0)));
    }
    reader.texts = at::stack(rows);
    reader.scale = std::exp(reader.clip->weights.Get("logit_scale").item<double>());
    return reader;
  }

  Judgement Said(const Clip& reader, const at::Tensor& images) const {
    const NoGrad no_grad;
    const at::Tensor pictures =
        nn::Normalised(EmbedPictures(*reader.clip, images.to(at::kFloat) / 255));
    const at::Tensor cosines = at::matmul(pictures, reader.texts.t()).to(at::kFloat);
    return ByProbabilities(traits(), at::softmax(reader.scale * cosines, 1));
  }

  static std::string Filled(std::string text, const std::string& name) {
    return text.replace(text.find(kPlace), 2, name);
  }

  void CheckTexts() const {
    for (size_t i = 0; i < classes_.size(); ++i) {
      if (Trimmed(classes_[i]).empty() ||
          std::count(classes_.begin(), classes_.end(), classes_[i]) > 1) {
        throw UsageError(fmt::format(
            "judge clip_zero_shot: class '{}' is empty or named twice; each must be a text of its "
            "own.",
            classes_[i]));
      }
    }
    if (templates_.empty()) throw UsageError("judge clip_zero_shot: no template is named.");
    for (const std::string& text : templates_) {
      if (text.find(kPlace) == text.npos) {
        throw UsageError(fmt::format(
            "judge clip_zero_shot: template '{}' has no {{}} where the class goes.", text));
      }
    }
  }

  std::vector<std::string> classes_, templates_ = {"a photo of a {}"};
  std::string clip_folder_, oracle_folder_;
  double threshold_ = 0;
  Clip own_, oracle_;
};

const Registration<Judge, ClipZeroShot> registration;

}  // namespace
}  // namespace excise
