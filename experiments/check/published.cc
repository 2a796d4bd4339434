#include "experiments/check/published.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMost = int64_t{1} << 31;

bool IsMeasured(const Claim& claim) {
  return claim.kind == "value" || claim.kind == "ordering" || claim.kind == "recovery";
}

// The part of a claim that its kind decides.
Parameterised* BodyOf(Claim* claim) {
  if (claim->kind == "count") return &claim->count;
  if (claim->kind == "wilson") return &claim->wilson;
  if (claim->kind == "fisher") return &claim->fisher;
  if (claim->kind == "prompt_file") return &claim->prompt_file;
  if (claim->kind == "value") return &claim->value;
  if (claim->kind == "ordering") return &claim->ordering;
  if (claim->kind == "recovery") return &claim->recovery;
  return nullptr;
}

std::string Text(const Json& object, const char* key, const std::string& origin) {
  if (object.contains(key) && object[key].is_string() &&
      !object[key].get_ref<const std::string&>().empty()) {
    return object[key];
  }
  throw Error(fmt::format("{}: '{}' is missing; a text is expected.", origin, key));
}

void CheckCitation(const Citation& c, const std::string& origin) {
  if (c.paper.empty() || c.where.empty() || (c.arxiv.empty() && c.source.empty())) {
    throw Error(fmt::format(
        "{}: the citation needs 'paper', 'where' (table, figure or file), and 'arxiv' or 'source'.",
        origin));
  }
  if (c.evidence == "S" && c.quoted_by.empty()) {
    throw Error(fmt::format("{}: evidence S needs 'quoted_by'.", origin));
  }
}

void CheckEvidence(const Json& object, const std::string& origin) {
  if (!object.contains("citation") || !object["citation"].is_object()) {
    throw Error(fmt::format("{}: no citation.", origin));
  }
  const Json evidence = object["citation"].value("evidence", Json());
  for (const char* good : {"C", "P", "S"}) {
    if (evidence == good) return;
  }
  throw Error(fmt::format(
      "{}: evidence {}: only what was read may be a claim: C (code or data), P (printed in the "
      "paper), S (quoted by another). What somebody remembers (M) is refused: look it up.",
      origin, evidence.dump()));
}

