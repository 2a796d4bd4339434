// Recovery: what an attack brings back of a concept that is gone without it, beyond what the same
// attack finds in a model that never knew the concept.
#pragma once

#include <string>
#include <vector>

#include "core/json.h"
#include "experiments/results/record.h"

namespace excise {

// The row that never saw the concepts: the experiment's "floor", or the first reference row that
// was trained on the training data (without them, else it were no reference). "": there is none.
std::string FloorOf(const Json& experiment, const std::vector<Record>& records);

// The record under an attack of the plug-in `plugin`, of the method, concept and metric of `like`.
// Of several entries of the plug-in the one whose budget and then whose parameters agree most with
// those of `like`. Null: none.
const Record* MostAlike(const std::string& plugin, const Record& like,
                        const std::vector<const Record*>& records);

// How the records of recovery are printed; no plug-in knows them.
MetricTraits RecoveryTraits();

// Records of the metric "recovery": one for every attacked record of the headline's rate (the first
// of erasure that is a fraction and lower where it is better), the worst case included, of every
// row but the reference rows.
//
// Value: the mean of y(method, attack) - y(floor, attack) over the samples that neither shows
// without attack (y = 0 for both): points beyond the floor, in [-1, 1]. The floor is FloorOf's row
// under the same attack (where that attack finds nothing to adapt to in it, under the form that
// adapts to nothing). Where there is no such record with a value, the attack's control stands in:
// Attack::control_of on the same method. `protocol.floor` says which: {method, attack}.
// Interval: Tango's score interval of paired rates with one sample a prompt, else a bootstrap
// clustered by prompt and stratified by concept, never narrower than that of as many prompts that
// all agree; of all concepts together also Score::over_concepts. Parts: `plain`, the share shown
// under attack among the method's samples that it does not show without, with `plain_n`; `floor`
// and `floor_n`, the same of the floor's own; `p`, that the value is 0: McNemar's exact test, or
// sign flips by prompt; `left_out`, how many of the samples that both have one of the two shows
// without attack. Status: that of a record it is made of, if that has no number; `not_applicable`
// without floor and control; `underpowered` with fewer than 6 prompts, of which no result is
// significant at 5 %.
//
// Empty where the experiment has neither floor nor control. `records` are those of all cells and
// their worst cases; what is of another metric is passed over.
std::vector<Record> RecoveryRecords(const Json& experiment, const std::vector<Record>& records);

}  // namespace excise
