// The interface of a removal method: from the unmodified model and concepts to replacement tensors
// and hooks. A method is one file, methods/<name>.cc, and nothing else; see methods/README.md.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/params.h"
#include "core/random.h"
#include "core/registry.h"
#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "models/nets/work.h"
#include "models/snapshots/backbone.h"

namespace excise {

// Everything a method may read: it hands out what the result's key names, and nothing else.
class Context {
 public:
  virtual ~Context() = default;
  // A stream named by the method; seeded by the edit's erase seed. Throws Error unless the traits
  // say seeded.
  virtual Philox Rng(std::string_view name, uint64_t step = 0) = 0;
  // Where a long training may keep its checkpoint (a file path in the store's scratch area).
  virtual std::filesystem::path CheckpointFile() = 0;
  // Prompts of the erase split for a group ("target", "anchor", "preserve") that the method's
  // traits name, at most `limit`. Throws Error for another group, for more than the traits say, and
  // where the data set has no such prompts.
  virtual std::vector<std::string> Prompts(const Concept& subject, const std::string& group,
                                           int64_t limit) = 0;
  // Pictures of the unmodified model for prompts, float (n, 3, h, w) in [0,1]. They are stored by
  // their prompts, for all methods that ask for the same list. What drawing them takes is counted
  // here, once for each list, whether they were stored or not. Throws Error unless the traits say
  // base_pictures.
  virtual at::Tensor Images(const std::vector<std::string>& prompts) = 0;
  // The latents that these pictures were decoded from, float (n, channels, h, w), scaled as
  // DecodeImages takes them and the U-Net is trained on them. Else as Images.
  virtual at::Tensor Latents(const std::vector<std::string>& prompts) = 0;
  // Counts work for the cost column.
  virtual void CountUnetEvaluations(int64_t n) = 0;
  virtual void CountGradientSteps(int64_t n) = 0;
};

// The result: fp32 replacements under Hugging Face names, and hooks or null.
struct Erased {
  StateDict text_encoder, unet, vae;
  std::shared_ptr<const Hooks> hooks;
  // What RestoreHooks makes the hooks of again; empty: hooks are erased anew, which is cheap.
  StateDict hook_state = {};
};

// What a method needs to know beside the concept's known names; printed as a column, because
// methods with unequal knowledge are compared today.
struct MethodTraits {
  // Of: known_names, anchor, preserve, target_images, unsafe_images, judge, attack, training_data.
  std::vector<std::string> uses;
  bool needs_text_to_image = true;
  // Weights stored beside the snapshot that this method loads ("retrained"), or "".
  std::string needs_folder;
  // The concepts that it removes, where that is settled beforehand (a model that the user edited);
  // empty: any.
  std::vector<std::string> concepts = {};
  // The categories of concepts that it can remove ("unsafe"); empty: any.
  std::vector<std::string> categories = {};
  // Whether its result depends on the concepts. One that removes a whole category from data of its
  // own is computed once for all of them, with the first.
  bool reads_concepts = true;
  // Groups of the erase split that it may ask its context for, with the most prompts of each. They
  // enter its key by their texts.
  std::map<std::string, int64_t> prompts = {};
  // Versions of what else decides its result, by name: of a data set that it trains on.
  std::map<std::string, int> parts = {};
  // Whether it may ask its context for pictures of the unmodified model, or for their latents.
  bool base_pictures = false;
  // Whether it asks its context for random numbers. One that does, or that learns from pictures of
  // the unmodified model, is erased once with each erase seed of an experiment; others once.
  bool seeded = false;
  Acts acts = Acts::kByWeights;
  // Rows of the U-Net that a picture takes at each step, about: with and without the prompt.
  double streams = 2;
};

class Method : public Parameterised {
 public:
  static constexpr const char* kKind = "method";
  virtual int version() const = 0;
  virtual MethodTraits traits() const = 0;
  // Named settings, each an object for DecodeParams over the defaults; "paper" is what the paper
  // reports. The defaults are the ones for the emoji backbone.
  virtual std::map<std::string, Json> presets() const { return {}; }
  // What //experiments:tune searches; empty: there is nothing to tune.
  virtual SearchSpace search_space() const { return {}; }
  // What removing one concept computes, about, with these parameters: how long a run takes is
  // estimated from it, of several at once as the sum. Empty: next to nothing.
  virtual Work work() const { return {}; }
  // One result removes all `concepts` at once; of several, none is a name that another preserves.
  // Must not change a tensor of `base`.
  virtual Erased Erase(Context& context, const Backbone& base,
                       const std::vector<Concept>& concepts) const = 0;
  // The hooks that Erase returned together with `hook_state` (not empty), without their training.
  virtual std::shared_ptr<const Hooks> RestoreHooks(const Backbone& /*base*/,
                                                    const std::vector<Concept>& /*concepts*/,
                                                    const StateDict& /*hook_state*/) const {
    return nullptr;
  }
};

// The edited model: a copy of `base` that shares every tensor that was not replaced. Throws Error
// when a replacement is not float32, not finite, or not of the shape of a tensor of `base`.
Backbone ApplyErased(const Backbone& base, const Erased& erased);

}  // namespace excise