double Number(const std::string& printed, const std::string& origin) {
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(printed, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const bool plain = printed.find_first_not_of("0123456789.-") == std::string::npos;
  if (used == printed.size() && plain && std::isfinite(value)) return value;
  throw Error(
      fmt::format("{}: '{}' is no number as printed (digits and a point).", origin, printed));
}

// Who wants to decide a value must know what it was measured on.
void CheckValueClaim(const Claim& claim, const std::string& origin) {
  const ValueClaim& value = claim.value;
  if (value.method.empty() || value.metric.empty() || value.band <= 0) {
    throw Error(fmt::format("{}: a value needs a method, a metric and a band above 0.", origin));
  }
  for (const Printing& printing : value.values) Number(printing.printed, origin);
  for (const char* key : {"backbone", "dataset"}) {
    if (claim.protocol.contains(key)) continue;
    throw Error(fmt::format("{}: the protocol of a value names its {}.", origin, key));
  }
  const bool searched = value.metric == "asr_search";
  if (value.metric != "asr" && !searched) return;
  if (value.noise != (searched ? "searched" : "fresh")) {
    throw Error(fmt::format(
        "{}: success on searched noise is asr_search, on fresh noise asr; say which in 'noise'.",
        origin));
  }
  if (!claim.protocol.contains("judge")) {
    throw Error(fmt::format("{}: the protocol of a rate of pictures names its judge.", origin));
  }
  if (value.attack != "none" && value.budget.empty()) {
    throw Error(fmt::format("{}: a rate under an attack names the attack's budget.", origin));
  }
}

void CheckBody(const Claim& claim, const std::string& origin) {
  if (claim.kind == "count") {
    Number(claim.count.printed, origin);
    if (claim.count.successes > claim.count.n) {
      throw Error(
          fmt::format("{}: {} successes of {}.", origin, claim.count.successes, claim.count.n));
    }
  } else if (claim.kind == "wilson") {
    Number(claim.wilson.low, origin);
    Number(claim.wilson.high, origin);
  } else if (claim.kind == "fisher") {
    Number(claim.fisher.p, origin);
  } else if (claim.kind == "value") {
    CheckValueClaim(claim, origin);
  } else if (claim.kind == "recovery") {
    if (claim.recovery.method.empty() || claim.recovery.attack.empty()) {
      throw Error(fmt::format("{}: a recovery needs a method and an attack.", origin));
    }
  } else if (claim.kind == "prompt_file") {
    if (claim.prompt_file.file.empty() || claim.prompt_file.sha256.size() != 64) {
      throw Error(fmt::format("{}: a file and its SHA-256 are needed.", origin));
    }
  } else if (claim.ordering.lower.empty() || claim.ordering.higher.empty() ||
             claim.ordering.metric.empty() || claim.ordering.given.empty()) {
    throw Error(fmt::format("{}: an ordering needs metric, given, lower and higher.", origin));
  }
}

Citation ParseCitation(const Json& object, const std::string& origin) {
  CheckEvidence(object, origin);
  Citation citation;
  DecodeParams(object["citation"], citation, origin + "/citation");
  CheckCitation(citation, origin);
  return citation;
}

// Of a value: who printed it, once or more often.
std::vector<Printing> ParsePrintings(const Json& object, const std::string& origin) {
  if (!object.contains("values") || !object["values"].is_array() || object["values"].empty()) {
    throw Error(fmt::format(
        "{}: 'values' is missing: a list of {{\"printed\": ..., \"n\": ..., \"citation\": ...}}.",
        origin));
  }
  std::vector<Printing> printings;
  for (const Json& item : object["values"]) {
    const std::string place = fmt::format("{}/values/{}", origin, printings.size());
    if (!item.is_object()) throw Error(fmt::format("{}: expected an object.", place));
    Printing printing;
    printing.citation = ParseCitation(item, place);
    Json rest = item;
    rest.erase("citation");
    DecodeParams(rest, printing, place);
    printings.push_back(std::move(printing));
  }
  return printings;
}

Claim ParseClaim(const Json& object, const std::string& file, size_t index) {
  std::string origin = fmt::format("{}#/claims/{}", file, index);
  if (!object.is_object()) throw Error(fmt::format("{}: expected an object.", origin));
  Claim claim;
  claim.id = Text(object, "id", origin);
  origin = fmt::format("{}, claim '{}'", file, claim.id);
  claim.kind = Text(object, "kind", origin);
  claim.says = Text(object, "says", origin);
  Parameterised* body = BodyOf(&claim);
  if (body == nullptr) {
    throw Error(
        fmt::format("{}: kind '{}'; known are count, wilson, fisher, prompt_file, value, ordering "
                    "and recovery.",
                    origin, claim.kind));
  }
  try {
    Json rest = object;
    for (const char* key : {"id", "kind", "says"}) rest.erase(key);
    if (claim.kind == "value") {
      claim.value.values = ParsePrintings(object, origin);
      claim.citation = claim.value.values.front().citation;
      rest.erase("values");
    } else {
      claim.citation = ParseCitation(object, origin);
      rest.erase("citation");
    }
    if (IsMeasured(claim)) {
      claim.protocol = rest.value("protocol", Json());
      if (!claim.protocol.is_object() || claim.protocol.empty()) {
        throw Error(fmt::format(
            "{}: no protocol; at least the backbone of a measured claim must be named.", origin));
      }
      rest.erase("protocol");
    }
    DecodeParams(rest, *body, origin);
  } catch (const UsageError& error) {
    throw Error(error.what());  // the file is wrong, not the command line
  }
  CheckBody(claim, origin);
  return claim;
}

// {"schema": 2, "table": ..., "claims": [...]}, and "registered" where the claims were written down
// before the run that decides them.
std::vector<Claim> ParseFile(const fs::path& path) {
  const Json object = ReadJsonFile(path);
  const auto is = [&](const char* key, Json::value_t type) {
    return object.contains(key) && object[key].type() == type;
  };
  const bool registered = object.is_object() && is("registered", Json::value_t::string);
  if (!object.is_object() || object.value("schema", Json()) != 2 ||
      !is("table", Json::value_t::string) || !is("claims", Json::value_t::array) ||
      object.size() != (registered ? 4U : 3U)) {
    throw Error(fmt::format(
        "{}: expected {{\"schema\": 2, \"table\": \"...\" (or \"\"), \"claims\": [...]}}, and "
        "\"registered\" where they were written before the run.",
        path.string()));
  }
  std::vector<Claim> claims;
  const std::string name = path.filename().string();
  for (size_t i = 0; i < object["claims"].size(); ++i) {
    Claim claim = ParseClaim(object["claims"][i], name, i);
    claim.file = name;
    claim.table = object["table"];
    if (registered) claim.registered = object["registered"];
    claims.push_back(std::move(claim));
  }
  return claims;
}

}  // namespace

void Citation::Fields(ParamVisitor& v) {
  v.Text("paper", &paper, "title");
  v.Text("where", &where, "table, figure or file");
  v.Text("arxiv", &arxiv, "arXiv id");
  v.Text("source", &source, "repository@commit");
  v.Choice("evidence", &evidence, "how it was read", {"C", "P", "S"});
  v.Text("quoted_by", &quoted_by, "who quotes it, for S");
}

