#include "experiments/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/files.h"
#include "experiments/record.h"

namespace excise {
namespace {

constexpr size_t kMostLines = 40;

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

// How far a value may be from the golden one when instruction sets differ.
double Tolerance(const Json& old_record, const Json& new_record) {
  double tolerance = 1e-6 * std::fabs(old_record.at("value").get<double>());
  for (const Json* record : {&old_record, &new_record}) {
    const double error = record->at("stderr");
    const double width =
        record->at("ci95").at(1).get<double>() - record->at("ci95").at(0).get<double>();
    // A rate of 0 or 1 has no standard error, but an interval.
    tolerance = std::max({tolerance, 3 * error, 3 * width / (2 * 1.959964)});
  }
  return tolerance;
}

void CompareValues(const std::string& name, const Json& old_record, const Json& new_record,
                   std::vector<std::string>* lines) {
  if (old_record.at("status") != new_record.at("status")) {
    lines->push_back(fmt::format("{}: status was {}, now {}", name, Short(old_record.at("status")),
                                 Short(new_record.at("status"))));
    return;
  }
  if (old_record.at("status") != "ok") return;
  const double before = old_record.at("value"), now = new_record.at("value");
  const double tolerance = Tolerance(old_record, new_record);
  if (old_record.at("n") != new_record.at("n")) {
    lines->push_back(fmt::format("{}: n was {}, now {}", name, Short(old_record.at("n")),
                                 Short(new_record.at("n"))));
  } else if (std::fabs(before - now) > tolerance) {
    lines->push_back(fmt::format("{}: value was {:.6g}, now {:.6g}; more than the tolerance {:.3g}",
                                 name, before, now, tolerance));
  }
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
    CompareValues(name, old_item, new_item, &lines);
  };
  const Named old_records = ByName(before.at("records"), RecordNameOf);
  const Named new_records = ByName(now.at("records"), RecordNameOf);
  if (!bytes) {
    ComparePairs(old_records, new_records, stray, &lines);
    return lines;
  }
  ComparePairs(old_records, new_records, differ, &lines);
  ComparePairs(ByName(before.at("comparisons"), NameOfComparison),
               ByName(now.at("comparisons"), NameOfComparison), differ, &lines);
  if (lines.empty()) lines.push_back("the order of the records changed");
  // Digests follow from what changed; they come after what people read.
  std::stable_partition(lines.begin(), lines.end(), [](const std::string& line) {
    return line.find(": /lineage/") == std::string::npos;
  });
  return lines;
}

}  // namespace

std::string CheckReport::Lines() const {
  std::string text;
  for (size_t i = 0; i < std::min(lines.size(), kMostLines); ++i) text += "\n  " + lines[i];
  if (lines.size() > kMostLines) {
    text += fmt::format("\n  ... and {} more", lines.size() - kMostLines);
  }
  return text;
}

std::string RecordNameOf(const Json& record) {
  return fmt::format("{} / {} / {} / {}", record.at("method").get<std::string>(),
                     record.at("concept").get<std::string>(),
                     record.at("attack").get<std::string>(),
                     record.at("metric").get<std::string>());
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

std::vector<std::string> InputDifferences(const Json& before, const Json& now) {
  Json old_inputs = before, new_inputs = now;
  if (Fingerprint(before) != Fingerprint(now)) {
    old_inputs.erase("numerics");
    new_inputs.erase("numerics");
  }
  return Differences("inputs", old_inputs, new_inputs);
}

CheckReport CompareResults(const Json& before, const Json& now) {
  CheckReport report;
  if (CanonicalJson(now) == CanonicalJson(before)) return report;
  const bool bytes = Fingerprint(now.at("inputs")) == Fingerprint(before.at("inputs"));
  report.lines = Changes(before, now, bytes);
  report.agreement = bytes                  ? Agreement::kChanged
                     : report.lines.empty() ? Agreement::kOtherNumerics
                                            : Agreement::kOutOfTolerance;
  return report;
}

std::string GoldenSummary(const CheckReport& report) {
  switch (report.agreement) {
    case Agreement::kSame:
      return "golden: the same bytes.";
    case Agreement::kOtherNumerics:
      return "golden: other numerics (this machine computes with other instructions); every value "
             "is within its tolerance.";
    case Agreement::kChanged:
      return "golden: numbers or inputs changed on equal numerics. If that is intended, run again "
             "with --update_golden and commit the file." +
             report.Lines();
    case Agreement::kOutOfTolerance:
      break;
  }
  return "golden: other numerics (this machine computes with other instructions), and the "
         "tolerance checks fail." +
         report.Lines();
}

Json MakeGolden(const Json& results, const std::vector<std::string>& verified_on) {
  return {{"verified_on", verified_on}, {"results", DeterministicPart(results)}};
}

Json ReadGolden(const std::filesystem::path& file) {
  const Json golden = ReadJsonFile(file);
  try {
    golden.at("verified_on").get<std::vector<std::string>>();
    Fingerprint(DeterministicPart(golden.at("results")).at("inputs"));
  } catch (const Json::exception&) {
    throw Error(fmt::format(
        "{}: not a golden file (verified_on and results). Write it anew with --update_golden.",
        file.string()));
  }
  return golden;
}

std::vector<std::string> UpdateGolden(const Json& results, const std::string& host_cpu,
                                      const std::filesystem::path& file) {
  std::vector<std::string> verified_on, changes;
  if (std::filesystem::exists(file)) {
    const Json old_golden = ReadGolden(file);
    const Json now = DeterministicPart(results);
    if (CanonicalJson(old_golden.at("results")) == CanonicalJson(now)) {
      verified_on = old_golden.at("verified_on").get<std::vector<std::string>>();
    } else {
      changes = Changes(old_golden.at("results"), now, /*bytes=*/true);
    }
  } else {
    changes.push_back(fmt::format("the file is new: {} records", results.at("records").size()));
  }
  if (std::find(verified_on.begin(), verified_on.end(), host_cpu) == verified_on.end()) {
    verified_on.push_back(host_cpu);
  }
  if (file.has_parent_path()) CreateFolders(file.parent_path());
  WriteFileAtomically(file, MakeGolden(results, verified_on).dump(1) + "\n");
  return changes;
}

}  // namespace excise
