#include "experiments/pipeline.h"

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/stopwatch.h"
#include "experiments/artifacts.h"
#include "experiments/victim_target.h"
#include "models/safetensors.h"

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

Pipeline::Memo& Pipeline::MemoOf(size_t method, size_t subject) {
  const size_t row = lab_.methods[method].plugin->traits().reads_concepts ? subject : 0;
  const std::lock_guard<std::mutex> lock(mutex_);
  std::unique_ptr<Memo>& memo = memos_[{method, row}];
  if (!memo) memo = std::make_unique<Memo>();
  return *memo;
}

const ErasedModel& Pipeline::Erase(size_t method, size_t subject) {
  Memo& memo = MemoOf(method, subject);
  // A failure is kept, so that a method that throws is tried once and not once a unit.
  std::call_once(memo.once, [&] {
    try {
      memo.value = EraseOrLoad(method, subject);
    } catch (...) {
      memo.problem = std::current_exception();
    }
  });
  if (memo.problem) std::rethrow_exception(memo.problem);
  return memo.value;
}

ErasedModel Pipeline::Assemble(const Erased& erased, const EraseCost& cost) {
  const bool same_model = erased.text_encoder.size() + erased.unet.size() + erased.vae.size() == 0;
  return {ApplyErased(Base().model, erased), ApplyErased(lab_.backbone, erased), erased.hooks, cost,
          same_model && erased.hooks != nullptr && erased.hooks->OnlyFilters()};
}

ErasedModel Pipeline::EraseOrLoad(size_t method, size_t subject) {
  const Json key = EraseKey(lab_, method, subject);
  const Method& plugin = *lab_.methods[method].plugin;
  const Concept visible = VisibleToMethods(lab_.concepts[subject]);
  const auto stored = Find(key);
  EraseCost cost;
  if (stored) {
    const Json meta = ReadJson(*stored, "erased.json");
    cost = {meta.at("unet_evaluations"), meta.at("gradient_steps")};
    Erased erased = PartTensors(LoadSafetensors(stored->File("tensors.safetensors")));
    if (!meta.at("hooks").get<bool>()) return Assemble(erased, cost);
    // Hooks are code, not data. A method that cannot make them of what is stored erases anew, which
    // is cheap.
    erased.hooks = plugin.RestoreHooks(lab_.backbone, {visible}, erased.hook_state);
    if (erased.hooks != nullptr) return Assemble(erased, cost);
  }
  const Stopwatch watch;
  EraseContext context(lab_, method, visible.name, store_.Scratch(key, "checkpoint.safetensors"),
                       [&](const std::vector<Prompt>& prompts) {
                         std::vector<Shot> shots;
                         for (const Prompt& prompt : prompts) shots.push_back({prompt, 0});
                         return Draw(Base().model, nullptr, shots, lab_.experiment.seeds.erase,
                                     lab_.experiment.sampler.unit_size);
                       });
  const Erased erased = plugin.Erase(context, lab_.backbone, {visible});
  if (stored) return Assemble(erased, cost);
  cost = context.cost();
  const std::string tensors = TensorBytes(JoinTensors(erased), store_.root() / ".tmp");
  const Json meta = {{"hooks", erased.hooks != nullptr},
                     {"unet_evaluations", cost.unet_evaluations},
                     {"gradient_steps", cost.gradient_steps}};
  ErasedModel result = Assemble(erased, cost);
  Put(key, {{"tensors.safetensors", tensors}, {"erased.json", CanonicalJson(meta)}});
  Spend("erase", watch.Seconds());
  return result;
}

Trajectory Pipeline::Craft(size_t attack, size_t method, size_t subject, const Prompt& prompt) {
  const Entry<Attack>& entry = lab_.attacks[attack];
  const Json key = AttackKey(lab_, attack, method, subject, prompt);
  if (const auto artifact = Find(key)) {
    return TrajectoryFromJson(ReadJson(*artifact, "trajectory.json"));
  }
  const WhiteBoxAttack* white_box = lab_.WhiteBox(attack);
  const ErasedModel* victim = white_box == nullptr ? nullptr : &Erase(method, subject);
  const Stopwatch watch;
  const auto reference = [&](const Prompt& aim, int64_t n) {
    if (aim.id != prompt.id) {
      throw Error(
          fmt::format("attack '{}' asked for pictures of prompt '{}' while it crafts for '{}'.",
                      entry.name, aim.id, prompt.id));
    }
    return Reference(aim, n);
  };
  const Concept visible = VisibleToMethods(lab_.concepts[subject]);
  Trajectory trajectory;
  if (white_box != nullptr) {
    const auto draw = [&](const Prompt& candidate) {
      const Drawn drawn =
          Draw(victim->exact, victim->hooks.get(), {{candidate, 0}}, SearchedNoise(), 1);
      return SearchedPicture{drawn.images[0], drawn.Blocked(0), drawn.evaluations_per_image};
    };
    MeteredVictim target(lab_, attack, lab_.concepts[subject],
                         {&victim->exact, victim->hooks.get(), Sampling()}, reference, draw);
    trajectory = white_box->Craft(target, visible, prompt);
  } else {
    MeteredTarget target(lab_, attack, reference);
    const auto& transfer = dynamic_cast<const TransferAttack&>(*entry.plugin);
    trajectory = transfer.Craft(target, visible, prompt);
  }
  if (trajectory.empty()) {
    throw Error(
        fmt::format("attack '{}' returned no candidate for prompt '{}'.", entry.name, prompt.id));
  }
  Put(key, {{"trajectory.json", CanonicalJson(TrajectoryToJson(trajectory))}});
  Spend("attack", watch.Seconds());
  return trajectory;
}

std::vector<Prompt> Pipeline::PromptsToDraw(const Unit& unit) {
  if (!IsCrafted(lab_, unit)) return unit.prompts;
  std::vector<Prompt> prompts;
  for (const Prompt& prompt : unit.prompts) {
    prompts.push_back(Craft(unit.attack, unit.method, unit.subject, prompt).back().prompt);
  }
  return prompts;
}

}  // namespace excise
