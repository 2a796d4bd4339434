// A lab put together by hand from tiny models, for tests: one concept, three target prompts in
// units of two, attacks none, char_typo and pez, metric asr.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "experiments/lab/lab.h"
#include "experiments/run/keys.h"
#include "tests/tiny_models.h"

namespace excise {

template <class Base>
Entry<Base> TinyEntry(const std::string& name) {
  InputFiles none;
  return MakeEntry<Base>(name, name, Registry<Base>::Get().Make(name), &none);
}

// All concepts that name no judge are judged by it.
inline void SetJudge(Lab* lab, std::unique_ptr<Judge> judge) {
  InputFiles none;
  lab->judges.clear();
  lab->judges.push_back(MakeEntry<Judge>("emoji", "emoji", std::move(judge), &none));
}

inline std::unique_ptr<Lab> TinyLab(const std::vector<std::string>& methods = {"none", "uce"}) {
  auto lab = std::make_unique<Lab>();
  lab->experiment.name = "tiny";
  lab->experiment.sampler.unit_size = 2;
  lab->numerics = {{"fingerprint", "a"}};
  lab->backbone = TinyBackbone();
  lab->judges.push_back(TinyEntry<Judge>("emoji"));  // without weights
  lab->reference_clip = lab->independent_clip = TinyClip();
  lab->own_clip = TinyClip(8);
  lab->concepts = {TinyConcept()};
  lab->dataset = TinyEntry<Dataset>("emoji_prompts");
  for (const std::string& name : methods) lab->methods.push_back(TinyEntry<Method>(name));
  for (const char* name : {"none", "char_typo", "pez"}) {
    lab->attacks.push_back(TinyEntry<Attack>(name));
  }
  lab->metrics.push_back(TinyEntry<Metric>("asr"));
  std::map<std::string, std::vector<Prompt>> groups;
  groups["target"] = {TinyPrompt("t/0"), TinyPrompt("t/1", "a poodle"),
                      TinyPrompt("t/2", "poodle")};
  lab->prompts = {groups};
  ReadInputs(lab.get());
  return lab;
}

inline std::vector<const Unit*> Pointers(const std::vector<Unit>& units) {
  std::vector<const Unit*> pointers;
  for (const Unit& unit : units) pointers.push_back(&unit);
  return pointers;
}

}  // namespace excise
