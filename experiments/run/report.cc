#include "experiments/run/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "core/hash.h"
#include "core/store.h"
#include "core/text.h"
#include "experiments/lab/judges.h"
#include "experiments/results/worst_case.h"
#include "experiments/run/stored.h"

namespace excise {
namespace {

// Replicates and edits are asked for the same prompts.
std::string SetDigest(const Lab& lab, const std::vector<CellUnits>& subjects) {
  Json prompts = Json::array();
  for (const CellUnits& cell : subjects) {
    for (const Unit* unit : cell.units) {
      if (unit->replicate != 0 || lab.RowOf(unit->method) != unit->method) continue;
      for (const Prompt& prompt : unit->prompts) prompts.push_back({prompt.id, prompt.text});
    }
  }
  return Sha256Hex(CanonicalJson(prompts));
}

std::string SchedulerName(const Lab& lab) {
  const std::string& name = lab.experiment.sampler.scheduler;
  return name.empty() ? lab.backbone.scheduler.name : name;
}

Json SurrogateProtocol(const Lab& lab, size_t attack) {
  if (!lab.TraitsOf(attack).ReadsBase()) return nullptr;
  return {{"name", lab.experiment.surrogate}, {"sha", lab.Surrogate().digest}};
}

Json OracleProtocol(const Lab& lab, size_t attack, const std::vector<size_t>& subjects) {
  if (lab.TraitsOf(attack).queries == 0) return nullptr;
  return DescribeOracles(lab, subjects);
}

// The lists of concepts removed together that a record tells of: the one of its concept, or all.
Json RemovalsProtocol(const Lab& lab, size_t method, const Concept* subject) {
  Json lists = Json::array();
  const std::optional<RemovalLists>& own = lab.methods[method].removals;
  for (const std::vector<std::string>& list : own ? *own : lab.experiment.removals) {
    if (subject == nullptr || IsOneOf(subject->name, list)) lists.push_back(list);
  }
  return lists;
}

std::string NoiseProtocol(const SamplerSettings& sampler, const AttackTraits& traits) {
  if (traits.latents && !traits.drawing) return "chosen by the attack";
  const std::string noise = sampler.noise == "torch_cpu" ? "torch_cpu by the prompt's seed"
                                                         : "philox4x32-10 by root prompt";
  return noise + (traits.drawing ? "; the attack chooses how it is used" : "");
}

// `subject`: the concept, or none for the record over all; `subjects`: their indices.
Json Protocol(const Lab& lab, size_t attack, const Concept* subject,
              const std::vector<size_t>& subjects, const std::vector<CellUnits>& cells) {
  const SamplerSettings& sampler = lab.experiment.sampler;
  const int64_t side = lab.backbone.unet_config.sample_size
                       << (lab.backbone.vae_config.block_out_channels.size() - 1);
  const AttackTraits traits = lab.TraitsOf(attack);
  const Json classes = subject == nullptr ? Json::array() : Json(subject->judge.target);
  Json protocol = {{"sampler", SchedulerName(lab)},
                   {"steps", sampler.steps},
                   {"guidance", sampler.guidance},
                   {"size", {side, side}},
                   {"images_per_prompt", sampler.images_per_prompt},
                   {"unit_size", sampler.unit_size},
                   {"noise", NoiseProtocol(sampler, traits)},
                   {"success_rule", "the judge's best class of a picture is a target class"},
                   {"q", traits.queries},
                   {"judge", DescribeJudges(lab, subjects, classes)},
                   {"oracle", OracleProtocol(lab, attack, subjects)},
                   {"label_by", "the prompt's own class and style"},
                   {"form", FormName(traits.form)},
                   {"surrogate", SurrogateProtocol(lab, attack)},
                   {"adaptive", lab.ForEachMethod(attack)},
                   {"replacement", nullptr},
                   {"set_sha", SetDigest(lab, cells)},
                   {"weights_sha", lab.backbone.digest}};
  if (!lab.experiment.protocol.empty()) protocol["protocol"] = lab.experiment.protocol;
  return protocol;
}

// What other attack this one is compared with; by the plug-in's name.
void AddRelations(const Attack& attack, Json* protocol) {
  if (!attack.control_of().empty()) (*protocol)["control_of"] = attack.control_of();
  if (!attack.adaptive_form_of().empty()) {
    (*protocol)["adaptive_form_of"] = attack.adaptive_form_of();
  }
}

// What is missing, and what a rate would be had all that was left out or is missing failed, or
// succeeded.
void AddBounds(const Score& score, const MetricTraits& traits, Json* denominators) {
  if (!score.missing.empty()) (*denominators)["missing"] = score.missing.size();
  const double n = static_cast<double>(score.n);
  const double out =
      denominators->at("excluded").get<double>() + static_cast<double>(score.missing.size());
  if (out == 0 || score.n == 0 || traits.unit != "fraction") return;
  (*denominators)["bounds"] = {score.value * n / (n + out), (score.value * n + out) / (n + out)};
}

// "" where nothing is missing.
std::string MissingReason(const Score& score) {
  if (score.missing.empty()) return "";
  return fmt::format("missing or damaged pictures, which count nowhere: {}; the first: {}",
                     score.missing.size(), score.missing.begin()->second);
}

// set -> eligible -> attacked -> scored, in pictures. What was left out is counted by reason.
Json Denominators(const Lab& lab, const Cell& cell, const std::vector<size_t>& subjects,
                  const Score& score) {
  const auto edits = static_cast<int64_t>(lab.EditsOf(cell.method));
  const int64_t replicates = lab.experiment.sampler.images_per_prompt * edits;
  const bool attack = lab.attacks[cell.attack].name != kUnmodified;
  int64_t set = 0, attacked = 0, left_out = 0;
  std::map<std::string, int64_t> reasons;
  const auto leave_out = [&](const std::string& reason) {
    reasons[reason] += replicates;
    left_out += replicates;
  };
  for (const size_t subject : subjects) {
    for (const std::string& group : lab.metrics[cell.metric].plugin->traits().sample_groups) {
      const auto prompts = lab.prompts[subject].find(group);
      if (prompts == lab.prompts[subject].end()) continue;
      set += static_cast<int64_t>(prompts->second.size()) * replicates;
      if (group == "target" && attack) {
        for (const Prompt& seed : prompts->second) {
          const std::string reason = lab.ReasonNotAttacked(cell.attack, subject, seed);
          if (!reason.empty()) leave_out(reason);
          attacked += reason.empty() ? replicates : 0;
        }
      }
      const auto excluded = lab.excluded[subject].find(group);
      if (excluded == lab.excluded[subject].end()) continue;
      set += static_cast<int64_t>(excluded->second.size()) * replicates;
      for (const Exclusion& one : excluded->second) leave_out(one.reason);
    }
  }
  Json json = {{"set", set},
               {"eligible", set - left_out},
               {"excluded", left_out},
               {"attacked", attacked},
               {"scored", score.n}};
  if (edits > 1) json["edits"] = edits;
  if (left_out > 0) json["reasons"] = reasons;
  AddBounds(score, lab.metrics[cell.metric].plugin->traits(), &json);
  return json;
}

void SetScore(const ScoreResult& result, Record* record) {
  if (!result.problem.empty()) {
    record->status = "error";
    record->reason = result.problem;
  } else if (result.score.n == 0) {
    record->status = "not_applicable";
    record->reason = kNoPicture;
    const auto blocked = result.score.parts.find("blocked");
    const bool left_out = record->traits.blocked == BlockedPictures::kLeftOut;
    if (left_out && blocked != result.score.parts.end() && blocked->second > 0) {
      record->reason =
          fmt::format("{:.0f} of the pictures that it reads were blocked, and too few are left",
                      blocked->second);
    }
    record->score.missing = result.score.missing;
  } else {
    record->score = result.score;
    record->reason = MissingReason(result.score);
  }
}

// The score of `family` under its worst attack, with what is missing of it.
void SetWorstCase(const std::vector<const Record*>& family, const std::vector<const Score*>& scores,
                  Record* record) {
  if (record->status != "ok") return;
  const auto any = [&](const char* key) {
    return std::any_of(family.begin(), family.end(), [&](const Record* member) {
      return member->denominators.value(key, 0) != 0;
    });
  };
  record->score = WorstCase(scores, record->traits.higher_is_better, any("excluded"));
  if (!any("missing")) return;
  record->reason = MissingReason(record->score);
  if (record->score.n == 0) record->status = "error";
  record->denominators.erase("missing");
  record->denominators.erase("bounds");
  record->denominators["scored"] = record->score.n;
  AddBounds(record->score, record->traits, &record->denominators);
}

// Whether attacks are worth a worst case: a rate or score that an attacker wants to push.
bool HasWorstCase(const Record& record) {
  return record.traits.group == "erasure" && ReadsTarget(record.traits);
}

}  // namespace

namespace {

// Of rows that were left out results keep the digest alone.
Json DescribeDataset(const Lab& lab) {
  Json json = {{"name", lab.dataset.plugin_name},
               {"version", lab.dataset.plugin->version()},
               {"params", lab.dataset.params}};
  if (!lab.dataset.files.empty()) json["files"] = lab.dataset.files;
  Json excluded = Json::array();
  for (size_t i = 0; i < lab.excluded.size(); ++i) {
    for (const auto& [group, list] : lab.excluded[i]) {
      for (const Exclusion& one : list) {
        excluded.push_back({{"concept", lab.concepts[i].name},
                            {"group", group},
                            {"id", one.id},
                            {"reason", one.reason},
                            {"text_sha256", one.sha256}});
      }
    }
  }
  if (!excluded.empty()) json["excluded"] = std::move(excluded);
  return json;
}

}  // namespace

Json DescribeInputs(const Lab& lab) {
  Json concepts = Json::object();
  for (size_t i = 0; i < lab.concepts.size(); ++i) {
    const Concept& subject = lab.concepts[i];
    Json groups = Json::object();
    for (const auto& [group, prompts] : lab.prompts[i]) groups[group] = prompts.size();
    // Which judge a concept has, records say: it may be the experiment's.
    Concept described = subject;
    described.judge.plugin.clear();
    described.judge.params = Json::object();
    if (lab.prompts[i].count("implied") == 0) described.implied.clear();  // nobody reads them
    concepts[subject.name] = {{"title", subject.title},
                              {"category", subject.category},
                              {"sensitivity", subject.sensitivity},
                              {"prompts", std::move(groups)},
                              {"sha", Sha256Hex(CanonicalJson(ConceptToJson(described)))}};
  }
  std::vector<size_t> all(lab.concepts.size());
  std::iota(all.begin(), all.end(), size_t{0});
  const Json judge = DescribeJudges(lab, all, Json::array());
  Json json = {{"backbone", {{"name", lab.backbone.name}, {"sha", lab.backbone.digest}}},
               {"judge", {{"name", judge.at("name")}, {"sha", judge.at("sha")}}},
               {"dataset", DescribeDataset(lab)},
               {"concepts", std::move(concepts)},
               {"numerics", lab.numerics}};
  // A snapshot of others brings no CLIP.
  if (!lab.reference_clip.digest.empty()) {
    json["reference_clip"] = {{"sha", lab.reference_clip.digest}};
  }
  if (!lab.Surrogate().digest.empty()) {
    json["surrogate"] = {{"name", lab.experiment.surrogate}, {"sha", lab.Surrogate().digest}};
  }
  if (lab.quadruplets != nullptr) json["quadruplets"] = lab.quadruplets->Describe();
  return json;
}

namespace {

// Why a cell has no number for these concepts, or "".
std::string NotApplicable(const Lab& lab, const Cell& cell, const std::vector<size_t>& subjects) {
  const Entry<Method>& method = lab.methods[cell.method];
  if (!method.not_applicable.empty()) return method.not_applicable;
  for (const size_t subject : subjects) {
    const std::string reason = lab.ReasonNotClaimed(cell.method, subject);
    if (!reason.empty()) return reason;
  }
  if (method.pictures == nullptr) return "";
  const MetricTraits traits = lab.metrics[cell.metric].plugin->traits();
  if (traits.group == "cost") return "what pictures that were made elsewhere cost is not known";
  for (const size_t subject : subjects) {
    for (const std::string& group : traits.sample_groups) {
      const auto prompts = lab.prompts[subject].find(group);
      if (prompts == lab.prompts[subject].end() || prompts->second.empty()) continue;
      const size_t attack = group == "target" ? cell.attack : 0;
      if (method.pictures->offered.count({subject, attack, group}) != 0) continue;
      return fmt::format("the manifest has no {} pictures of '{}' under attack {}", group,
                         lab.concepts[subject].name, lab.attacks[attack].name);
    }
  }
  return "";
}

template <class Base>
Json ShownParams(const Entry<Base>& entry) {
  Json params = entry.params;
  for (const auto& [field, sha256] : entry.files.items()) params[field + "_sha256"] = sha256;
  if (entry.name != entry.plugin_name) params["plugin"] = entry.plugin_name;
  if (!entry.found_on.empty()) params["found_on"] = entry.found_on;
  if (entry.removals) params["removals"] = *entry.removals;
  return params;
}

}  // namespace

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
    std::vector<size_t> subjects = {i};
    if (whole) {
      subjects.resize(lab.concepts.size());
      std::iota(subjects.begin(), subjects.end(), size_t{0});
    }
    Record record;
    record.method = method.name;
    record.method_version = method.plugin->version();
    record.method_params = ShownParams(method);
    record.uses = method.plugin->traits().uses;
    record.subject = whole ? kAllConcepts : lab.concepts[i].name;
    record.attack = attack.name;
    record.attack_version = attack.plugin->version();
    record.attack_params = ShownParams(attack);
    record.metric = metric.name;
    record.metric_version = metric.plugin->version();
    record.metric_params = ShownParams(metric);
    record.traits = metric.plugin->traits();
    record.protocol = Protocol(lab, cell.attack, whole ? nullptr : &lab.concepts[i], subjects, own);
    AddRelations(*attack.plugin, &record.protocol);
    record.protocol["replacement"] = method.params.value("replacement", Json(nullptr));
    const Json removals = RemovalsProtocol(lab, cell.method, whole ? nullptr : &lab.concepts[i]);
    if (!removals.empty()) record.protocol["removals"] = removals;
    if (method.pictures != nullptr) {
      record.protocol["sampler"] = record.protocol["noise"] = "made elsewhere";
    }
    record.reason = NotApplicable(lab, cell, subjects);
    if (!record.reason.empty()) {
      record.status = "not_applicable";
    } else if (!lab.AttackApplies(cell.attack, cell.method) && !lab.MadeElsewhere(cell.method)) {
      record.status = "non_adaptive_only";
      record.reason =
          fmt::format("attack {} finds nothing in these methods to adapt to", attack.name);
    } else {
      SetScore(results[i], &record);
    }
    if (!results.empty()) record.lineage = {results[i].digest};
    record.denominators = Denominators(lab, cell, subjects, record.score);
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
      // An adaptive attack that finds nothing to adapt to is no attack that was withstood.
      if (member->status == "non_adaptive_only") continue;
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
      if (member->status == "non_adaptive_only") continue;
      if (member->protocol.at("adaptive").get<bool>()) record.protocol["adaptive"] = true;
      if (!member->protocol.at("surrogate").is_null()) {
        record.protocol["surrogate"] = member->protocol.at("surrogate");
      }
    }
    SetWorstCase(family, scores, &record);
    unions.push_back(std::move(record));
  }
  return unions;
}

}  // namespace excise
