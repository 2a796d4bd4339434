#include "experiments/comparisons.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/stats.h"

namespace excise {
namespace {

constexpr int64_t kResamples = 2000;

using Values = std::map<std::string, double>;  // by sample id

// "poodle/near/emoji_prompts@1234/7#0" -> "near".
bool InGroup(const std::string& sample_id, const std::string& group) {
  const size_t slash = sample_id.find('/');
  return sample_id.compare(slash + 1, group.size() + 1, group + "/") == 0;
}

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

// Fills test, n, difference, interval and p. Samples that only one of the two has are left out.
void Test(const Values& first, const Values& second, Comparison* comparison) {
  std::vector<double> a, b;
  std::vector<std::string> prompts;
  for (const auto& [id, value] : first) {
    const auto other = second.find(id);
    if (other == second.end()) continue;
    a.push_back(value);
    b.push_back(other->second);
    prompts.push_back(id.substr(0, id.rfind('#')));
  }
  comparison->n = static_cast<int64_t>(a.size());
  if (a.empty()) return;
  const std::set<std::string> distinct(prompts.begin(), prompts.end());
  if (IsBinary(a) && IsBinary(b) && distinct.size() == prompts.size()) {
    comparison->test = "mcnemar";
    const PairedCounts counts =
        CountPairs(std::vector<bool>(a.begin(), a.end()), std::vector<bool>(b.begin(), b.end()));
    const Difference difference = NewcombePaired(counts);
    comparison->difference = difference.value;
    comparison->low = difference.ci.low;
    comparison->high = difference.ci.high;
    comparison->p = McNemarExact(counts.only_first, counts.only_second);
    return;
  }
  comparison->test = "bootstrap";
  StreamKey key;
  key.id = "experiments/comparison";
  key.stream = Stream::kOrder;
  Philox rng(key);
  const Bootstrap bootstrap = BootstrapPairedDifference(a, b, prompts, rng, kResamples);
  comparison->difference = bootstrap.value;
  comparison->low = bootstrap.ci.low;
  comparison->high = bootstrap.ci.high;
  comparison->p = bootstrap.p_value;
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
  Values values;
};

void CompareFamily(const Family& family, const std::vector<Member>& members,
                   std::vector<Comparison>* out) {
  const size_t start = out->size();
  std::vector<double> p;
  for (size_t i = 0; i < members.size(); ++i) {
    for (size_t j = i + 1; j < members.size(); ++j) {
      Comparison comparison;
      comparison.metric = family.metric;
      comparison.part = family.part;
      comparison.over = family.over;
      comparison.given = family.given;
      comparison.first = members[i].name;
      comparison.second = members[j].name;
      Test(members[i].values, members[j].values, &comparison);
      if (comparison.n == 0) continue;
      p.push_back(comparison.p);
      out->push_back(std::move(comparison));
    }
  }
  const std::vector<double> adjusted = Holm(p);
  for (size_t i = 0; i < adjusted.size(); ++i) (*out)[start + i].p_holm = adjusted[i];
}

}  // namespace

std::vector<Comparison> CompareAll(const std::vector<Record>& records) {
  std::vector<Family> order;
  std::map<Family, std::vector<Member>> families;
  const auto add = [&](const Family& family, const std::string& name, const Values& values) {
    if (values.empty()) return;
    if (families.count(family) == 0) order.push_back(family);
    families[family].push_back({name, values});
  };
  for (const Record& record : records) {
    if (record.subject != kAllConcepts || record.status != "ok" || record.traits.group == "cost") {
      continue;
    }
    std::vector<std::string> parts = {""};
    if (record.traits.sample_groups.size() > 1) {
      parts.insert(parts.end(), record.traits.sample_groups.begin(),
                   record.traits.sample_groups.end());
    }
    for (const std::string& part : parts) {
      const Values values = ValuesOf(record, part);
      add({record.metric, part, "methods", record.attack}, record.method, values);
      // The union holds each attack, so a test of one against the other means nothing.
      if (record.attack != kUnion) {
        add({record.metric, part, "attacks", record.method}, record.attack, values);
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

}  // namespace excise
