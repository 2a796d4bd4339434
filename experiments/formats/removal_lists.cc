#include "experiments/formats/removal_lists.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/text.h"

namespace excise {

RemovalLists ParseRemovals(const Json& object, const std::vector<std::string>& concepts,
                           const std::string& origin) {
  RemovalLists removals;
  const Json lists = object.value("removals", Json::array());
  const auto refuse = [](const std::string& where, const std::string& what) {
    throw UsageError(fmt::format("{}: {}", where, what));
  };
  const std::string form = "expected lists of concepts, as in [[\"poodle\", \"weapons\"]].";
  if (!lists.is_array()) refuse(origin + "/removals", form);
  std::map<std::string, std::string> places;
  for (size_t i = 0; i < lists.size(); ++i) {
    const std::string where = fmt::format("{}/removals/{}", origin, i);
    if (!lists[i].is_array()) refuse(where, form);
    if (lists[i].empty()) {
      refuse(where, "names no concept. Leave the list out: what no list names is removed alone.");
    }
    removals.emplace_back();
    for (size_t j = 0; j < lists[i].size(); ++j) {
      const std::string place = fmt::format("{}/{}", where, j);
      if (!lists[i][j].is_string()) refuse(place, "expected the name of a concept.");
      const std::string name = lists[i][j];
      if (!IsOneOf(name, concepts)) {
        refuse(place, fmt::format("'{}' is not among \"concepts\".{}", name,
                                  DidYouMeanOrKnown(name, concepts)));
      }
      const auto [first, fresh] = places.emplace(name, place);
      if (!fresh) {
        refuse(place, fmt::format("'{}' stands at {} already. One edit removes a concept: name it "
                                  "once.",
                                  name, first->second));
      }
      removals.back().push_back(name);
    }
  }
  return removals;
}

RemovalLists RemovalsAmong(const std::vector<std::string>& concepts, const RemovalLists& removals) {
  RemovalLists among;
  for (const std::string& first : concepts) {
    for (const std::vector<std::string>& list : removals) {
      if (!IsOneOf(first, list)) continue;
      std::vector<std::string> names;
      for (const std::string& name : concepts) {
        if (IsOneOf(name, list) && !IsOneOf(name, names)) names.push_back(name);
      }
      const bool fresh = std::find(among.begin(), among.end(), names) == among.end();
      if (names.size() > 1 && fresh) among.push_back(names);
    }
  }
  return among;
}

}  // namespace excise
