// What holds for a plug-in of any kind. A contract test links one plug-in alone, so the registry
// must hold exactly that one.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <string>

#include "core/card.h"
#include "core/params.h"
#include "core/registry.h"

namespace excise {

template <class Base>
std::string TheOnlyPlugin() {
  REQUIRE(RegistrationProblems().empty());
  const std::vector<std::string> names = Registry<Base>::Get().Names();
  REQUIRE(names.size() == 1);
  return names[0];
}

// Defaults survive encoding and decoding; what is unknown or of the wrong type is refused by name.
template <class Base>
void CheckParams() {
  const std::string name = TheOnlyPlugin<Base>();
  std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(name);
  CHECK(plugin->version() >= 1);
  const Json defaults = EncodeParams(*plugin);
  REQUIRE(defaults.is_object());
  std::unique_ptr<Base> copy = Registry<Base>::Get().Make(name);
  DecodeParams(defaults, *copy, "contract test");
  CHECK(CanonicalJson(EncodeParams(*copy)) == CanonicalJson(defaults));
  CHECK_THROWS_AS(DecodeParams(Json{{"no_such_key_", 1}}, *copy, "contract test"), UsageError);
  for (const auto& [key, value] : defaults.items()) {
    INFO(key);
    const Json wrong = value.is_object() ? Json(1) : Json::object();
    CHECK_THROWS_AS(DecodeParams(Json{{key, wrong}}, *copy, "contract test"), UsageError);
  }
  CHECK_THROWS_AS(Registry<Base>::Get().Make(name + "_"), UsageError);
}

// The card was registered under the plug-in's own name. (It is generated from the opening comment;
// a faulty one is among the RegistrationProblems.)
template <class Base>
void CheckCard() {
  const std::string name = TheOnlyPlugin<Base>();
  const Card* card = FindCard(Base::kKind, name);
  REQUIRE(card != nullptr);
  CHECK_FALSE(card->what.empty());
  CHECK(CardNames(Base::kKind) == std::vector<std::string>{name});
}

// Every named setting is taken, and arrives where its key says.
template <class Base>
void CheckPresets() {
  const std::string name = TheOnlyPlugin<Base>();
  for (const auto& [preset, settings] : Registry<Base>::Get().Make(name)->presets()) {
    INFO("preset " << preset);
    std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(name);
    DecodeParams(settings, *plugin, "preset " + preset);
    const Json encoded = EncodeParams(*plugin);
    for (const auto& [key, value] : settings.items()) {
      INFO(key);
      CHECK(encoded[key] == value);
    }
  }
}

// The plug-in with its "smoke" settings, where it has them: the cheapest that still does
// everything.
template <class Base>
std::unique_ptr<Base> MakeForSmoke() {
  std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(TheOnlyPlugin<Base>());
  const auto presets = plugin->presets();
  if (auto smoke = presets.find("smoke"); smoke != presets.end()) {
    DecodeParams(smoke->second, *plugin, "preset smoke");
  }
  return plugin;
}

}  // namespace excise
