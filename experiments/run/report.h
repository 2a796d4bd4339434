// From scores to records: who, what, under which protocol, from which artifacts.
#pragma once

#include <string>
#include <vector>

#include "experiments/lab/lab.h"
#include "experiments/results/record.h"
#include "experiments/run/grid.h"
#include "experiments/run/pipeline.h"

namespace excise {

// Results["inputs"]: digests and versions of everything that was read.
Json DescribeInputs(const Lab& lab);

// The records of a cell: one a concept, then one over all. `results` empty: the cell's method
// cannot run on this backbone.
std::vector<Record> RecordsOfCell(const Lab& lab, const Grid& grid, const Cell& cell,
                                  const std::vector<ScoreResult>& results);

// The worst case over the attacks of `records`, for every metric of erasure that reads attacked
// pictures, method and concept.
std::vector<Record> UnionRecords(const std::vector<Record>& records);

// One row a picture. Prompts of sensitive concepts appear as hashes.
std::vector<Row> RowsOfUnit(const Lab& lab, const Unit& unit, const UnitPictures& pictures,
                            const std::vector<Verdict>& verdicts);

// Enters how many of a record's pictures were drawn from a prompt that the text encoder cuts off.
void CountTruncated(const std::vector<Row>& rows, std::vector<Record>* records);

}  // namespace excise
