// What results say of each picture.
#include <ATen/core/Tensor.h>

#include <map>

#include "core/hash.h"
#include "experiments/run/report.h"
#include "experiments/run/stored.h"

namespace excise {
namespace {

std::string Shown(const Concept& subject, const std::string& text) {
  return subject.sensitivity == "benign_proxy" ? text : "sha256:" + Sha256Hex(text);
}

}  // namespace

std::vector<Row> RowsOfUnit(const Lab& lab, const Unit& unit, const UnitPictures& pictures,
                            const std::vector<Verdict>& verdicts) {
  const Concept& subject = lab.concepts[unit.subject];
  CheckVerdicts(verdicts, pictures, lab, unit);
  std::vector<Row> rows;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    Row row;
    row.method = lab.methods[unit.method].name;
    row.subject = subject.name;
    row.attack = lab.attacks[unit.attack].name;
    row.group = unit.group;
    row.prompt_id = pictures.prompts[i].id;
    row.root_id = pictures.prompts[i].root_id;
    row.prompt = Shown(subject, pictures.prompts[i].text);
    row.replicate = unit.replicate;
    row.erase_seed = SeedAmongEdits(lab, unit.method);
    const bool missing = pictures.problems.count(static_cast<int64_t>(i)) != 0;
    const bool blocked = pictures.Blocked(static_cast<int64_t>(i));
    row.outcome = OutcomeName(missing   ? Outcome::kError
                              : blocked ? Outcome::kBlocked
                                        : OutcomeOf(verdicts[i], subject));
    for (const auto& [name, signal] : pictures.detected) {
      row.detected[name] = signal.scores[static_cast<int64_t>(i)].item<double>();
    }
    row.class_id = verdicts[i].class_id;
    row.style = verdicts[i].style;
    row.class_probability = verdicts[i].class_probability;
    row.artifact = unit.digest;
    if (pictures.prompts[i].form() == PromptForm::kText) {
      lab.backbone.tokenizer->EncodePadded(
          pictures.prompts[i].text, lab.backbone.clip.text.max_position_embeddings, &row.truncated);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

void CountTruncated(const std::vector<Row>& rows, std::vector<Record>* records) {
  std::map<std::vector<std::string>, int64_t> counts;
  for (const Row& row : rows) {
    if (!row.truncated) continue;
    ++counts[{row.method, row.attack, row.group, row.subject}];
    ++counts[{row.method, row.attack, row.group, kAllConcepts}];
  }
  for (Record& record : *records) {
    int64_t truncated = 0;
    for (const std::string& group : record.traits.sample_groups) {
      const auto found = counts.find({record.method, record.attack, group, record.subject});
      if (found != counts.end()) truncated += found->second;
    }
    if (truncated > 0) record.denominators["truncated"] = truncated;
  }
}

}  // namespace excise
