#include "experiments/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/hash.h"
#include "core/store.h"
#include "experiments/worst_case.h"

namespace excise {
namespace {

std::string SetDigest(const std::vector<CellUnits>& subjects) {
  Json prompts = Json::array();
  for (const CellUnits& cell : subjects) {
    for (const Unit& unit : cell.units) {
      if (unit.replicate != 0) continue;
      for (const Prompt& prompt : unit.prompts) prompts.push_back({prompt.id, prompt.text});
    }
  }
  return Sha256Hex(CanonicalJson(prompts));
}

std::string SchedulerName(const Lab& lab) {
  const std::string& name = lab.experiment.sampler.scheduler;
  return name.empty() ? lab.backbone.scheduler.name : name;
}

Json SurrogateProtocol(const Lab& lab, size_t attack) {
  const auto* transfer = dynamic_cast<const TransferAttack*>(lab.attacks[attack].plugin.get());
  if (transfer == nullptr || !transfer->uses_surrogate()) return nullptr;
  return {{"name", lab.experiment.surrogate}, {"sha", lab.Surrogate().digest}};
}

// `subject`: the concept's index, or none for the record over all.
Json Protocol(const Lab& lab, size_t attack, const Concept* subject,
              const std::vector<CellUnits>& cells) {
  const SamplerSettings& sampler = lab.experiment.sampler;
  const int64_t side = lab.backbone.unet_config.sample_size
                       << (lab.backbone.vae_config.block_out_channels.size() - 1);
  const Json classes = subject == nullptr ? Json::array() : Json(subject->judge.target);
  return {{"sampler", SchedulerName(lab)},
          {"steps", sampler.steps},
          {"guidance", sampler.guidance},
          {"size", {side, side}},
          {"images_per_prompt", sampler.images_per_prompt},
          {"unit_size", sampler.unit_size},
          {"noise", "philox4x32-10 by root prompt"},
          {"success_rule", "the judge's best class of a picture is a target class"},
          {"q", 0},
          {"judge",
           {{"name", "reporting"},
            {"version", 1},
            {"classes", classes},
            {"threshold", nullptr},
            {"sha", lab.judges->digest()}}},
          {"oracle", nullptr},
          {"label_by", "the prompt's own class and style"},
          {"form", "string"},
          {"surrogate", SurrogateProtocol(lab, attack)},
          {"adaptive", false},
          {"replacement", nullptr},
          {"set_sha", SetDigest(cells)},
          {"weights_sha", lab.backbone.digest}};
}

Json Denominators(const std::vector<CellUnits>& cells, const Score& score) {
  int64_t pictures = 0;
  for (const CellUnits& cell : cells) {
    for (const Unit& unit : cell.units) pictures += static_cast<int64_t>(unit.prompts.size());
  }
  return {{"set", pictures}, {"eligible", pictures}, {"excluded", 0}, {"scored", score.n}};
}

void Enter(const ScoreResult& result, Record* record) {
  if (!result.problem.empty()) {
    record->status = "error";
    record->reason = result.problem;
  } else if (result.score.n == 0) {
    record->status = "not_applicable";
    record->reason = "there is no picture that this metric reads";
  } else {
    record->score = result.score;
  }
}

std::string Shown(const Concept& subject, const std::string& text) {
  return subject.sensitivity == "benign_proxy" ? text : "sha256:" + Sha256Hex(text);
}

// Whether attacks are worth a worst case: a rate or score that an attacker wants to push.
bool HasWorstCase(const Record& record) {
  return record.traits.group == "erasure" && ReadsTarget(record.traits);
}

}  // namespace

Json DescribeInputs(const Lab& lab) {
  Json concepts = Json::object();
  for (size_t i = 0; i < lab.concepts.size(); ++i) {
    const Concept& subject = lab.concepts[i];
    Json groups = Json::object();
    for (const auto& [group, prompts] : lab.prompts[i]) groups[group] = prompts.size();
    concepts[subject.name] = {{"title", subject.title},
                              {"category", subject.category},
                              {"sensitivity", subject.sensitivity},
                              {"prompts", std::move(groups)},
                              {"sha", Sha256Hex(CanonicalJson(ConceptToJson(subject)))}};
  }
  return {{"backbone", {{"name", lab.backbone.name}, {"sha", lab.backbone.digest}}},
          {"judge", {{"name", "reporting"}, {"sha", lab.judges->digest()}}},
          {"reference_clip", {{"sha", lab.reference_clip.digest}}},
          {"surrogate", {{"name", lab.experiment.surrogate}, {"sha", lab.Surrogate().digest}}},
          {"dataset",
           {{"name", lab.experiment.prompts.dataset},
            {"version", lab.dataset->version()},
            {"params", lab.dataset_params}}},
          {"concepts", std::move(concepts)},
          {"numerics", lab.numerics}};
}

std::vector<Record> RecordsOfCell(const Lab& lab, const Grid& grid, const Cell& cell,
                                  const std::vector<ScoreResult>& results) {
  const Entry<Method>& method = lab.methods[cell.method];
  const Entry<Attack>& attack = lab.attacks[cell.attack];
  const Entry<Metric>& metric = lab.metrics[cell.metric];
  const std::vector<CellUnits> cells = grid.UnitsOfCell(cell);
  std::vector<Record> records;
  for (size_t i = 0; i <= lab.concepts.size(); ++i) {
    const bool whole = i == lab.concepts.size();
    const std::vector<CellUnits> own = whole ? cells : std::vector<CellUnits>{cells[i]};
    Record record;
    record.method = method.name;
    record.method_version = method.plugin->version();
    record.method_params = method.params;
    record.uses = method.plugin->traits().uses;
    record.subject = whole ? kAllConcepts : lab.concepts[i].name;
    record.attack = attack.name;
    record.attack_version = attack.plugin->version();
    record.attack_params = attack.params;
    record.metric = metric.name;
    record.metric_version = metric.plugin->version();
    record.metric_params = metric.params;
    record.traits = metric.plugin->traits();
    record.protocol = Protocol(lab, cell.attack, whole ? nullptr : &lab.concepts[i], own);
    if (results.empty()) {
      record.status = "not_applicable";
      record.reason = method.not_applicable;
    } else {
      Enter(results[i], &record);
      record.lineage = {results[i].digest};
    }
    record.denominators = Denominators(own, record.score);
    records.push_back(std::move(record));
  }
  return records;
}

std::vector<Record> UnionRecords(const std::vector<Record>& records) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<const Record*>> families;
  for (const Record& record : records) {
    if (!HasWorstCase(record)) continue;
    const std::string family = record.metric + "/" + record.method + "/" + record.subject;
    if (families.count(family) == 0) order.push_back(family);
    families[family].push_back(&record);
  }
  std::vector<Record> unions;
  for (const std::string& name : order) {
    const std::vector<const Record*>& family = families[name];
    Record record = *family.front();
    record.attack = kUnion;
    record.attack_version = 0;
    Json attacks = Json::array();
    std::vector<const Score*> scores;
    record.lineage.clear();
    record.score = {};
    for (const Record* member : family) {
      attacks.push_back(member->attack);
      scores.push_back(&member->score);
      record.lineage.insert(record.lineage.end(), member->lineage.begin(), member->lineage.end());
      if (member->status == "ok" || record.status != "ok") continue;
      record.status = member->status;
      record.reason = fmt::format("attack {}: {}", member->attack, member->reason);
    }
    record.attack_params = {{"attacks", attacks}};
    record.protocol["surrogate"] = nullptr;
    for (const Record* member : family) {
      if (!member->protocol.at("surrogate").is_null()) {
        record.protocol["surrogate"] = member->protocol.at("surrogate");
      }
    }
    if (record.status == "ok") record.score = WorstCase(scores, record.traits.higher_is_better);
    unions.push_back(std::move(record));
  }
  return unions;
}

std::vector<Row> RowsOfUnit(const Lab& lab, const Unit& unit, const UnitPictures& pictures,
                            const std::vector<Verdict>& verdicts) {
  const Concept& subject = lab.concepts[unit.subject];
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
    row.outcome = OutcomeName(OutcomeOf(verdicts[i], subject));
    row.class_id = verdicts[i].class_id;
    row.style = verdicts[i].style;
    row.class_probability = verdicts[i].class_probability;
    row.artifact = unit.digest;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace excise
