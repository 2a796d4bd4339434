#include "experiments/check/golden.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "core/error.h"
#include "core/files.h"
#include "core/plural.h"
#include "core/text.h"
#include "experiments/formats/results_file.h"
#include "experiments/lab/lab.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

fs::path FolderOf(const fs::path& file) { return fs::path(file).replace_extension(); }

fs::path FileOf(const fs::path& file, const std::string& method) {
  return FolderOf(file) / (method + ".json");
}

// The method whose golden file holds a comparison, or "".
std::string HolderOf(const Json& comparison) {
  if (comparison.at("over") == "attacks") return comparison.at("given");
  const std::string first = comparison.at("first"), second = comparison.at("second");
  if (first == kUnmodified) return second;
  return second == kUnmodified ? first : "";
}

// What is held of a method; which CPUs gave it is no part of that.
Json HeldOf(const Json& method) {
  return {{"records", method.at("records")}, {"comparisons", method.at("comparisons")}};
}

// The deterministic part of results, of `methods` alone.
Json Joined(const Golden& golden, const std::vector<std::string>& methods) {
  Json joined = golden.table;
  for (const char* list : {"records", "comparisons"}) {
    joined[list] = Json::array();
    for (const std::string& method : methods) {
      for (const Json& item : golden.methods.at(method).at(list)) joined[list].push_back(item);
    }
  }
  return joined;
}

// Methods that `some` has and `others` has not, or that both have.
std::vector<std::string> Methods(const Golden& some, const Golden& others, bool both) {
  std::vector<std::string> names;
  for (const auto& [name, method] : some.methods) {
    if ((others.methods.count(name) != 0) == both) names.push_back(name);
  }
  return names;
}

Json ReadPart(const fs::path& file, const std::vector<const char*>& fields) {
  const Json part = ReadJsonFile(file);
  try {
    for (const char* field : fields) part.at(field);
    if (part.size() == fields.size()) return part;
  } catch (const Json::exception&) {
  }
  throw Error(fmt::format("{}: not a golden file ({}). Write it anew with --update_golden.",
                          file.string(), fmt::join(fields, ", ")));
}

Json ReadMethod(const fs::path& file) {
  const Json part = ReadPart(file, {"verified_on", "records", "comparisons"});
  try {
    part.at("verified_on").get<std::vector<std::string>>();
    for (const Json& record : part.at("records")) {
      if (record.at("method") != file.stem().string()) {
        throw Error(
            fmt::format("{}: has a record of another method, {}. Write it anew with "
                        "--update_golden.",
                        file.string(), RecordNameOf(record)));
      }
    }
    for (const Json& comparison : part.at("comparisons")) HolderOf(comparison);
  } catch (const Json::exception& error) {
    throw Error(fmt::format("{}: not a golden file ({}). Write it anew with --update_golden.",
                            file.string(), error.what()));
  }
  return part;
}

}  // namespace

Golden GoldenOf(const Json& results) {
  Golden golden;
  for (const char* field : {"schema", "experiment", "inputs"}) {
    golden.table[field] = results.at(field);
  }
  for (const Json& record : results.at("records")) {
    if (record.at("metric") == kRecovery) continue;  // of two methods: as comparisons
    Json& method = golden.methods[record.at("method")];
    if (method.is_null()) {
      method = {{"verified_on", Json::array()},
                {"records", Json::array()},
                {"comparisons", Json::array()}};
    }
    method["records"].push_back(record);
  }
  for (const Json& comparison : results.at("comparisons")) {
    const std::string holder = HolderOf(comparison);
    if (!holder.empty()) golden.methods.at(holder)["comparisons"].push_back(comparison);
  }
  return golden;
}

