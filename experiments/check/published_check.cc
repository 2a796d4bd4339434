#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "core/csv.h"
#include "core/error.h"
#include "core/escape.h"
#include "core/hash.h"
#include "core/input_files.h"
#include "core/plural.h"
#include "core/stats.h"
#include "experiments/check/published.h"
#include "experiments/results/comparisons.h"
#include "models/formats/tokenizer.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

struct Finding {
  std::string verdict, detail;
};

int64_t DecimalsOf(const std::string& printed) {
  const size_t point = printed.find('.');
  return point == std::string::npos ? 0 : static_cast<int64_t>(printed.size() - point - 1);
}

// Whether `value` is printed so.
bool PrintsAs(double value, const std::string& printed) {
  const double step = std::pow(10.0, -static_cast<double>(DecimalsOf(printed)));
  return std::fabs(value - std::stod(printed)) <= step / 2 + 1e-9;
}

Finding CheckCount(const CountFact& fact) {
  const std::vector<int64_t> counts = CountsThatPrint(fact.printed, fact.unit, fact.n);
  const std::string found =
      counts.empty()
          ? fmt::format("no count of {} prints as {}", fact.n, fact.printed)
          : fmt::format("{} prints as {} of {}", fmt::join(counts, " or "), fact.printed, fact.n);
  const bool as_said =
      fact.successes < 0 ? counts.empty()
                         : std::find(counts.begin(), counts.end(), fact.successes) != counts.end();
  return {as_said ? "reproduced" : "differs", found};
}

Finding CheckWilson(const WilsonFact& fact) {
  const Interval ci = Wilson(fact.successes, fact.n);
  const bool same = PrintsAs(100 * ci.low, fact.low) && PrintsAs(100 * ci.high, fact.high);
  return {same ? "reproduced" : "differs",
          fmt::format("{}/{}: [{:.2f}, {:.2f}], printed [{}, {}]", fact.successes, fact.n,
                      100 * ci.low, 100 * ci.high, fact.low, fact.high)};
}

Finding CheckFisher(const FisherFact& fact) {
  const double p = FisherExact(fact.first_successes, fact.first_n - fact.first_successes,
                               fact.second_successes, fact.second_n - fact.second_successes);
  return {PrintsAs(p, fact.p) ? "reproduced" : "differs",
          fmt::format("{}/{} against {}/{}: p = {:.4f}, printed {}", fact.first_successes,
                      fact.first_n, fact.second_successes, fact.second_n, p, fact.p)};
}

// What users fetched themselves.
class UserData {
 public:
  explicit UserData(const fs::path& folder) {
    if (folder.empty()) return;
    std::error_code problem;
    for (fs::recursive_directory_iterator it(folder, problem), end; it != end && !problem;
         it.increment(problem)) {
      if (it->is_regular_file(problem)) files_.emplace(it->path().filename(), it->path());
    }
    if (problem) {
      throw Error(fmt::format("{} cannot be searched: {}.", folder.string(), problem.message()));
    }
  }
  std::vector<fs::path> Named(const std::string& name) const {
    std::vector<fs::path> found;
    const auto [first, last] = files_.equal_range(name);
    for (auto it = first; it != last; ++it) found.push_back(it->second);
    std::sort(found.begin(), found.end());
    return found;
  }
  // OpenAI's, which has 49,408 tokens; or null.
  std::shared_ptr<const Tokenizer> ClipTokenizer() const {
    for (const fs::path& merges : Named("merges.txt")) {
      if (!fs::exists(merges.parent_path() / "vocab.json")) continue;
      const std::shared_ptr<const Tokenizer> tokenizer = Tokenizer::Load(merges.parent_path());
      if (tokenizer->vocab_size() == 49408) return tokenizer;
    }
    return nullptr;
  }

 private:
  std::multimap<std::string, fs::path> files_;
};

// "rows 250, printed 249" where a figure is claimed and is another.
void Expect(const char* what, int64_t claimed, int64_t found, std::vector<std::string>* problems,
            std::vector<std::string>* figures) {
  if (claimed < 0) return;
  figures->push_back(fmt::format("{} {}", what, found));
  if (claimed != found) problems->push_back(fmt::format("{} {}, not {}", what, found, claimed));
}

