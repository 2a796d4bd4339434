#include "experiments/page/html_provenance.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "experiments/page/html_parts.h"

namespace excise {
namespace {

// A value of JSON on one line, text without quotes.
std::string Shown(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.6g}", value.get<double>());
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void AddFacts(const std::string& prefix, const Json& value, std::string* out) {
  if (value.is_object()) {
    for (const auto& [key, item] : value.items()) {
      AddFacts(prefix.empty() ? key : prefix + " " + key, item, out);
    }
    return;
  }
  std::string name = prefix;
  std::replace(name.begin(), name.end(), '_', ' ');
  *out += "<dt>" + HtmlText(name) + "</dt><dd>" + HtmlText(Shown(value)) + "</dd>\n";
}

std::string Facts(const Json& object) {
  std::string out;
  AddFacts("", object, &out);
  return "<dl class=\"facts\">\n" + out + "</dl>\n";
}

bool IsPlainName(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_';
  });
}

// For a shell: in quotes where needed.
std::string Quoted(const std::string& word) {
  const auto harmless = [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string("-_=./,+:@%").find(static_cast<char>(c)) != std::string::npos;
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), harmless)) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

// How to have the same numbers again.
std::string Command(const Results& results, const std::string& profile) {
  const Json& provenance = results.provenance;
  const std::string commit = provenance.value("commit", "unknown");
  const std::string name = results.experiment.at("name");
  std::string command;
  if (IsPlainName(commit) && commit != "unknown") command += "git checkout " + commit + "\n";
  command +=
      "./bazelw run " + (IsPlainName(name) ? "//experiments:" + name : "//experiments:<table>");
  // Results of other programs, or of an older version, may not tell how they were called.
  const Json words = provenance.value("arguments", Json{"--profile=" + profile});
  if (!words.empty()) command += " --";
  for (const Json& word : words) command += " " + Quoted(word.get<std::string>());
  std::string out = "<h3>Again</h3>\n<pre><code>";
  for (size_t start = 0; start <= command.size();) {
    const size_t end = std::min(command.find('\n', start), command.size());
    out += (start == 0 ? "" : "\n") + HtmlText(command.substr(start, end - start));
    start = end + 1;
  }
  out += "</code></pre>\n";
  if (provenance.value("dirty", false)) {
    out += HtmlParagraph("The program was built from files that differed from that commit.", "dim");
  }
  return out + HtmlParagraph(
                   "The same numerics (instruction set, LibTorch, fingerprint below) give the "
                   "same bytes; others give values that differ by rounding.",
                   "dim");
}

std::string Plugins(const Results& results) {
  std::vector<std::vector<std::string>> rows;
  std::set<std::string> seen;
  const auto add = [&](const char* kind, const std::string& name, int version, const Json& params) {
    if (name == kUnion || name == kRecovery || !seen.insert(std::string(kind) + name).second)
      return;
    rows.push_back({name, kind, std::to_string(version), Shown(params)});
  };
  for (const Record& r : results.records) {
    add("method", r.method, r.method_version, r.method_params);
  }
  for (const Record& r : results.records) {
    add("attack", r.attack, r.attack_version, r.attack_params);
  }
  for (const Record& r : results.records) {
    add("metric", r.metric, r.metric_version, r.metric_params);
  }
  return "<details><summary>Methods, attacks and metrics, with every parameter</summary>\n" +
         HtmlTable("Plug-ins", {"name", "kind", "version", "parameters"}, rows) + "</details>\n";
}

std::string Concepts(const Results& results) {
  const auto found = results.inputs.find("concepts");
  if (found == results.inputs.end() || found->empty()) return "";
  std::vector<std::vector<std::string>> rows;
  for (const auto& [name, about] : found->items()) {
    rows.push_back({name, about.value("title", ""), about.value("category", ""),
                    about.value("sensitivity", ""), about.value("sha", "")});
  }
  return "<details><summary>Concepts</summary>\n" +
         HtmlTable("Concepts", {"concept", "title", "category", "sensitivity", "SHA-256"}, rows) +
         "</details>\n";
}

}  // namespace

std::string HtmlProvenance(const Results& results, const std::string& profile) {
  Json inputs = results.inputs;
  inputs.erase("concepts");
  Json experiment = results.experiment;
  for (const char* said : {"title", "caveat"}) experiment.erase(said);
  Json run = results.provenance;
  run.erase("arguments");  // said by the command
  run["seeds"] = experiment.value("seeds", Json());
  run["numerics"] = inputs.value("numerics", Json());
  experiment.erase("seeds");
  inputs.erase("numerics");
  return Command(results, profile) + "<h3>Run</h3>\n" + Facts(run) + "<h3>Cost</h3>\n" +
         Facts(results.cost) + "<details><summary>Inputs and their digests</summary>\n" +
         Facts(inputs) + "</details>\n<details><summary>Settings of the experiment</summary>\n" +
         Facts(experiment) + "</details>\n" + Plugins(results) + Concepts(results);
}

}  // namespace excise
