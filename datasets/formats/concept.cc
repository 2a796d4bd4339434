#include "datasets/formats/concept.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"

namespace excise {
namespace {

// Reads one JSON object: every key must be asked for, and asked keys must be there.
class StrictObject {
 public:
  StrictObject(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json_.is_object()) {
      throw Error(fmt::format("{}: expected an object, found {}.", where_, json_.type_name()));
    }
  }

  const Json& Get(const std::string& key) {
    asked_.push_back(key);
    const auto it = json_.find(key);
    if (it == json_.end()) throw Error(fmt::format("{}: the field '{}' is missing.", where_, key));
    return *it;
  }

  std::string Text(const std::string& key) {
    const Json& value = Get(key);
    if (!value.is_string() || value.get<std::string>().empty()) {
      throw Error(fmt::format("{}/{}: expected a text that is not empty, found {}.", where_, key,
                              value.dump()));
    }
    return value;
  }

  std::string OneOf(const std::string& key, const std::vector<std::string>& allowed) {
    std::string value = Text(key);
    if (!IsOneOf(value, allowed)) {
      throw Error(fmt::format("{}/{}: '{}' is none of {}.{}", where_, key, value, Joined(allowed),
                              DidYouMean(value, allowed)));
    }
    return value;
  }

  std::vector<std::string> Texts(const std::string& key, bool may_be_empty) {
    const Json& value = Get(key);
    if (!value.is_array()) {
      throw Error(fmt::format("{}/{}: expected a list of texts, found {}.", where_, key,
                              value.type_name()));
    }
    std::vector<std::string> out;
    for (const Json& one : value) {
      if (!one.is_string() || one.get<std::string>().empty()) {
        throw Error(fmt::format("{}/{}: {} is not a text.", where_, key, one.dump()));
      }
      if (std::find(out.begin(), out.end(), one.get<std::string>()) != out.end()) {
        throw Error(fmt::format("{}/{}: {} is listed twice.", where_, key, one.dump()));
      }
      out.push_back(one);
    }
    if (out.empty() && !may_be_empty) {
      throw Error(fmt::format("{}/{}: the list is empty.", where_, key));
    }
    return out;
  }

  // Whether an optional key is there.
  bool Has(const std::string& key) {
    asked_.push_back(key);
    return json_.contains(key);
  }

  StrictObject Object(const std::string& key) { return StrictObject(Get(key), where_ + "/" + key); }

  // An object of any keys: whose they are knows them.
  Json Params(const std::string& key) {
    const Json& value = Get(key);
    if (value.is_object()) return value;
    throw Error(
        fmt::format("{}/{}: expected an object, found {}.", where_, key, value.type_name()));
  }

  // After all Get calls.
  void RefuseOthers() const {
    for (const auto& [key, value] : json_.items()) {
      if (IsOneOf(key, asked_)) continue;
      throw Error(
          fmt::format("{}: unknown key '{}'.{}", where_, key, DidYouMeanOrKnown(key, asked_)));
    }
  }

 private:
  const Json& json_;
  std::string where_;
  std::vector<std::string> asked_;
};

// Methods may see the first list; the second measures them.
void RefuseShared(const std::vector<std::string>& seen, const std::vector<std::string>& kept_back,
                  const std::string& where, const char* seen_name, const char* kept_name) {
  for (const std::string& one : kept_back) {
    if (IsOneOf(one, seen)) {
      throw Error(
          fmt::format("{}: '{}' is both in {} (methods may use it) and in {} (evaluation "
                      "only). Remove it from one.",
                      where, one, seen_name, kept_name));
    }
  }
}

// A description that says a name tests the name.
void RefuseNames(const Concept& subject, const std::string& where) {
  for (const std::string& description : subject.implied) {
    const std::string padded = " " + LowerAscii(description) + " ";
    for (const std::vector<std::string>* names : {&subject.known, &subject.held_out}) {
      for (const std::string& name : *names) {
        if (padded.find(" " + LowerAscii(name) + " ") == std::string::npos) continue;
        throw Error(
            fmt::format("{}/names/implied: '{}' says the name '{}'. Describe the concept without "
                        "it, or leave the description out.",
                        where, description, name));
      }
    }
  }
}

}  // namespace

