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

std::string NameOf(const Json& record) {
  return fmt::format("{} / {} / {} / {}", record.at("method").get<std::string>(),
                     record.at("concept").get<std::string>(),
                     record.at("attack").get<std::string>(),
                     record.at("metric").get<std::string>());
}

std::string NameOfComparison(const Json& c) {
  return fmt::format("{} {} {} {}: {} against {}", c.at("metric").get<std::string>(),
                     c.at("part").get<std::string>(), c.at("over").get<std::string>(),
                     c.at("given").get<std::string>(), c.at("first").get<std::string>(),
                     c.at("second").get<std::string>());
}

std::string Fingerprint(const Json& deterministic) {
  return deterministic.at("inputs").at("numerics").at("fingerprint");
}

// One line for each JSON pointer at which the two differ.
void Differences(const std::string& name, const Json& old_value, const Json& new_value,
                 std::vector<std::string>* lines) {
  const Json a = old_value.flatten(), b = new_value.flatten();
  for (const auto& [pointer, value] : a.items()) {
    if (!b.contains(pointer)) {
      lines->push_back(fmt::format("{}: {} was {}, now absent", name, pointer, Short(value)));
    } else if (b[pointer].dump() != value.dump()) {
      lines->push_back(
          fmt::format("{}: {} was {}, now {}", name, pointer, Short(value), Short(b[pointer])));
    }
  }
  for (const auto& [pointer, value] : b.items()) {
    if (!a.contains(pointer)) {
      lines->push_back(fmt::format("{}: {} is new: {}", name, pointer, Short(value)));
    }
  }
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

}  // namespace

std::string GoldenReport::Summary() const {
  std::string text;
  switch (verdict) {
    case GoldenVerdict::kSame:
      return "golden: the same bytes.";
    case GoldenVerdict::kOtherNumerics:
      return "golden: other numerics (this machine computes with other instructions); every value "
             "is within its tolerance.";
    case GoldenVerdict::kChanged:
      text =
          "golden: numbers or inputs changed on equal numerics. If that is intended, run again "
          "with --update_golden and commit the file.";
      break;
    case GoldenVerdict::kOutOfTolerance:
      text =
          "golden: other numerics (this machine computes with other instructions), and the "
          "tolerance checks fail.";
      break;
  }
  for (size_t i = 0; i < std::min(lines.size(), kMostLines); ++i) text += "\n  " + lines[i];
  if (lines.size() > kMostLines) {
    text += fmt::format("\n  ... and {} more", lines.size() - kMostLines);
  }
  return text;
}

Json MakeGolden(const Json& results, const std::vector<std::string>& verified_on) {
  return {{"verified_on", verified_on}, {"results", DeterministicPart(results)}};
}

GoldenReport CompareWithGolden(const Json& results, const Json& golden) {
  const Json now = DeterministicPart(results);
  const Json& before = golden.at("results");
  GoldenReport report;
  if (CanonicalJson(now) == CanonicalJson(before)) return report;
  const bool same_numerics = Fingerprint(now) == Fingerprint(before);
  Json old_inputs = before.at("inputs"), new_inputs = now.at("inputs");
  if (!same_numerics) {
    old_inputs.erase("numerics");
    new_inputs.erase("numerics");
  }
  Differences("experiment", before.at("experiment"), now.at("experiment"), &report.lines);
  Differences("inputs", old_inputs, new_inputs, &report.lines);
  ComparePairs(
      ByName(before.at("records"), NameOf), ByName(now.at("records"), NameOf),
      [&](const std::string& name, const Json& old_record, const Json& new_record) {
        if (same_numerics) {
          Differences(name, old_record, new_record, &report.lines);
        } else {
          CompareValues(name, old_record, new_record, &report.lines);
        }
      },
      &report.lines);
  if (!same_numerics) {
    report.verdict =
        report.lines.empty() ? GoldenVerdict::kOtherNumerics : GoldenVerdict::kOutOfTolerance;
    return report;
  }
  report.verdict = GoldenVerdict::kChanged;
  ComparePairs(
      ByName(before.at("comparisons"), NameOfComparison),
      ByName(now.at("comparisons"), NameOfComparison),
      [&](const std::string& name, const Json& old_item, const Json& new_item) {
        Differences(name, old_item, new_item, &report.lines);
      },
      &report.lines);
  if (report.lines.empty()) report.lines.push_back("the order of the records changed");
  return report;
}

void UpdateGolden(const Json& results, const std::string& host_cpu,
                  const std::filesystem::path& file) {
  std::vector<std::string> verified_on;
  if (std::filesystem::exists(file)) {
    const Json old_golden = ReadJsonFile(file);
    if (CompareWithGolden(results, old_golden).verdict == GoldenVerdict::kSame) {
      verified_on = old_golden.at("verified_on").get<std::vector<std::string>>();
    }
  }
  if (std::find(verified_on.begin(), verified_on.end(), host_cpu) == verified_on.end()) {
    verified_on.push_back(host_cpu);
  }
  if (file.has_parent_path()) CreateFolders(file.parent_path());
  WriteFileAtomically(file, MakeGolden(results, verified_on).dump(1) + "\n");
}

}  // namespace excise