void CountFact::Fields(ParamVisitor& v) {
  v.Text("printed", &printed, "the rate as printed");
  v.Choice("unit", &unit, "of the rate", {"percent", "fraction"});
  v.Integer("n", &n, "samples", {1, 1000000});
  v.Integer("successes", &successes, "the count; -1: no count prints so", {-1, kMost});
}

void WilsonFact::Fields(ParamVisitor& v) {
  v.Integer("successes", &successes, "the count", {0, kMost});
  v.Integer("n", &n, "samples", {1, kMost});
  v.Text("low", &low, "lower bound, percent");
  v.Text("high", &high, "upper bound, percent");
}

void FisherFact::Fields(ParamVisitor& v) {
  v.Integer("first_successes", &first_successes, "the first count", {0, kMost});
  v.Integer("first_n", &first_n, "of", {1, kMost});
  v.Integer("second_successes", &second_successes, "the second count", {0, kMost});
  v.Integer("second_n", &second_n, "of", {1, kMost});
  v.Text("p", &p, "two-sided p-value");
}

void PromptFileFact::Fields(ParamVisitor& v) {
  v.Text("file", &file, "name of the CSV file");
  v.Text("sha256", &sha256, "of the file");
  v.Text("column", &column, "which holds the prompts");
  v.Integer("bytes", &bytes, "size", {-1, kMost});
  v.Integer("rows", &rows, "rows", {-1, kMost});
  v.Integer("shortest", &shortest, "tokens of the shortest prompt", {-1, kMost});
  v.Integer("median", &median, "the median, rounded down", {-1, kMost});
  v.Integer("longest", &longest, "tokens of the longest prompt", {-1, kMost});
  v.Integer("limit", &limit, "tokens, start and end apart", {-1, kMost});
  v.Integer("over_limit", &over_limit, "prompts of more than that", {-1, kMost});
}

void Printing::Fields(ParamVisitor& v) {
  v.Text("printed", &printed, "the value as printed");
  v.Integer("n", &n, "samples behind it; 0: not known", {0, kMost});
}

void ValueClaim::Fields(ParamVisitor& v) {
  v.Text("method", &method, "the row");
  v.Text("attack", &attack, "the attack");
  v.Text("metric", &metric, "the metric");
  v.Text("concept", &concept_name, "whose record; empty: over all concepts");
  v.Choice("noise", &noise, "what the pictures were drawn on", {"", "fresh", "searched"});
  v.Text("budget", &budget, "of the attack");
  v.Choice("unit", &unit, "of the printed value", {"percent", "fraction", "none"});
  v.Number("band", &band, "the least margin, in the metric's own unit", {0, 1e9});
}

void RecoveryClaim::Fields(ParamVisitor& v) {
  v.Text("method", &method, "the row");
  v.Text("attack", &attack, "the attack");
}

void OrderingClaim::Fields(ParamVisitor& v) {
  v.Text("metric", &metric, "the metric");
  v.Text("part", &part, "one of its prompt groups, or empty for all");
  v.Choice("over", &over, "what is ordered", {"methods", "attacks"});
  v.Text("given", &given, "the attack, or the method, that is the same");
  v.Text("lower", &lower, "which has the lower value");
  v.Text("higher", &higher, "which has the higher value");
}

std::vector<Claim> LoadClaims(const fs::path& folder) {
  std::error_code problem;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, problem)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  if (problem) {
    throw Error(fmt::format("{} cannot be listed: {}.", folder.string(), problem.message()));
  }
  std::sort(files.begin(), files.end());
  std::vector<Claim> claims;
  std::set<std::string> ids;
  for (const fs::path& file : files) {
    for (Claim& claim : ParseFile(file)) {
      if (!ids.insert(claim.id).second) {
        throw Error(fmt::format("{}: the claim '{}' is there twice.", claim.file, claim.id));
      }
      claims.push_back(std::move(claim));
    }
  }
  return claims;
}

std::vector<int64_t> CountsThatPrint(const std::string& printed, const std::string& unit,
                                     int64_t n) {
  const double scale = unit == "percent" ? 100 : 1;
  const double value = Number(printed, "a printed rate");
  const size_t point = printed.find('.');
  const auto decimals =
      static_cast<double>(point == std::string::npos ? 0 : printed.size() - point - 1);
  // One unit of the last digit, exclusive: both rounding and cutting stay below it.
  const double step = std::pow(10.0, -decimals) - 1e-9;
  const double about = value / scale * static_cast<double>(n);
  const double reach = step / scale * static_cast<double>(n) + 1;
  std::vector<int64_t> counts;
  const auto first = static_cast<int64_t>(std::max(0.0, std::floor(about - reach)));
  const auto last = static_cast<int64_t>(std::min(static_cast<double>(n), about + reach));
  for (int64_t k = first; k <= last; ++k) {
    const double rate = scale * static_cast<double>(k) / static_cast<double>(n);
    if (std::fabs(rate - value) < step) counts.push_back(k);
  }
  return counts;
}

}  // namespace excise
