#include "experiments/results/comparisons.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "core/stats.h"
#include "core/text.h"
#include "metrics/sample_table.h"

namespace excise {
namespace {

// Of means and of signs. The same for every family: more for a larger one would let a row that is
// added change the p of others.
constexpr int64_t kDraws = 2000;
constexpr double kLevel = 0.05;
constexpr double kMargin = 0.05;  // rates that differ by less are as good as equal to a reader

using Values = std::map<std::string, double>;  // by sample id

Values ValuesOf(const Record& record, const std::string& part) {
  Values values;
  for (size_t i = 0; i < record.score.per_sample.size(); ++i) {
    const std::string& id = record.score.sample_ids[i];
    if (part.empty() || InGroup(id, part)) values[id] = record.score.per_sample[i];
  }
  return values;
}

bool IsBinary(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double v) { return v == 0 || v == 1; });
}

// Two members' values of the samples that both have. Edits of the same erase seed are paired; a
// method of one edit has its sample against each of the other's edits.
struct Pairs {
  std::vector<double> first, second;
  std::vector<std::string> prompts;
};

Pairs Align(const Values& first, const Values& second) {
  Pairs pairs;
  const auto find = [](const Values& values, const std::string& id) {
    const auto same = values.find(id);
    return same != values.end() ? same : values.find(WithoutEdit(id));
  };
  const auto add = [&](const std::string& id, double a, double b) {
    pairs.first.push_back(a);
    pairs.second.push_back(b);
    pairs.prompts.push_back(PromptOfId(id));
  };
  for (const auto& [id, value] : first) {
    const auto other = find(second, id);
    if (other != second.end()) add(id, value, other->second);
  }
  for (const auto& [id, value] : second) {
    if (first.count(id) != 0) continue;
    const auto other = find(first, id);
    if (other != first.end()) add(id, other->second, value);
  }
  return pairs;
}

struct Family {
  std::string metric, part, over, given;
  bool operator<(const Family& other) const {
    return std::tie(metric, part, over, given) <
           std::tie(other.metric, other.part, other.over, other.given);
  }
};
struct Member {
  std::string name;
  bool is_rate = false;
  Values values;
};

Philox ComparisonRng() {
  StreamKey key;
  key.id = "experiments/comparison";
  key.stream = Stream::kOrder;
  return Philox(key);
}

// The tests of scores that are no rates between all members of a family.
class ScoreTests {
 public:
  explicit ScoreTests(const std::vector<Member>& members) : members_(members) {}

  double PValue(size_t first, size_t second, const Pairs& pairs) {
    if (!same_samples_) same_samples_ = SameSamples();
    if (!*same_samples_) {
      Philox rng = ComparisonRng();
      return SignFlipTests({pairs.first, pairs.second}, pairs.prompts, rng, kDraws).PValue(0, 1);
    }
    if (!shared_) {
      std::vector<std::vector<double>> values;
      for (const Member& member : members_) {
        values.push_back(Align(member.values, members_[0].values).first);
      }
      Philox rng = ComparisonRng();
      shared_.emplace(values, pairs.prompts, rng, kDraws);
    }
    return shared_->PValue(first, second);
  }

 private:
  bool SameSamples() const {
    const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
    const Values& first = members_[0].values;
    return std::all_of(members_.begin(), members_.end(), [&](const Member& m) {
      return std::equal(first.begin(), first.end(), m.values.begin(), m.values.end(), same);
    });
  }

  const std::vector<Member>& members_;
  std::optional<bool> same_samples_;
  std::optional<SignFlipTests> shared_;
};

// Of rates whose samples are no single pictures of as many prompts. A bootstrap of values that
// hardly differ is too narrow: it says no less than as many prompts that all agree.
Interval RateInterval(const Pairs& pairs, size_t prompts) {
  Philox rng = ComparisonRng();
  const Bootstrap bootstrap =
      BootstrapPairedDifference(pairs.first, pairs.second, pairs.prompts, rng, kDraws, 0.9);
  PairedCounts agree;
  agree.both = static_cast<int64_t>(prompts);
  const Interval least = TangoPaired(agree, 0.9).ci;
  return {std::min(bootstrap.ci.low, bootstrap.value + least.low),
          std::max(bootstrap.ci.high, bootstrap.value + least.high)};
}

