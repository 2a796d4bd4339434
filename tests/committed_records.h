// For tests: the records of a committed table.
#pragma once

#include <string>

#include "core/json.h"

namespace excise {

class CommittedTable {
 public:
  // `name`: "table1", "table1_full"; read from results/. Throws Error when it is absent.
  explicit CommittedTable(const std::string& name);

  // The record of a concept, "*": over all of them. Throws Error when there is none or it failed.
  const Json& Find(const std::string& method, const std::string& metric,
                   const std::string& attack = "none", const std::string& concept_name = "*") const;

  // A share of 1, over all concepts, without attack.
  double Value(const std::string& method, const std::string& metric) const;

  // The paired test of two attacks on a method over all concepts, in either order. Throws Error
  // when there is none.
  const Json& Compared(const std::string& metric, const std::string& method,
                       const std::string& first, const std::string& second) const;

 private:
  std::string name_;
  Json results_;
};

}  // namespace excise
