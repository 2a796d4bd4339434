// That a control spends what the attack spends that it controls, by default and where both are set
// as published; and that an attack less what it adds is the attack that it builds on.
#include <catch2/catch.hpp>

#include "attacks/attack.h"
#include "core/params.h"
#include "core/registry.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

Json Params(const std::string& name, const std::string& preset) {
  const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make(name);
  if (!preset.empty()) DecodeParams(attack->presets().at(preset), *attack, preset);
  return EncodeParams(*attack);
}

}  // namespace

TEST_CASE("controls: what they control exists, and has the same parameters of the same name") {
  int controls = 0;
  for (const std::string& name : Registry<Attack>::Get().Names()) {
    const std::string of = Registry<Attack>::Get().Make(name)->control_of();
    if (of.empty()) continue;
    ++controls;
    for (const char* preset : {"", "paper"}) {
      INFO(name << " controls " << of << " " << preset);
      const Json own = Params(name, preset), other = Params(of, preset);
      for (const auto& [key, value] : own.items()) {
        INFO(key);
        if (other.contains(key)) CHECK(other[key] == value);
      }
    }
  }
  CHECK(controls >= 5);
}

TEST_CASE("controls: as many evaluations, as many queries") {
  for (const char* preset : {"", "paper"}) {
    const Json pez = Params("pez", preset);
    CHECK(Params("random", preset)["evaluations"] ==
          pez["iterations"].get<int64_t>() * pez["restarts"].get<int64_t>());
    CHECK(Params("random_prefix", preset)["tries"] ==
          Params("unlearn_diff_atk", preset)["timesteps"]);
    CHECK(Params("seed_search", preset)["tries"] ==
          Params("unlearn_diff_atk", preset)["timesteps"]);
    const Json p4d = Params("p4d", preset);
    for (const char* control : {"random_tokens", "shuffle"}) {
      CHECK(Params(control, preset)["tries"] ==
            p4d["iterations"].get<int64_t>() / p4d["eval_every"].get<int64_t>());
    }
  }
}

TEST_CASE("controls: pez aimed at pictures is typographic without letters, bit for bit") {
  const auto craft = [](const std::string& name, Json params, TinyTarget* target) {
    params.update({{"prompt_len", 5}, {"iterations", 30}, {"reference_images", 2}});
    const std::unique_ptr<Attack> attack = Registry<Attack>::Get().Make(name);
    DecodeParams(params, *attack, name);
    return attack->Craft(*target, TinyConcept(), TinyPrompt());
  };
  TinyTarget plain_target, off_target;
  const Trajectory plain = craft("pez", {{"target", "image"}}, &plain_target);
  const Trajectory off = craft("typographic", {{"opacity", 0}}, &off_target);
  REQUIRE(plain.size() >= 2);
  REQUIRE(off.size() == plain.size());
  for (size_t i = 0; i < plain.size(); ++i) {
    INFO("candidate " << i);
    CHECK(off[i].prompt.text == plain[i].prompt.text);
    CHECK(off[i].prompt.token_ids == plain[i].prompt.token_ids);
    CHECK(off[i].prompt.round_trip == plain[i].prompt.round_trip);
    CHECK(off[i].score == plain[i].score);
    CHECK(off[i].ledger.candidate_evaluations == plain[i].ledger.candidate_evaluations);
    CHECK(off[i].ledger.gradient_steps == plain[i].ledger.gradient_steps);
    CHECK(off[i].ledger.text_evaluations == plain[i].ledger.text_evaluations);
    CHECK(off[i].ledger.unet_evaluations == plain[i].ledger.unet_evaluations);
  }
}

}  // namespace excise