Finding CheckPromptFile(const PromptFileFact& fact, const UserData& data) {
  const std::vector<fs::path> candidates = data.Named(fact.file);
  if (candidates.empty()) {
    return {"skipped", fmt::format("'{}' is not here; name a folder that holds your copy with "
                                   "--user_data=DIR",
                                   fact.file)};
  }
  const auto same = std::find_if(candidates.begin(), candidates.end(), [&](const fs::path& file) {
    return Sha256HexOfFile(file) == fact.sha256;
  });
  if (same == candidates.end()) {
    return {"skipped",
            fmt::format("{} is another file: its SHA-256 is {}, not {}", candidates[0].string(),
                        Sha256HexOfFile(candidates[0]), fact.sha256)};
  }
  std::vector<std::string> problems, figures;
  Expect("bytes", fact.bytes, static_cast<int64_t>(fs::file_size(*same)), &problems, &figures);
  const RowFile csv = ReadRows(*same);
  RequireSha256(*same, fact.sha256);
  Expect("rows", fact.rows, static_cast<int64_t>(csv.rows.size()), &problems, &figures);
  if (fact.longest >= 0 || fact.over_limit >= 0) {
    const std::shared_ptr<const Tokenizer> tokenizer = data.ClipTokenizer();
    if (tokenizer == nullptr) {
      return {"skipped",
              "CLIP's tokenizer (vocab.json and merges.txt, 49,408 tokens) is not below "
              "--user_data"};
    }
    std::vector<int64_t> lengths;
    for (const FileRow& row : csv.rows) {
      const auto text = row.fields.find(fact.column);
      if (text == row.fields.end()) {
        return {"differs", fmt::format("line {} has no column '{}'", row.line, fact.column)};
      }
      lengths.push_back(static_cast<int64_t>(tokenizer->Encode(text->second).size()));
    }
    if (lengths.empty()) return {"differs", "there is no prompt"};
    std::sort(lengths.begin(), lengths.end());
    const size_t half = lengths.size() / 2;
    const int64_t median =
        lengths.size() % 2 == 1 ? lengths[half] : (lengths[half - 1] + lengths[half]) / 2;
    Expect("shortest", fact.shortest, lengths.front(), &problems, &figures);
    Expect("median", fact.median, median, &problems, &figures);
    Expect("longest", fact.longest, lengths.back(), &problems, &figures);
    Expect("over the limit", fact.over_limit,
           std::count_if(lengths.begin(), lengths.end(),
                         [&](int64_t length) { return length > fact.limit; }),
           &problems, &figures);
  }
  return problems.empty() ? Finding{"reproduced", fmt::format("{}", fmt::join(figures, ", "))}
                          : Finding{"differs", fmt::format("{}", fmt::join(problems, "; "))};
}

