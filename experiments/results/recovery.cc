#include "experiments/results/recovery.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/stats.h"
#include "core/text.h"
#include "experiments/results/over_concepts.h"

namespace excise {
namespace {

// The fewest prompts of which a paired test can say anything at 5 %: 2 / 2^6 is less, 2 / 2^5 not.
constexpr size_t kLeastPrompts = 6;
constexpr int64_t kDraws = 2000;

using Values = std::map<std::string, double>;  // by sample id

Values ValuesOf(const Record& record) {
  Values values;
  for (size_t i = 0; i < record.score.per_sample.size(); ++i) {
    values[record.score.sample_ids[i]] = record.score.per_sample[i];
  }
  return values;
}

// The value of the sample of one row that is paired with the sample `id` of another; or null. A row
// that was edited several times has the seed of an edit behind its ids,
// "poodle/target/set@0/7#0@2": one that was edited once has the same sample for each of them.
const double* PartnerOf(const std::string& id, const Values& values) {
  auto found = values.find(id);
  if (found == values.end()) found = values.find(id.substr(0, id.find('@', id.rfind('#'))));
  return found == values.end() ? nullptr : &found->second;
}

// A row without attack and under it.
struct Side {
  const Record *plain = nullptr, *attacked = nullptr;
};

// Under attack, of the samples that are not shown without it.
Values Hidden(const Side& side) {
  const Values plain = ValuesOf(*side.plain);
  Values hidden;
  for (const auto& [id, value] : ValuesOf(*side.attacked)) {
    const auto found = plain.find(id);
    if (found != plain.end() && found->second == 0) hidden[id] = value;
  }
  return hidden;
}

double MeanOf(const Values& values) {
  double sum = 0;
  for (const auto& [id, value] : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

struct Pairs {
  std::vector<double> method, floor, differences;
  std::vector<std::string> ids, prompts, concepts;
  std::set<std::string> distinct;  // prompts

  Pairs(const Values& of_method, const Values& of_floor) {
    for (const auto& [id, value] : of_method) {
      const double* other = PartnerOf(id, of_floor);
      if (other == nullptr) continue;
      method.push_back(value);
      floor.push_back(*other);
      differences.push_back(value - *other);
      ids.push_back(id);
      prompts.push_back(id.substr(0, id.rfind('#')));
      concepts.push_back(id.substr(0, id.find('/')));
    }
    distinct.insert(prompts.begin(), prompts.end());
  }
  bool OneAPrompt() const {
    const auto binary = [](const std::vector<double>& values) {
      return std::all_of(values.begin(), values.end(), [](double v) { return v == 0 || v == 1; });
    };
    return distinct.size() == prompts.size() && binary(method) && binary(floor);
  }
};

Philox RecoveryRng() {
  StreamKey key;
  key.id = "experiments/recovery";
  key.stream = Stream::kOrder;
  return Philox(key);
}

void ScoreByPrompt(const Pairs& pairs, Score* score) {
  Philox rng = RecoveryRng();
  const Bootstrap bootstrap =
      BootstrapMean(pairs.differences, pairs.prompts, rng, kDraws, 0.95, pairs.concepts);
  // Values that hardly differ make a bootstrap too narrow.
  PairedCounts agree;
  agree.neither = static_cast<int64_t>(pairs.distinct.size());
  const Interval least = TangoPaired(agree).ci;
  score->value = bootstrap.value;
  score->stderr_ = bootstrap.standard_error;
  score->low = std::max(-1.0, std::min(bootstrap.ci.low, bootstrap.value + least.low));
  score->high = std::min(1.0, std::max(bootstrap.ci.high, bootstrap.value + least.high));
  Philox signs = RecoveryRng();
  score->parts["p"] =
      SignFlipTests({pairs.method, pairs.floor}, pairs.prompts, signs, kDraws).PValue(0, 1);
}

void ScoreByPair(const Pairs& pairs, Score* score) {
  const PairedCounts counts = CountPairs({pairs.method.begin(), pairs.method.end()},
                                         {pairs.floor.begin(), pairs.floor.end()});
  const Difference difference = TangoPaired(counts);
  const auto n = static_cast<double>(counts.n());
  const double differ = static_cast<double>(counts.only_first + counts.only_second) / n;
  score->value = difference.value;
  score->low = difference.ci.low;
  score->high = difference.ci.high;
  score->stderr_ = std::sqrt(std::max(0.0, differ - difference.value * difference.value) / n);
  score->parts["p"] = McNemarExact(counts.only_first, counts.only_second);
}

// What could not be drawn of either side: it counts nowhere.
std::map<std::string, std::string> Missing(const Side& method, const Side& floor) {
  std::map<std::string, std::string> missing;
  for (const Record* record : {method.plain, method.attacked, floor.plain, floor.attacked}) {
    missing.insert(record->score.missing.begin(), record->score.missing.end());
  }
  return missing;
}

// The method's samples that both sides have without attack and under it.
int64_t InBoth(const Side& method, const Side& floor) {
  const Values plain = ValuesOf(*method.plain);
  const Values floor_plain = ValuesOf(*floor.plain), floor_attacked = ValuesOf(*floor.attacked);
  int64_t n = 0;
  for (const std::string& id : method.attacked->score.sample_ids) {
    n += plain.count(id) != 0 && PartnerOf(id, floor_plain) != nullptr &&
         PartnerOf(id, floor_attacked) != nullptr;
  }
  return n;
}

void SetRecovery(const Side& method, const Side& floor, Record* record) {
  const Values recovered = Hidden(method), found = Hidden(floor);
  const Pairs pairs(recovered, found);
  Score score;
  score.n = static_cast<int64_t>(pairs.method.size());
  score.missing = Missing(method, floor);
  record->denominators["scored"] = score.n;
  if (!score.missing.empty()) {
    record->denominators["missing"] = score.missing.size();
    record->reason =
        fmt::format("missing or damaged pictures, of it or of the floor: {}; the first: {}",
                    score.missing.size(), score.missing.begin()->second);
  }
  if (pairs.distinct.size() < kLeastPrompts) {
    record->status = "underpowered";
    record->reason = fmt::format(
        "fewer than {} prompts that neither it nor the floor shows without attack", kLeastPrompts);
    return;
  }
  pairs.OneAPrompt() ? ScoreByPair(pairs, &score) : ScoreByPrompt(pairs, &score);
  if (record->subject == kAllConcepts) {
    score.over_concepts = IntervalOverConcepts(pairs.ids, pairs.differences);
  }
  score.parts["left_out"] = static_cast<double>(InBoth(method, floor) - score.n);
  score.parts["plain"] = MeanOf(recovered);
  score.parts["plain_n"] = static_cast<double>(recovered.size());
  score.parts["floor"] = MeanOf(found);
  score.parts["floor_n"] = static_cast<double>(found.size());
  record->score = std::move(score);
}

bool HasNumber(const Record* record) { return record != nullptr && record->status == "ok"; }

// How many fields are equal in both.
int64_t Agreement(const Json& a, const Json& b) {
  int64_t equal = 0;
  for (const auto& [field, value] : a.items()) equal += b.value(field, Json()) == value;
  return equal;
}

// The most that the attack may spend, by kind.
Json AllowanceOf(const Record& record) {
  return record.protocol.value(Json::json_pointer("/budget/most"), Json::object());
}

std::string PluginOf(const Record& record) {
  return record.attack_params.value("plugin", record.attack);
}

// The records of the headline's rate, found by method, concept and attack.
class Rates {
 public:
  explicit Rates(const std::vector<Record>& records) {
    for (const Record& record : records) {
      const MetricTraits& traits = record.traits;
      if (metric_.empty() && traits.group == "erasure" && traits.unit == "fraction" &&
          !traits.higher_is_better) {
        metric_ = record.metric;
        none_ = record.attack;  // the first attack is none
      }
      if (record.metric == metric_) all_.push_back(&record);
    }
  }

  const std::string& metric() const { return metric_; }
  const std::string& none() const { return none_; }
  const std::vector<const Record*>& all() const { return all_; }
  const Record* Find(const std::string& method, const std::string& subject,
                     const std::string& attack) const {
    for (const Record* record : all_) {
      if (record->method == method && record->subject == subject && record->attack == attack) {
        return record;
      }
    }
    return nullptr;
  }
  // The entry of which `record`'s attack is, by `relation`, a form; or null.
  const Record* Related(const Record& record, const char* relation,
                        const std::string& method) const {
    const std::string plugin = record.protocol.value(relation, "");
    if (plugin.empty()) return nullptr;
    Record like = record;
    like.method = method;
    return MostAlike(plugin, like, all_);
  }

 private:
  std::string metric_, none_;
  std::vector<const Record*> all_;
};

class Recoveries {
 public:
  Recoveries(const Json& experiment, const std::vector<Record>& records)
      : rates_(records), floor_(FloorOf(experiment, records)) {
    references_ = experiment.value("reference_rows", Json::array()).get<std::vector<std::string>>();
    for (const Record* record : rates_.all()) {
      const std::string of = record->protocol.value("control_of", "");
      if (!of.empty()) controls_[PluginOf(*record)] = of;
    }
  }

  std::vector<Record> All() const {
    std::vector<Record> recoveries;
    if (floor_.empty() && controls_.empty()) return recoveries;
    for (const Record* record : rates_.all()) {
      if (record->attack == rates_.none() || IsOneOf(record->method, references_)) continue;
      recoveries.push_back(Of(*record));
    }
    return recoveries;
  }

 private:
  Record Of(const Record& attacked) const {
    Record record = attacked;
    record.metric = kRecovery;
    record.metric_version = 1;
    record.metric_params = {{"of", attacked.metric}};
    record.traits = RecoveryTraits();
    record.score = {};
    record.denominators.erase("bounds");
    record.denominators.erase("missing");
    record.denominators["scored"] = 0;
    const Side method = {rates_.Find(attacked.method, attacked.subject, rates_.none()), &attacked};
    if (!Takes(method, &record)) return record;
    std::string why;
    Side floor = FloorSide(method, &why);
    if (floor.attacked == nullptr) floor = {method.plain, ControlOf(attacked)};
    if (!HasNumber(floor.attacked)) {
      record.status = "not_applicable";
      record.reason = why + ", and no control attack stands in";
      return record;
    }
    for (const Record* part : {method.plain, floor.attacked, floor.plain}) {
      record.lineage.insert(record.lineage.end(), part->lineage.begin(), part->lineage.end());
    }
    record.protocol["floor"] = {{"method", floor.attacked->method},
                                {"attack", floor.attacked->attack}};
    SetRecovery(method, floor, &record);
    return record;
  }

  // Whether both have a number; else the record says what they say.
  static bool Takes(const Side& side, Record* record) {
    for (const Record* part : {side.plain, side.attacked}) {
      if (HasNumber(part)) continue;
      record->status = part == nullptr ? "not_applicable" : part->status;
      record->reason = part == nullptr ? "nothing was drawn without attack" : part->reason;
      return false;
    }
    return true;
  }

  // Of the floor's row; empty where it has no number, `why` says why.
  Side FloorSide(const Side& method, std::string* why) const {
    const Record& attacked = *method.attacked;
    if (floor_.empty()) {
      *why = "there is no row that never saw the concept";
      return {};
    }
    Side side = {rates_.Find(floor_, attacked.subject, rates_.none()),
                 rates_.Find(floor_, attacked.subject, attacked.attack)};
    // An attack that has nothing to adapt to is the one that it adapts.
    if (side.attacked != nullptr && side.attacked->status == "non_adaptive_only") {
      side.attacked = rates_.Related(attacked, "adaptive_form_of", floor_);
    }
    for (const Record* part : {side.plain, side.attacked}) {
      if (HasNumber(part)) continue;
      *why = floor_ + " has no number here";
      if (part != nullptr && !part->reason.empty()) *why += " (" + part->reason + ")";
      return {};
    }
    // Pictures that were made elsewhere are on other noise.
    if (side.plain->protocol.value("noise", "") == method.plain->protocol.value("noise", "")) {
      return side;
    }
    *why = floor_ + " was drawn from other noise";
    return {};
  }

  // The control of the attack on the same method, or null.
  const Record* ControlOf(const Record& attacked) const {
    for (const auto& [control, of] : controls_) {
      if (of == PluginOf(attacked)) return MostAlike(control, attacked, rates_.all());
    }
    return nullptr;
  }

  Rates rates_;
  std::string floor_;
  std::vector<std::string> references_;
  std::map<std::string, std::string> controls_;  // plug-in -> the one that it controls
};

}  // namespace

std::string FloorOf(const Json& experiment, const std::vector<Record>& records) {
  const std::string named = experiment.value("floor", "");
  if (!named.empty()) return named;
  const auto references =
      experiment.value("reference_rows", Json::array()).get<std::vector<std::string>>();
  for (const Record& record : records) {
    if (IsOneOf(record.method, references) && IsOneOf("training_data", record.uses)) {
      return record.method;
    }
  }
  return "";
}

const Record* MostAlike(const std::string& plugin, const Record& like,
                        const std::vector<const Record*>& records) {
  constexpr int64_t kMany = 1000;  // more than an attack has parameters
  const Record* best = nullptr;
  int64_t most = -1;
  for (const Record* record : records) {
    if (record->method != like.method || record->subject != like.subject ||
        record->metric != like.metric || PluginOf(*record) != plugin) {
      continue;
    }
    const int64_t alike = kMany * Agreement(AllowanceOf(*record), AllowanceOf(like)) +
                          Agreement(record->attack_params, like.attack_params);
    if (alike > most) best = record;
    most = std::max(most, alike);
  }
  return best;
}

MetricTraits RecoveryTraits() { return {"fraction", false, 0, 1, "recovery", {"target"}}; }

std::vector<Record> RecoveryRecords(const Json& experiment, const std::vector<Record>& records) {
  return Recoveries(experiment, records).All();
}

}  // namespace excise
