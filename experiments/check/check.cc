#include "experiments/check/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/escape.h"
#include "experiments/results/rounding.h"

namespace excise {
namespace {

constexpr size_t kMostLines = 40;
constexpr const char* kOtherOrder = "the records are in another order";
constexpr const char* kOtherComparisons = "the comparisons are in another order, or there twice";

std::string Short(const Json& value) {
  const std::string text = value.dump();
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

std::string NameOfComparison(const Json& c) {
  return fmt::format("{} {} {} {}: {} against {}", c.at("metric").get<std::string>(),
                     c.at("part").get<std::string>(), c.at("over").get<std::string>(),
                     c.at("given").get<std::string>(), c.at("first").get<std::string>(),
                     c.at("second").get<std::string>());
}

std::string Fingerprint(const Json& inputs) { return inputs.at("numerics").at("fingerprint"); }

void AddLines(const std::vector<std::string>& more, std::vector<std::string>* lines) {
  lines->insert(lines->end(), more.begin(), more.end());
}

using Named = std::map<std::string, Json>;

template <class Name>
Named ByName(const Json& list, const Name& name) {
  Named named;
  for (const Json& item : list) named[name(item)] = item;
  return named;
}

// `differ(name, old, new)` for what both have; lines for what one lacks.
template <class Differ>
void ComparePairs(const Named& old_items, const Named& new_items, const Differ& differ,
                  std::vector<std::string>* lines) {
  for (const auto& [name, old_item] : old_items) {
    const auto found = new_items.find(name);
    if (found == new_items.end()) {
      lines->push_back(name + ": is gone");
    } else {
      differ(name, old_item, found->second);
    }
  }
  for (const auto& [name, item] : new_items) {
    if (old_items.count(name) == 0) lines->push_back(name + ": is new");
  }
}

// Whether what both lists have comes in the same order. A table's rows and marks follow it.
bool SameOrder(const Json& before, const Json& now) {
  return std::equal(
      before.begin(), before.end(), now.begin(), now.end(),
      [](const Json& a, const Json& b) { return RecordNameOf(a) == RecordNameOf(b); });
}

// What differs; of records every byte, or what is beyond the tolerance.
std::vector<std::string> Changes(const Json& before, const Json& now, bool bytes) {
  std::vector<std::string> lines =
      Differences("experiment", before.at("experiment"), now.at("experiment"));
  AddLines(InputDifferences(before.at("inputs"), now.at("inputs")), &lines);
  const auto differ = [&](const std::string& name, const Json& old_item, const Json& new_item) {
    AddLines(Differences(name, old_item, new_item), &lines);
  };
  const auto stray = [&](const std::string& name, const Json& old_item, const Json& new_item) {
    AddLines(Differences(name, QuestionOf(old_item), QuestionOf(new_item)), &lines);
    AddLines(BeyondRounding(name, old_item, new_item), &lines);
  };
  const Named old_records = ByName(before.at("records"), RecordNameOf);
  const Named new_records = ByName(now.at("records"), RecordNameOf);
  const bool same_order = SameOrder(before.at("records"), now.at("records"));
  if (!bytes) {
    ComparePairs(old_records, new_records, stray, &lines);
    if (lines.empty() && !same_order) lines.push_back(kOtherOrder);
    return lines;
  }
  ComparePairs(old_records, new_records, differ, &lines);
  ComparePairs(ByName(before.at("comparisons"), NameOfComparison),
               ByName(now.at("comparisons"), NameOfComparison), differ, &lines);
  if (lines.empty()) lines.push_back(same_order ? kOtherComparisons : kOtherOrder);
  // Digests follow from what changed; they come after what people read.
  std::stable_partition(lines.begin(), lines.end(), [](const std::string& line) {
    return line.find(": /lineage/") == std::string::npos;
  });
  return lines;
}

}  // namespace

std::string CheckReport::Lines() const {
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), kMostLines); ++i) {
    text += "\n  " + Escape(lines[i], Format::kTerminal);  // a line of a file opens no line here
  }
  if (lines.size() > kMostLines) {
    text += fmt::format("\n  ... and {} more", lines.size() - kMostLines);
  }
  return text;
}

std::vector<std::string> Differences(const std::string& name, const Json& before, const Json& now) {
  std::vector<std::string> lines;
  const Json a = before.flatten(), b = now.flatten();
  for (const auto& [pointer, value] : a.items()) {
    if (!b.contains(pointer)) {
      lines.push_back(fmt::format("{}: {} was {}, now absent", name, pointer, Short(value)));
    } else if (b[pointer].dump() != value.dump()) {
      lines.push_back(
          fmt::format("{}: {} was {}, now {}", name, pointer, Short(value), Short(b[pointer])));
    }
  }
  for (const auto& [pointer, value] : b.items()) {
    if (!a.contains(pointer)) {
      lines.push_back(fmt::format("{}: {} is new: {}", name, pointer, Short(value)));
    }
  }
  return lines;
}

std::vector<std::string> AllDifferences(const Json& before, const Json& now) {
  if (CanonicalJson(now) == CanonicalJson(before)) return {};
  return Changes(before, now, /*bytes=*/true);
}

std::vector<std::string> InputDifferences(const Json& before, const Json& now) {
  Json old_inputs = before, new_inputs = now;
  old_inputs.erase("numerics");
  new_inputs.erase("numerics");
  return Differences("inputs", old_inputs, new_inputs);
}

CheckReport CompareResults(const Json& before, const Json& now) {
  return CompareResults(before, now,
                        Fingerprint(now.at("inputs")) == Fingerprint(before.at("inputs")));
}

CheckReport CompareResults(const Json& before, const Json& now, bool bytes) {
  CheckReport report;
  if (CanonicalJson(now) == CanonicalJson(before)) return report;
  report.lines = Changes(before, now, bytes);
  if (bytes) {
    AddLines(Differences("inputs: numerics", before.at("inputs").at("numerics"),
                         now.at("inputs").at("numerics")),
             &report.lines);
  }
  report.agreement = bytes                  ? Agreement::kChanged
                     : report.lines.empty() ? Agreement::kOtherNumerics
                                            : Agreement::kOutOfTolerance;
  return report;
}

}  // namespace excise
