// What concepts are called, texts as the U-Net reads them, and hooks whose runs read such a text.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "datasets/formats/concept.h"
#include "models/nets/hooks.h"
#include "models/snapshots/backbone.h"

namespace excise {

// "name, name, ...": the known names of all concepts, in order.
std::string KnownNames(const std::vector<Concept>& concepts);

// Text states (texts, tokens, width) of `base`'s encoder. A text ends where its context does.
at::Tensor EncodeTexts(const Backbone& base, const std::vector<std::string>& texts);

// KnownNames as such a row. Throws Error where the names of several concepts are longer than the
// context: the last concepts would not be removed, and nobody would know.
at::Tensor EncodeNames(const Backbone& base, const std::vector<Concept>& concepts);

// Hooks that start every run with `states` (1, tokens, width), brought to the device and the type
// of the batch's text states, and leave everything else alone.
using StartRun =
    std::function<std::unique_ptr<HookRun>(const at::Tensor& states, const GuidanceBatch& batch)>;
std::shared_ptr<const Hooks> TextHooks(at::Tensor states, StartRun start);

}  // namespace excise