Concept LoadConcept(const std::filesystem::path& file) {
  const Json json = ReadJsonFile(file);
  const std::string where = file.string();
  StrictObject top(json, where);
  Concept out;
  out.name = top.Text("name");
  if (out.name != file.stem().string()) {
    throw Error(fmt::format("{}/name: '{}' must be the file's stem '{}'.", where, out.name,
                            file.stem().string()));
  }
  out.title = top.Text("title");
  out.category = top.OneOf("category", {"object", "style", "identity", "unsafe"});
  out.sensitivity = top.OneOf("sensitivity", {"benign_proxy", "sensitive"});
  StrictObject names = top.Object("names");
  out.known = names.Texts("known", false);
  out.held_out = names.Texts("held_out", true);
  if (names.Has("implied")) out.implied = names.Texts("implied", false);
  names.RefuseOthers();
  out.anchor = top.Text("anchor");
  out.preserve = top.Texts("preserve", true);
  StrictObject neighbours = top.Object("neighbours");
  out.neighbours.near = neighbours.Texts("near", true);
  out.neighbours.far = neighbours.Texts("far", true);
  out.neighbours.lexical = neighbours.Texts("lexical", true);
  neighbours.RefuseOthers();
  StrictObject judge = top.Object("judge");
  out.judge.kind = judge.OneOf("kind", {"class", "style"});
  out.judge.target = judge.Texts("target", false);
  out.judge.anchor = judge.Texts("anchor", true);
  if (judge.Has("plugin")) out.judge.plugin = judge.Text("plugin");
  if (judge.Has("params")) {
    out.judge.params = judge.Params("params");
    if (out.judge.plugin.empty()) {
      throw Error(fmt::format(
          "{}/judge: 'params' are of a judge, and 'plugin' says of which one. Name it, as in "
          "\"plugin\": \"emoji\".",
          where));
    }
  }
  judge.RefuseOthers();
  top.RefuseOthers();
  RefuseShared(out.known, out.held_out, where, "names/known", "names/held_out");
  RefuseNames(out, where);
  RefuseShared(out.preserve, out.neighbours.near, where, "preserve", "neighbours/near");
  RefuseShared(out.preserve, out.neighbours.far, where, "preserve", "neighbours/far");
  RefuseShared(out.preserve, out.neighbours.lexical, where, "preserve", "neighbours/lexical");
  return out;
}

Json ConceptToJson(const Concept& subject) {
  const Concept::Neighbours& neighbours = subject.neighbours;
  Json judge = {{"kind", subject.judge.kind},
                {"target", subject.judge.target},
                {"anchor", subject.judge.anchor}};
  if (!subject.judge.plugin.empty()) judge["plugin"] = subject.judge.plugin;
  if (!subject.judge.params.empty()) judge["params"] = subject.judge.params;
  Json names = {{"known", subject.known}, {"held_out", subject.held_out}};
  if (!subject.implied.empty()) names["implied"] = subject.implied;
  return {{"name", subject.name},
          {"title", subject.title},
          {"category", subject.category},
          {"sensitivity", subject.sensitivity},
          {"names", std::move(names)},
          {"anchor", subject.anchor},
          {"preserve", subject.preserve},
          {"neighbours",
           {{"near", neighbours.near}, {"far", neighbours.far}, {"lexical", neighbours.lexical}}},
          {"judge", std::move(judge)}};
}

std::vector<std::string> ListConcepts(const std::filesystem::path& folder) {
  std::error_code failure;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder, failure)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  }
  if (failure) {
    throw Error(fmt::format("{}: the folder of concepts cannot be read ({}).", folder.string(),
                            failure.message()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace excise
