#include "experiments/check/published_facts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/csv.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/input_files.h"
#include "core/stats.h"
#include "models/formats/tokenizer.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

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

}  // namespace

struct FactChecker::Data : UserData {
  using UserData::UserData;
};

FactChecker::FactChecker(const fs::path& user_data) : data_(std::make_unique<Data>(user_data)) {}
FactChecker::~FactChecker() = default;

Finding FactChecker::Check(const Claim& claim) const {
  if (claim.kind == "count") return CheckCount(claim.count);
  if (claim.kind == "wilson") return CheckWilson(claim.wilson);
  if (claim.kind == "fisher") return CheckFisher(claim.fisher);
  return CheckPromptFile(claim.prompt_file, *data_);
}

}  // namespace excise