// Fills test, n, difference, intervals and p. Samples that only one of the two has are left out.
void Test(const std::vector<Member>& members, size_t first, size_t second, ScoreTests* score_tests,
          Comparison* comparison) {
  const Pairs pairs = Align(members[first].values, members[second].values);
  comparison->n = static_cast<int64_t>(pairs.first.size());
  if (pairs.first.empty()) return;
  const std::set<std::string> distinct(pairs.prompts.begin(), pairs.prompts.end());
  if (IsBinary(pairs.first) && IsBinary(pairs.second) && distinct.size() == pairs.prompts.size()) {
    comparison->test = "mcnemar";
    const PairedCounts counts =
        CountPairs(std::vector<bool>(pairs.first.begin(), pairs.first.end()),
                   std::vector<bool>(pairs.second.begin(), pairs.second.end()));
    const Difference difference = NewcombePaired(counts);
    comparison->difference = difference.value;
    comparison->low = difference.ci.low;
    comparison->high = difference.ci.high;
    if (members[first].is_rate) comparison->ci90 = TangoPaired(counts, 0.9).ci;
    comparison->p = McNemarExact(counts.only_first, counts.only_second);
    return;
  }
  comparison->test = "sign_flip";
  Philox rng = ComparisonRng();
  const Bootstrap bootstrap =
      BootstrapPairedDifference(pairs.first, pairs.second, pairs.prompts, rng, kDraws);
  comparison->difference = bootstrap.value;
  comparison->low = bootstrap.ci.low;
  comparison->high = bootstrap.ci.high;
  if (members[first].is_rate) comparison->ci90 = RateInterval(pairs, distinct.size());
  comparison->p = score_tests->PValue(first, second, pairs);
}

void CompareFamily(const Family& family, const std::vector<Member>& members,
                   std::vector<Comparison>* out) {
  ScoreTests score_tests(members);
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t j = i + 1; j < members.size(); ++j) {
      Comparison comparison;
      comparison.metric = family.metric;
      comparison.part = family.part;
      comparison.over = family.over;
      comparison.given = family.given;
      comparison.first = members[i].name;
      comparison.second = members[j].name;
      Test(members, i, j, &score_tests, &comparison);
      if (comparison.n > 0) out->push_back(std::move(comparison));
    }
  }
}

}  // namespace

std::vector<Comparison> CompareAll(const std::vector<Record>& records) {
  std::vector<Family> order;
  std::map<Family, std::vector<Member>> families;
  const auto add = [&](const Family& family, const std::string& name, const Record& record,
                       const Values& values) {
    if (values.empty()) return;
    if (families.count(family) == 0) order.push_back(family);
    families[family].push_back({name, record.traits.unit == "fraction", values});
  };
  for (const Record& record : records) {
    if (record.subject != kAllConcepts || record.status != "ok" || record.traits.group == "cost") {
      continue;
    }
    // A test on the pictures that are there would let a row leave out those that fail.
    if (MissingOf(record) > 0) continue;
    std::vector<std::string> parts = {""};
    if (record.traits.sample_groups.size() > 1) {
      parts.insert(parts.end(), record.traits.sample_groups.begin(),
                   record.traits.sample_groups.end());
    }
    for (const std::string& part : parts) {
      const Values values = ValuesOf(record, part);
      add({record.metric, part, "methods", record.attack}, record.method, record, values);
      // The union holds each attack, so a test of one against the other means nothing.
      if (record.attack != kUnion) {
        add({record.metric, part, "attacks", record.method}, record.attack, record, values);
      }
    }
  }
  std::vector<Comparison> comparisons;
  for (const Family& family : order) CompareFamily(family, families[family], &comparisons);
  return comparisons;
}

const Comparison* FindComparison(const std::vector<Comparison>& comparisons,
                                 const std::string& metric, const std::string& part,
                                 const std::string& over, const std::string& given,
                                 const std::string& first, const std::string& second) {
  for (const Comparison& c : comparisons) {
    if (c.metric != metric || c.part != part || c.over != over || c.given != given) continue;
    if ((c.first == first && c.second == second) || (c.first == second && c.second == first)) {
      return &c;
    }
  }
  return nullptr;
}

bool InGroup(const std::string& sample_id, const std::string& group) {
  const size_t slash = sample_id.find('/');
  return StartsWith(std::string_view(sample_id).substr(slash + 1), group + "/");
}

bool IsSignificant(const Comparison& comparison) { return comparison.p < kLevel; }

bool IsEquivalent(const Comparison& comparison) {
  return comparison.ci90 && comparison.ci90->low > -kMargin && comparison.ci90->high < kMargin;
}

}  // namespace excise
