// How a row of results looks wherever a page shows it: the same colour and the same shape of its
// mark in every table and figure.
#pragma once

#include <map>
#include <string>

#include "experiments/tables/table_view.h"

namespace excise {

// Reference rows are grey and hollow. Colours come again after six rows, with another shape: the
// first 24 rows of a kind all look different.
struct Look {
  size_t number = 0;  // counted among the reference rows, or among the others
  bool reference = false;
};

// The classes of a mark: what the style sheet colours it by.
std::string ClassesOf(const Look& look);
// One of four: a circle, a square, a triangle, a diamond.
size_t ShapeOf(const Look& look);

class Looks {
 public:
  Looks() = default;
  explicit Looks(const TableView& view);
  // Null: no row of the results has this name.
  const Look* Find(const std::string& method) const;
  Look Of(const std::string& method) const;  // of an unknown one: the first look

 private:
  std::map<std::string, Look> looks_;
};

}  // namespace excise