const Record* FindRecord(const Results& results, const std::string& method,
                         const std::string& attack, const std::string& metric) {
  for (const Record& record : results.records) {
    if (record.subject == kAllConcepts && record.method == method && record.attack == attack &&
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

Finding CheckValue(const ValueClaim& claim, const Json& protocol, const Results& results) {
  const Record* record = FindRecord(results, claim.method, claim.attack, claim.metric);
  if (record == nullptr) return {"not_run", "the committed results have no such record"};
  if (record->status != "ok" || MissingOf(*record) > 0) return {"not_run", record->reason};
  const double printed = std::stod(claim.printed) / (claim.unit == "percent" ? 100 : 1);
  const double ours = record->score.value, low = record->score.low, high = record->score.high;
  std::string detail = fmt::format("{:.4g} [{:.4g}, {:.4g}] here, {:.4g} there, band {:.4g}", ours,
                                   low, high, printed, claim.band);
  if (claim.n > 0 && claim.unit != "none" &&
      CountsThatPrint(claim.printed, claim.unit, claim.n).empty()) {
    detail += fmt::format("; impossible: no count of {} prints as {}", claim.n, claim.printed);
  }
  const std::string other = OtherProtocol(protocol, ProtocolOf(results, *record));
  if (!other.empty()) return {"other_protocol", detail + "; " + other};
  if ((high - low) / 2 > claim.band) return {"underpowered", detail};
  return {std::fabs(ours - printed) <= claim.band ? "reproduced" : "differs", detail};
}

const Comparison* ComparisonOf(const OrderingClaim& claim, const Results& results) {
  return FindComparison(results.comparisons, claim.metric, claim.part, claim.over, claim.given,
                        claim.lower, claim.higher);
}

// Of each ordering that the results can decide, by id: its p among those of its file.
struct PlannedP {
  double adjusted = 1;
  size_t family = 1;
};
std::map<std::string, PlannedP> PlannedPs(const std::vector<Claim>& claims,
                                          const Results& results) {
  struct Family {
    std::vector<std::string> ids;
    std::vector<double> p;
  };
  std::map<std::string, Family> families;
  for (const Claim& claim : claims) {
    if (claim.kind != "ordering") continue;
    const Comparison* found = ComparisonOf(claim.ordering, results);
    if (found == nullptr) continue;
    families[claim.file].ids.push_back(claim.id);
    families[claim.file].p.push_back(found->p);
  }
  std::map<std::string, PlannedP> planned;
  for (const auto& [file, family] : families) {
    const std::vector<double> adjusted = Holm(family.p);
    for (size_t i = 0; i < adjusted.size(); ++i) {
      planned[family.ids[i]] = {adjusted[i], adjusted.size()};
    }
  }
  return planned;
}

Finding CheckOrdering(const Claim& whole, const Results& results,
                      const std::map<std::string, PlannedP>& planned) {
  const OrderingClaim& claim = whole.ordering;
  const Comparison* found = ComparisonOf(claim, results);
  const Record* record = nullptr;
  if (found != nullptr) {
    record = claim.over == "methods" ? FindRecord(results, claim.lower, claim.given, claim.metric)
                                     : FindRecord(results, claim.given, claim.lower, claim.metric);
  }
  if (record == nullptr) return {"not_run", "the committed results have no such comparison"};
  const bool turned = found->first == claim.higher;
  const double difference = (turned ? -1 : 1) * found->difference;
  const PlannedP& p = planned.at(whole.id);
  std::string detail =
      fmt::format("{} - {} = {:+.3f} [{:+.3f}, {:+.3f}], n = {}, {} p = {:.2g}", claim.lower,
                  claim.higher, difference, turned ? -found->high : found->low,
                  turned ? -found->low : found->high, found->n, found->test, found->p);
  if (p.family > 1) {
    detail += fmt::format(" ({:.2g} by Holm among {} of the file)", p.adjusted,
                          Plural(p.family, "ordering"));
  }
  const std::string other = OtherProtocol(whole.protocol, ProtocolOf(results, *record));
  if (!other.empty()) detail += "; other protocol: " + other;
  if (p.adjusted >= 0.05 || difference == 0) return {"inconclusive", detail};
  return {difference < 0 ? "holds" : "contradicted", detail};
}

}  // namespace

std::vector<ClaimOutcome> CheckClaims(const std::vector<Claim>& claims, const Results& results,
                                      const fs::path& user_data) {
  const UserData data(user_data);
  const std::map<std::string, PlannedP> planned = PlannedPs(claims, results);
  std::vector<ClaimOutcome> outcomes;
  for (const Claim& claim : claims) {
    Finding finding;
    if (claim.kind == "count") finding = CheckCount(claim.count);
    if (claim.kind == "wilson") finding = CheckWilson(claim.wilson);
    if (claim.kind == "fisher") finding = CheckFisher(claim.fisher);
    if (claim.kind == "prompt_file") finding = CheckPromptFile(claim.prompt_file, data);
    if (claim.kind == "value") finding = CheckValue(claim.value, claim.protocol, results);
    if (claim.kind == "ordering") finding = CheckOrdering(claim, results, planned);
    const Citation& c = claim.citation;
    outcomes.push_back({claim.id, claim.kind, claim.says,
                        fmt::format("{}, {} [{}{}]", c.paper, c.where, c.evidence,
                                    c.quoted_by.empty() ? "" : ": " + c.quoted_by),
                        finding.verdict, finding.detail});
  }
  return outcomes;
}

std::string RenderOutcomes(const std::vector<ClaimOutcome>& outcomes) {
  std::string text;
  std::map<std::string, int64_t> verdicts;
  for (const ClaimOutcome& o : outcomes) {
    ++verdicts[o.verdict];
    const std::string line =
        fmt::format("- {} {}: {}. Here: {}. ({})", o.verdict, o.id, o.says, o.detail, o.source);
    text += Escape(line, Format::kTerminal) + "\n";
  }
  std::vector<std::string> counts;
  for (const auto& [verdict, count] : verdicts)
    counts.push_back(fmt::format("{} {}", count, verdict));
  return text +
         fmt::format("\n{}: {}.\n", Plural(outcomes.size(), "claim"), fmt::join(counts, ", "));
}

}  // namespace excise