Golden ReadGolden(const fs::path& file) {
  Golden golden;
  golden.table = ReadPart(file, {"schema", "experiment", "inputs"});
  try {
    golden.table.at("inputs").at("numerics").at("fingerprint").get<std::string>();
  } catch (const Json::exception&) {
    throw Error(fmt::format("{}: its inputs have no numerics. Write it anew with --update_golden.",
                            file.string()));
  }
  std::error_code missing;
  for (const auto& entry : fs::directory_iterator(FolderOf(file), missing)) {
    if (entry.path().extension() != ".json") continue;
    golden.methods[entry.path().stem().string()] = ReadMethod(entry.path());
  }
  if (golden.methods.count(kUnmodified) == 0) {
    throw Error(fmt::format(
        "{} is not there: the methods' golden files belong into that folder, and '{}' takes part "
        "in every run. Write them with --update_golden.",
        FileOf(file, kUnmodified).string(), kUnmodified));
  }
  return golden;
}

GoldenCheck CompareWithGolden(const Json& results, const Golden& golden, bool narrowed) {
  const Golden now = GoldenOf(results);
  const std::vector<std::string> held = Methods(golden, now, /*both=*/true);
  GoldenCheck check{CompareResults(Joined(golden, held), Joined(now, held)),
                    Methods(now, golden, /*both=*/false)};
  if (narrowed) return check;
  for (const std::string& gone : Methods(golden, now, /*both=*/false)) {
    check.report.lines.push_back(gone + ": has a golden file and takes no part in this run");
    if (check.report.agreement == Agreement::kSame) check.report.agreement = Agreement::kChanged;
    if (check.report.agreement == Agreement::kOtherNumerics) {
      check.report.agreement = Agreement::kOutOfTolerance;
    }
  }
  return check;
}

std::string GoldenSummary(const GoldenCheck& check) {
  std::string text;
  switch (check.report.agreement) {
    case Agreement::kSame:
      text = "golden: the same bytes.";
      break;
    case Agreement::kOtherNumerics:
      text =
          "golden: other numerics (this machine computes with other instructions); every value is "
          "within its tolerance.";
      break;
    case Agreement::kChanged:
      text =
          "golden: numbers or inputs changed on equal numerics. If that is intended, run again "
          "with --update_golden and commit the files." +
          check.report.Lines();
      break;
    case Agreement::kOutOfTolerance:
      text =
          "golden: other numerics (this machine computes with other instructions), and the "
          "tolerance checks fail." +
          check.report.Lines();
      break;
  }
  if (check.added.empty()) return text;
  return text + fmt::format(
                    "\ngolden: new, and held by nothing: {}. Run with --update_golden to "
                    "write a golden file for it.",
                    fmt::join(check.added, ", "));
}

std::vector<std::string> UpdateGolden(const Json& results, const std::string& host_cpu,
                                      const fs::path& file) {
  Golden now = GoldenOf(results);
  const Golden old = fs::exists(file) ? ReadGolden(file) : Golden{};
  const std::vector<std::string> both = Methods(old, now, /*both=*/true);
  const std::vector<std::string> gone = Methods(old, now, /*both=*/false);
  std::vector<std::string> changes;
  if (!both.empty()) changes = AllDifferences(Joined(old, both), Joined(now, both));
  for (const std::string& name : gone) {
    fs::remove(FileOf(file, name));
    changes.push_back(name + ": its file is removed");
  }
  CreateFolders(FolderOf(file));
  for (auto& [name, method] : now.methods) {
    const auto before = old.methods.find(name);
    if (before == old.methods.end()) {
      changes.push_back(fmt::format("{}: its file is new, {}", name,
                                    Plural(method.at("records").size(), "record")));
    } else if (old.table == now.table && HeldOf(before->second) == HeldOf(method)) {
      method["verified_on"] = before->second.at("verified_on");
    }
    const auto verified_on = method.at("verified_on").get<std::vector<std::string>>();
    if (!IsOneOf(host_cpu, verified_on)) method["verified_on"].push_back(host_cpu);
    WriteFileAtomically(FileOf(file, name), method.dump(1) + "\n");
  }
  WriteFileAtomically(file, now.table.dump(1) + "\n");
  return changes;
}

}  // namespace excise
