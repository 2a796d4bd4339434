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

// The part of a claim that its kind decides.
Parameterised* BodyOf(Claim* claim) {
  if (claim->kind == "count") return &claim->count;
  if (claim->kind == "wilson") return &claim->wilson;
  if (claim->kind == "fisher") return &claim->fisher;
  if (claim->kind == "prompt_file") return &claim->prompt_file;
  if (claim->kind == "value") return &claim->value;
  if (claim->kind == "ordering") return &claim->ordering;
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
    Number(claim.value.printed, origin);
    if (claim.value.method.empty() || claim.value.metric.empty() || claim.value.band <= 0) {
      throw Error(fmt::format("{}: a value needs a method, a metric and a band above 0.", origin));
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
    throw Error(fmt::format(
        "{}: kind '{}'; known are count, wilson, fisher, prompt_file, value and ordering.", origin,
        claim.kind));
  }
  CheckEvidence(object, origin);
  try {
    DecodeParams(object["citation"], claim.citation, origin + "/citation");
    Json rest = object;
    for (const char* key : {"id", "kind", "says", "citation"}) rest.erase(key);
    if (claim.kind == "value" || claim.kind == "ordering") {
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
  CheckCitation(claim.citation, origin);
  CheckBody(claim, origin);
  return claim;
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

void ValueClaim::Fields(ParamVisitor& v) {
  v.Text("method", &method, "the row");
  v.Text("attack", &attack, "the attack");
  v.Text("metric", &metric, "the metric");
  v.Text("printed", &printed, "the value as printed");
  v.Choice("unit", &unit, "of the printed value", {"percent", "fraction", "none"});
  v.Integer("n", &n, "samples behind it", {0, kMost});
  v.Number("band", &band, "how far ours may be, in the metric's own unit", {0, 1e9});
}

void OrderingClaim::Fields(ParamVisitor& v) {
  v.Text("metric", &metric, "the metric");
  v.Text("part", &part, "one of its prompt groups, or empty for all");
  v.Choice("over", &over, "what is ordered", {"methods", "attacks"});
  v.Text("given", &given, "the attack, or the method, that is the same");
  v.Text("lower", &lower, "which has the lower value");
  v.Text("higher", &higher, "which has the higher value");
}

std::vector<Claim> LoadClaims(const fs::path& folder, const std::string& table) {
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
    const Json object = ReadJsonFile(file);
    const std::string name = file.filename().string();
    if (!object.is_object() || object.value("schema", Json()) != 1 || !object.contains("table") ||
        !object["table"].is_string() || !object.contains("claims") ||
        !object["claims"].is_array() || object.size() != 3) {
      throw Error(
          fmt::format("{}: expected {{\"schema\": 1, \"table\": \"...\" (or \"\"), "
                      "\"claims\": [...]}}.",
                      file.string()));
    }
    const std::string about = object["table"];
    for (size_t i = 0; i < object["claims"].size(); ++i) {
      Claim claim = ParseClaim(object["claims"][i], name, i);
      if (!ids.insert(claim.id).second) {
        throw Error(fmt::format("{}: the claim '{}' is there twice.", name, claim.id));
      }
      claim.file = name;
      if (about.empty() || about == table) claims.push_back(std::move(claim));
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
