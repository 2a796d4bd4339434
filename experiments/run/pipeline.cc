#include "experiments/run/pipeline.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/stopwatch.h"
#include "experiments/lab/removals.h"
#include "experiments/run/stored.h"

namespace excise {

std::string FirstLine(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

void Pipeline::Spend(const std::string& stage, double seconds) {
  const std::lock_guard<std::mutex> lock(seconds_mutex_);
  seconds_[stage] += seconds;
}

std::map<std::string, double> Pipeline::Seconds() const {
  const std::lock_guard<std::mutex> lock(seconds_mutex_);
  return seconds_;
}

std::optional<Artifact> Pipeline::Find(const Json& key) {
  if (force_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (fresh_.count(Store::Digest(key)) == 0) return std::nullopt;
  }
  return store_.Find(key);
}

void Pipeline::Put(const Json& key, const std::map<std::string, std::string>& files) {
  lab_.inputs.Check();  // what was read by now is what the key says
  store_.Put(key, files);
  if (!force_) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  fresh_.insert(Store::Digest(key));
}

const ErasedModel& Pipeline::Base() {
  std::call_once(base_once_, [this] {
    base_.model = Place(lab_.backbone, lab_.compute);
    base_.exact = lab_.backbone;
  });
  return base_;
}

std::shared_ptr<const ErasedModel> Pipeline::Erase(size_t method, size_t subject) {
  // One that reads no concept is one for all of them.
  const bool reads = lab_.methods[method].plugin->traits().reads_concepts;
  const size_t row = reads ? RemovedTogether(lab_, method, subject).front() : 0;
  return models_.Get({method, row, 0}, [&] { return EraseOrLoad(method, subject); });
}

EraseCost Pipeline::CostOf(size_t method, size_t subject) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = costs_.find({method, subject});
    if (known != costs_.end()) return known->second;
  }
  // Of what is stored the cost alone is read: nobody draws here.
  const auto stored = Load(EraseKey(lab_, method, subject), ReadRemovalCost);
  const EraseCost cost = stored ? *stored : Erase(method, subject)->cost;
  const std::lock_guard<std::mutex> lock(mutex_);
  return costs_[{method, subject}] = cost;
}

int64_t BytesOf(const Erased& erased) {
  int64_t bytes = 0;
  for (const StateDict* tensors : {&erased.text_encoder, &erased.unet, &erased.vae}) {
    for (const auto& [name, tensor] : *tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  }
  return bytes;
}

ErasedModel Pipeline::Assemble(const Erased& erased, const EraseCost& cost) {
  const int64_t bytes = BytesOf(erased);
  const bool filters = bytes == 0 && erased.hooks != nullptr && erased.hooks->OnlyFilters();
  return {ApplyErased(Base().model, erased),
          ApplyErased(lab_.backbone, erased),
          erased.hooks,
          cost,
          filters,
          bytes};
}

ErasedModel Pipeline::EraseOrLoad(size_t method, size_t subject) {
  const Json key = EraseKey(lab_, method, subject);
  const Method& plugin = *lab_.methods[method].plugin;
  const std::vector<Concept>& concepts = lab_.removals.at(method).at(subject).concepts;
  struct Stored {
    EraseCost cost;
    std::optional<ErasedModel> model;
  };
  auto stored = Load(key, [&](const Artifact& artifact) -> Stored {
    StoredRemoval removal = ReadRemoval(artifact);
    // Hooks are code, not data. A method that cannot make them of what is stored erases anew, which
    // is cheap.
    if (removal.hooks) {
      removal.erased.hooks =
          plugin.RestoreHooks(lab_.backbone, concepts, removal.erased.hook_state);
      if (removal.erased.hooks == nullptr) return {removal.cost, std::nullopt};
    }
    try {
      return {removal.cost, Assemble(removal.erased, removal.cost)};
    } catch (const Error& error) {  // tensors of another model
      throw Misfit(fmt::format("{}: {}", artifact.folder.string(), error.what()));
    }
  });
  if (stored && stored->model) return *std::move(stored->model);
  const Stopwatch watch;
  const std::filesystem::path checkpoint = store_.Scratch(key, "checkpoint.safetensors");
  const auto retained = [&](const std::vector<Prompt>& prompts) {
    return Retained(lab_.EraseSeedOf(method), prompts);
  };
  EraseContext context(lab_, method, subject, checkpoint, retained);
  const Erased erased = plugin.Erase(context, lab_.backbone, concepts);
  try {
    lab_.inputs.Check();
  } catch (const Error&) {
    // Nobody shall resume what began with another file.
    std::error_code ignored;
    std::filesystem::remove_all(checkpoint.parent_path(), ignored);
    throw;
  }
  if (stored) return Assemble(erased, stored->cost);
  const EraseCost cost = context.cost();
  const std::string tensors = TensorBytes(JoinTensors(erased), store_.root() / ".tmp");
  const Json meta = {{"hooks", erased.hooks != nullptr},
                     {"unet_evaluations", cost.unet_evaluations},
                     {"gradient_steps", cost.gradient_steps}};
  ErasedModel result = Assemble(erased, cost);
  Put(key, {{"tensors.safetensors", tensors}, {"erased.json", CanonicalJson(meta)}});
  Spend("erase", watch.Seconds());
  return result;
}

}  // namespace excise
