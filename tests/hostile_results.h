// For tests: results full of text that is hostile to the formats that it is shown in.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "core/escape.h"
#include "tests/made_up_results.h"

namespace excise {

inline const std::vector<std::string>& HostileTexts() {
  static const std::vector<std::string> texts = {
      "<script>alert(1)</script>",
      "\"><img src=x onerror=alert(1)>",
      "' onmouseover='alert(1)",
      "</style></title><svg onload=alert(1)>",
      "javascript:alert(1) [x](javascript:alert(1)) <a href=\"http://e.org\">",
      "\\input{/etc/passwd} \\write18{touch /tmp/owned} ^^5cend{document} %",
      "\\end{tabular} & \\\\ $x_1^2$ #1 ~ {",
      "a | b || c `d` *e* __f__",
      "=HYPERLINK(\"http://e.org\";\"x\")",
      "@SUM(A1:A9)\n+cmd|' /C calc'!A0",
      "\x1b[31mred\x1b[0m \x1b]0;title\x07 \r\b",
      "\u202etxt.exe\u2066 \u200b \ufeff \u2028",
      "not UTF-8: \xff\xfe \xc3",
      "\u4e2d\u6587 \U0001f429 \u0119 -- '' \u00e9",
  };
  return texts;
}

// No byte that a terminal, editor or reader would obey.
inline bool IsHarmlessText(const std::string& text) {
  for (const unsigned char c : text) {
    if ((c < 0x20 && c != '\n') || c == 0x7f) return false;
  }
  for (const char* hidden : {"\u202e", "\u2066", "\u200b", "\ufeff", "\u2028"}) {
    if (text.find(hidden) != std::string::npos) return false;
  }
  // What is not UTF-8 would be escaped again.
  std::string line;
  for (std::istringstream in(text); std::getline(in, line);) {
    if (Escape(line, Format::kTerminal) != line) return false;
  }
  return true;
}

// Every name and text of the results is `text`, with something before it that keeps names distinct.
inline Results HostileResults(const std::string& text) {
  Results results = MadeUpResults();
  const auto spoil = [&](std::string* name) {
    if (*name != kAllConcepts && *name != "none" && *name != kUnion) *name = text + *name;
  };
  for (Record& record : results.records) {
    spoil(&record.method);
    spoil(&record.subject);
    spoil(&record.attack);
    record.uses = {text};
    record.protocol["sampler"] = text;
    record.method_params = {{"text", text}};
    if (record.attack == "none" || record.method != text + "poor") continue;
    record.status = "error";
    record.reason = text;
  }
  for (Comparison& comparison : results.comparisons) {
    spoil(&comparison.first);
    spoil(&comparison.second);
    spoil(&comparison.given);
  }
  results.experiment["title"] = text;
  results.experiment["caveat"] = text;
  results.experiment["name"] = text;
  results.experiment["profile"] = text;
  results.inputs["backbone"]["name"] = text;
  results.inputs["concepts"][text] = {
      {"title", text}, {"category", text}, {"sensitivity", text}, {"sha", text}};
  results.provenance["host_cpu"] = text;
  results.provenance["arguments"] = {text};
  Row row;
  row.method = text + "good";
  row.subject = text;
  row.attack = text;
  row.group = "target";
  row.root_id = row.prompt = text;
  row.outcome = "target";
  results.rows = {row, row};
  return results;
}

}  // namespace excise
