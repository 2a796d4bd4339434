#include "tests/committed_records.h"

#include <fmt/format.h>

#include "core/error.h"
#include "core/read_file.h"
#include "tests/testdata.h"

namespace excise {

CommittedTable::CommittedTable(const std::string& name) : name_(name) {
  const std::string folder = name.substr(0, name.find('_'));
  results_ = Json::parse(ReadFile(RepoFile(fmt::format("results/{}/{}.json", folder, name))));
}

const Json& CommittedTable::Find(const std::string& method, const std::string& metric,
                                 const std::string& attack, const std::string& concept_name) const {
  for (const Json& record : results_.at("records")) {
    if (record.at("concept") == concept_name && record.at("method") == method &&
        record.at("metric") == metric && record.at("attack") == attack &&
        record.at("status") == "ok") {
      return record;
    }
  }
  throw Error(fmt::format("{} has no record of {}, {}, {} for {}", name_, method, attack, metric,
                          concept_name));
}

double CommittedTable::Value(const std::string& method, const std::string& metric) const {
  return Find(method, metric).at("value").get<double>();
}

const Json& CommittedTable::Compared(const std::string& metric, const std::string& method,
                                     const std::string& first, const std::string& second) const {
  for (const Json& test : results_.at("comparisons")) {
    if (test.at("metric") != metric || test.at("over") != "attacks" || test.at("given") != method ||
        test.at("part") != "") {
      continue;
    }
    const bool same = test.at("first") == first && test.at("second") == second;
    if (same || (test.at("first") == second && test.at("second") == first)) return test;
  }
  throw Error(fmt::format("{} has no test of {} against {} on {}", name_, first, second, method));
}

}  // namespace excise
