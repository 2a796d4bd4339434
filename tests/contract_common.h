// What holds for a plug-in of any kind. A contract test links one plug-in alone, so the registry
// must hold exactly that one.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/card.h"
#include "core/params.h"
#include "core/registry.h"

namespace excise {

// Values beside the default of every field: some that must be taken, some that must be refused.
class OtherValues : public ParamVisitor {
 public:
  void Flag(std::string_view name, bool* value, std::string_view) override {
    Add(name, {!*value, *value}, {0, 1, "true", nullptr});
  }
  void Integer(std::string_view name, int64_t* value, std::string_view,
               IntegerRange range) override {
    std::vector<Json> good = {range.min, range.max, *value}, bad = {1.5, "1", true, nullptr};
    if (range.min > INT64_MIN) bad.push_back(range.min - 1);
    if (range.max < INT64_MAX) bad.push_back(range.max + 1);
    bad.push_back(~uint64_t{0});
    Add(name, good, bad);
  }
  void Number(std::string_view name, double* value, std::string_view, NumberRange range) override {
    std::vector<Json> good = {*value}, bad = {"1", true, nullptr};
    for (const double end : {range.min, range.max}) {
      if (!std::isfinite(end)) continue;
      good.push_back(end);
      bad.push_back(end == range.min ? end - 1 : end + 1);
    }
    if (*value / 2 >= range.min) good.push_back(*value / 2);
    Add(name, good, bad);
  }
  void Text(std::string_view name, std::string*, std::string_view) override {
    Add(name, {"", "\u00e9 \\ \" \n"}, {1, Json::array(), nullptr});
  }
  void Path(std::string_view name, std::string*, std::string_view) override {
    Add(name, {""}, {1, "/no/such/file", nullptr});
  }
  void Choice(std::string_view name, std::string*, std::string_view,
              const std::vector<std::string>& allowed) override {
    Add(name, {allowed.begin(), allowed.end()}, {allowed[0] + "_", 1, nullptr});
  }
  void Texts(std::string_view name, std::vector<std::string>*, std::string_view) override {
    Add(name, {Json::array(), {"a", "b"}}, {"a", {1}, nullptr});
  }
  void Parts(std::string_view name, std::vector<Part>*, std::string_view,
             const PartMaker&) override {
    const Json unknown = {{"plugin", "no_such_plugin"}};
    Add(name, {Json::array()}, {"a", {1}, nullptr, {unknown}});
  }
  struct Field {
    std::vector<Json> good, bad;
  };
  const std::map<std::string, Field>& fields() const { return fields_; }

 private:
  void Add(std::string_view name, std::vector<Json> good, std::vector<Json> bad) {
    fields_[std::string(name)] = {std::move(good), std::move(bad)};
  }
  std::map<std::string, Field> fields_;
};

template <class Base>
std::string TheOnlyPlugin() {
  REQUIRE(RegistrationProblems().empty());
  std::vector<std::string> names = Registry<Base>::Get().Names();
  // What a test made up beside it is no plug-in.
  names.erase(std::remove(names.begin(), names.end(), "stand_in"), names.end());
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
  OtherValues other;
  plugin->Fields(other);
  CHECK(other.fields().size() == defaults.size());
  for (const auto& [key, field] : other.fields()) {
    for (const Json& value : field.good) {
      INFO(key << " = " << value);
      std::unique_ptr<Base> set = Registry<Base>::Get().Make(name);
      DecodeParams(Json{{key, value}}, *set, "contract test");
      CHECK(EncodeParams(*set).at(key) == value);
      std::unique_ptr<Base> again = Registry<Base>::Get().Make(name);
      DecodeParams(EncodeParams(*set), *again, "contract test");
      CHECK(CanonicalJson(EncodeParams(*again)) == CanonicalJson(EncodeParams(*set)));
    }
    for (const Json& value : field.bad) {
      INFO(key << " = " << value);
      CHECK_THROWS_AS(DecodeParams(Json{{key, value}}, *copy, "contract test"), UsageError);
      CHECK_THROWS_WITH(DecodeParams(Json{{key, value}}, *copy, "contract test"),
                        Catch::Contains(key));
    }
  }
  // What was refused has changed nothing.
  CHECK(CanonicalJson(EncodeParams(*copy)) == CanonicalJson(defaults));
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

// Data sets have no presets.
template <class Base>
auto PresetsOf(const Base& plugin, int) -> decltype(plugin.presets()) {
  return plugin.presets();
}
template <class Base>
std::map<std::string, Json> PresetsOf(const Base&, ...) {
  return {};
}

// The plug-in with its "smoke" settings, where it has them: the cheapest that still does
// everything. `needs`: what to give to one that asks for something of the user's, by field.
template <class Base>
std::unique_ptr<Base> MakeForSmoke(const std::map<std::string, Json>& needs = {}) {
  std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(TheOnlyPlugin<Base>());
  const auto presets = PresetsOf(*plugin, 0);
  if (auto smoke = presets.find("smoke"); smoke != presets.end()) {
    DecodeParams(smoke->second, *plugin, "preset smoke");
  }
  for (const std::string& field : plugin->needs_one_of()) {
    const auto given = needs.find(field);
    if (given != needs.end()) DecodeParams(Json{{field, given->second}}, *plugin, "contract test");
  }
  REQUIRE(MissingSetting(*plugin).empty());
  return plugin;
}

}  // namespace excise
