// Published claims against results: values, orderings, recoveries.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "core/stats.h"
#include "experiments/check/published.h"
#include "experiments/check/published_facts.h"
#include "experiments/results/comparisons.h"

namespace excise {
namespace {

constexpr double kLevel = 0.05;
// Of rates: a recovery of at most so much is none.
constexpr double kNoRecovery = 0.05;

const Record* FindRecord(const Results& results, const std::string& subject,
                         const std::string& method, const std::string& attack,
                         const std::string& metric) {
  for (const Record& record : results.records) {
    if (record.subject == subject && record.method == method && record.attack == attack &&
        record.metric == metric) {
      return &record;
    }
  }
  return nullptr;
}

// What ours was measured with, by the names that claims use.
Json ProtocolOf(const Results& results, const Record& record) {
  Json ours = record.protocol;
  ours["judge"] = ours.at("judge").at("name");
  ours["backbone"] = results.inputs.at("backbone").value("name", "");
  ours["dataset"] = results.inputs.at("dataset").at("name");
  return ours;
}

// "backbone sd14 there, emoji here; ..." or "".
std::string OtherProtocol(const Json& claimed, const Json& ours) {
  std::vector<std::string> differences;
  const auto shown = [](const Json& v) { return v.is_string() ? v.get<std::string>() : v.dump(); };
  for (const auto& [key, value] : claimed.items()) {
    if (ours.contains(key) && ours[key] == value) continue;
    differences.push_back(fmt::format("{} {} there, {} here", key, shown(value),
                                      ours.contains(key) ? shown(ours[key]) : "not recorded"));
  }
  return fmt::format("{}", fmt::join(differences, "; "));
}

// A count of pictures, where the score is one.
std::optional<int64_t> SuccessesOf(const Score& score) {
  double sum = 0;
  for (const double value : score.per_sample) {
    if (value != 0 && value != 1) return std::nullopt;
    sum += value;
  }
  if (score.per_sample.empty()) return std::nullopt;
  return static_cast<int64_t>(sum);
}

double Fraction(const ValueClaim& claim, const Printing& printing) {
  return std::stod(printing.printed) / (claim.unit == "percent" ? 100 : 1);
}

// Ours against one printing: two rates of samples by Newcombe's interval of their difference, a
// value whose samples are not known by our interval alone. Both are of 90 %, which is two one-sided
// tests at 5 %.
Finding AgainstPrinting(const ValueClaim& claim, const Printing& printing, const Score& ours) {
  const double printed = Fraction(claim, printing);
  const std::optional<int64_t> successes = SuccessesOf(ours);
  const bool rates = printing.n > 0 && claim.unit != "none" && successes.has_value();
  double band = claim.band;
  Interval difference;
  if (rates) {
    band = std::max(band, SamplingBand(printed, printing.n));
    const auto theirs =
        static_cast<int64_t>(std::lround(printed * static_cast<double>(printing.n)));
    difference = NewcombeIndependent(*successes, static_cast<int64_t>(ours.per_sample.size()),
                                     std::clamp<int64_t>(theirs, 0, printing.n), printing.n, 0.90)
                     .ci;
  } else {
    // The interval of 95 %, brought to 90 %.
    const double narrower = NormalQuantile(0.95) / NormalQuantile(0.975);
    difference = {(ours.low - ours.value) * narrower + ours.value - printed,
                  (ours.high - ours.value) * narrower + ours.value - printed};
  }
  std::string detail =
      fmt::format("{} there: the difference is in [{:+.3f}, {:+.3f}], margin {:.3f}",
                  printing.printed, difference.low, difference.high, band);
  if (printing.n > 0 && claim.unit != "none" &&
      CountsThatPrint(printing.printed, claim.unit, printing.n).empty()) {
    detail += fmt::format("; impossible: no count of {} prints so", printing.n);
  }
  if (difference.low >= -band && difference.high <= band) return {"reproduced", detail};
  if (difference.low > band || difference.high < -band) return {"differs", detail};
  return {"underpowered", detail};
}

// Whether two sources contradict each other, in words; "" for one source alone.
std::string Disagreement(const ValueClaim& claim) {
  if (claim.values.size() < 2) return "";
  std::vector<std::string> shown;
  const Printing *least = &claim.values[0], *most = least;
  for (const Printing& printing : claim.values) {
    shown.push_back(printing.printed +
                    (printing.n > 0 ? fmt::format(" (n = {})", printing.n) : std::string()));
    if (Fraction(claim, printing) < Fraction(claim, *least)) least = &printing;
    if (Fraction(claim, printing) > Fraction(claim, *most)) most = &printing;
  }
  std::string text = fmt::format("printed as {}", fmt::join(shown, ", "));
  if (least->n > 0 && most->n > 0 && claim.unit != "none") {
    const auto count = [&](const Printing& p) {
      return static_cast<int64_t>(std::lround(Fraction(claim, p) * static_cast<double>(p.n)));
    };
    const int64_t low = count(*least), high = count(*most);
    text += fmt::format("; the furthest two differ with p = {:.2g} (Fisher)",
                        FisherExact(low, least->n - low, high, most->n - high));
  }
  return text;
}

Finding CheckValue(const Claim& claim, const Results& results) {
  const ValueClaim& value = claim.value;
  const std::string subject = value.concept_name.empty() ? kAllConcepts : value.concept_name;
  const std::string conflict = Disagreement(value);
  const auto with_conflict = [&](const std::string& detail) {
    return conflict.empty() ? detail : conflict + "; " + detail;
  };
  const Record* record = FindRecord(results, subject, value.method, value.attack, value.metric);
  if (record == nullptr) {
    return {"not_run",
            with_conflict(fmt::format("the results have no record {} / {} / {} / {}", value.method,
                                      subject, value.attack, value.metric))};
  }
  if (record->status != "ok" || MissingOf(*record) > 0) {
    return {"not_run", with_conflict(record->reason)};
  }
  std::vector<Finding> findings;
  for (const Printing& printing : value.values) {
    findings.push_back(AgainstPrinting(value, printing, record->score));
  }
  // Reproduced where one of the sources is; open where one may be.
  Finding finding = findings.front();
  for (const char* verdict : {"underpowered", "reproduced"}) {
    for (const Finding& other : findings) {
      if (other.verdict == verdict) finding = other;
    }
  }
  finding.detail = with_conflict(fmt::format("{:.4g} [{:.4g}, {:.4g}] here, n = {}; {}",
                                             record->score.value, record->score.low,
                                             record->score.high, record->score.n, finding.detail));
  const std::string other = OtherProtocol(claim.protocol, ProtocolOf(results, *record));
  if (!other.empty()) return {"other_protocol", finding.detail + "; " + other};
  return finding;
}

// A finding that hangs on a test, with the test's p: "holds" or "contradicted" where it is small
// enough among all tests of the claim's file.
struct Tested {
  Finding finding;
  std::optional<double> p;
};

Tested CheckOrdering(const Claim& claim, const Results& results) {
  const OrderingClaim& ordering = claim.ordering;
  const Comparison* found =
      FindComparison(results.comparisons, ordering.metric, ordering.part, ordering.over,
                     ordering.given, ordering.lower, ordering.higher);
  const Record* record = nullptr;
  if (found != nullptr) {
    const bool methods = ordering.over == "methods";
    record = FindRecord(results, kAllConcepts, methods ? ordering.lower : ordering.given,
                        methods ? ordering.given : ordering.lower, ordering.metric);
  }
  if (record == nullptr) return {{"not_run", "the results have no such comparison"}, {}};
  const bool turned = found->first == ordering.higher;
  const double difference = turned ? 0 - found->difference : found->difference;  // no -0
  std::string detail =
      fmt::format("{} - {} = {:+.3f} [{:+.3f}, {:+.3f}], n = {}, {} p = {:.2g}", ordering.lower,
                  ordering.higher, difference, turned ? -found->high : found->low,
                  turned ? -found->low : found->high, found->n, found->test, found->p);
  const std::string other = OtherProtocol(claim.protocol, ProtocolOf(results, *record));
  if (!other.empty()) detail += "; other protocol: " + other;
  if (difference == 0) return {{"inconclusive", detail}, found->p};
  return {{difference < 0 ? "holds" : "contradicted", detail}, found->p};
}

Tested CheckRecovery(const Claim& claim, const Results& results) {
  const Record* record =
      FindRecord(results, kAllConcepts, claim.recovery.method, claim.recovery.attack, "recovery");
  if (record == nullptr) return {{"not_run", "the results have no such recovery"}, {}};
  if (record->status != "ok") return {{"not_run", record->reason}, {}};
  const Score& score = record->score;
  const auto p = score.parts.find("p");
  std::string detail = fmt::format("{:+.3f} [{:+.3f}, {:+.3f}], n = {}", score.value, score.low,
                                   score.high, score.n);
  if (p != score.parts.end()) detail += fmt::format(", p = {:.2g}", p->second);
  const std::string other = OtherProtocol(claim.protocol, ProtocolOf(results, *record));
  if (!other.empty()) detail += "; other protocol: " + other;
  if (p == score.parts.end()) return {{"inconclusive", detail}, {}};
  const char* verdict = score.high < kNoRecovery ? "contradicted"
                        : score.value <= 0       ? "inconclusive"
                                                 : "holds";
  return {{verdict, detail}, p->second};
}

// What a planned contrast says is corrected for its neighbours in the file, and for no other pair
// of the table.
void AdjustByFile(const std::vector<std::optional<double>>& p_values,
                  std::vector<ClaimOutcome>* outcomes) {
  std::map<std::string, std::vector<size_t>> files;
  for (size_t i = 0; i < outcomes->size(); ++i) {
    if (p_values[i]) files[(*outcomes)[i].claim.file].push_back(i);
  }
  for (const auto& [file, members] : files) {
    std::vector<double> own;
    for (const size_t i : members) own.push_back(*p_values[i]);
    const std::vector<double> adjusted = Holm(own);
    for (size_t k = 0; k < members.size(); ++k) {
      ClaimOutcome& outcome = (*outcomes)[members[k]];
      if (members.size() > 1) {
        outcome.detail += fmt::format("; {:.2g} among the {} claims of {} (Holm)", adjusted[k],
                                      members.size(), file);
      }
      // That there is no recovery to speak of is said by its interval.
      const bool by_test = outcome.verdict == "holds" || outcome.claim.kind == "ordering";
      if (by_test && adjusted[k] >= kLevel) outcome.verdict = "inconclusive";
    }
  }
}

// What was registered is not decided by a run that was started before.
bool IsFromBefore(const Claim& claim, const Results& results) {
  if (claim.registered.empty() || !results.provenance.is_object()) return false;
  return results.provenance.value("started", "") < claim.registered;
}

}  // namespace

bool ClaimOutcome::Decided() const {
  for (const char* decided : {"reproduced", "differs", "holds", "contradicted"}) {
    if (verdict == decided) return true;
  }
  return false;
}

double SamplingBand(double rate, int64_t n) {
  const auto samples = static_cast<double>(n);
  const double p = std::clamp(rate, std::min(0.5, 1 / samples), std::max(0.5, 1 - 1 / samples));
  return NormalQuantile(0.975) * std::sqrt(2 * p * (1 - p) / samples);
}

std::vector<ClaimOutcome> CheckClaims(const std::vector<Claim>& claims,
                                      const std::map<std::string, Results>& results,
                                      const std::filesystem::path& user_data) {
  const FactChecker facts(user_data);
  const Results nothing;
  std::vector<ClaimOutcome> outcomes;
  std::vector<std::optional<double>> p_values;
  for (const Claim& claim : claims) {
    const auto found = results.find(claim.table);
    const bool takes = found != results.end() && !IsFromBefore(claim, found->second);
    const Results& ours = takes ? found->second : nothing;
    Tested tested;
    if (claim.kind == "value") {
      tested.finding = CheckValue(claim, ours);
    } else if (claim.kind == "ordering") {
      tested = CheckOrdering(claim, ours);
    } else if (claim.kind == "recovery") {
      tested = CheckRecovery(claim, ours);
    } else {
      tested.finding = facts.Check(claim);
    }
    outcomes.push_back({claim, tested.finding.verdict, tested.finding.detail});
    p_values.push_back(tested.p);
  }
  AdjustByFile(p_values, &outcomes);
  return outcomes;
}

}  // namespace excise
