#include "core/card.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <utility>

#include "core/error.h"
#include "core/registry.h"
#include "core/text.h"

namespace excise {
namespace {

struct Label {
  std::string_view name;
  std::string Card::*member;
};
constexpr std::array<Label, 7> kLabels = {{{"What", &Card::what},
                                           {"Paper", &Card::paper},
                                           {"Equation", &Card::equation},
                                           {"Reference", &Card::reference},
                                           {"Deviations", &Card::deviations},
                                           {"Needs", &Card::needs},
                                           {"Caveats", &Card::caveats}}};

// Index of the label that opens `line` ("// Paper: ..."), or -1; `rest` is what follows it.
int LabelOf(std::string_view line, std::string_view* rest) {
  if (!StartsWith(line, "// ")) return -1;
  line.remove_prefix(3);
  for (size_t i = 0; i < kLabels.size(); ++i) {
    const std::string_view name = kLabels[i].name;
    if (StartsWith(line, name) && line.substr(name.size(), 1) == ":") {
      *rest = Trimmed(line.substr(name.size() + 1));
      return static_cast<int>(i);
    }
  }
  return -1;
}

bool IsContinuation(std::string_view line) {
  return StartsWith(line, "//   ") && !Trimmed(line.substr(5)).empty();
}

using CardMap = std::map<std::pair<std::string, std::string>, Card>;
CardMap& Cards() {
  static CardMap cards;
  return cards;
}

}  // namespace

Card ParseCard(std::string_view source_text, std::string_view file) {
  Card card;
  size_t next = 0;  // the label that must come
  int line_number = 0;
  const auto fail = [&](const std::string& what) {
    throw Error(fmt::format(
        "{}:{}: {} A plug-in file opens with the seven lines What, Paper, Equation, Reference, "
        "Deviations, Needs, Caveats, in this order (\"// What: ...\").",
        file, line_number, what));
  };
  const auto check_last = [&] {
    if (next > 0 && (card.*kLabels[next - 1].member).empty()) {
      fail(fmt::format("the card's line \"{}:\" is empty; write \"none\" if there is nothing.",
                       kLabels[next - 1].name));
    }
  };
  while (!source_text.empty()) {
    ++line_number;
    const size_t end = source_text.find('\n');
    const std::string_view line = source_text.substr(0, end);
    source_text = end == std::string_view::npos ? "" : source_text.substr(end + 1);
    std::string_view rest;
    const int label = LabelOf(line, &rest);
    if (label >= 0) {
      check_last();
      if (static_cast<size_t>(label) < next) {
        fail(fmt::format("the card's line \"{}:\" is repeated or out of order.",
                         kLabels[label].name));
      }
      if (static_cast<size_t>(label) > next) {
        fail(fmt::format("the card's line \"{}:\" is missing before \"{}:\".", kLabels[next].name,
                         kLabels[label].name));
      }
      card.*kLabels[next++].member = rest;
    } else if (next > 0 && IsContinuation(line)) {
      std::string& text = card.*kLabels[next - 1].member;
      if (!text.empty()) text += ' ';
      text += Trimmed(line.substr(2));
    } else {
      break;
    }
  }
  check_last();
  if (next < kLabels.size()) {
    fail(fmt::format("the card's line \"{}:\" is missing.", kLabels[next].name));
  }
  return card;
}

bool RegisterCard(std::string_view kind, std::string_view name, std::string_view source_text) {
  try {
    Card card = ParseCard(source_text, fmt::format("{}s/{}.cc", kind, name));
    if (Cards().emplace(std::pair(std::string(kind), std::string(name)), std::move(card)).second) {
      return true;
    }
    RegistrationProblems().push_back(
        fmt::format("{} '{}' has two cards. Rename one of the files.", kind, name));
  } catch (const Error& error) {
    RegistrationProblems().push_back(error.what());
  }
  return false;
}

const Card* FindCard(std::string_view kind, std::string_view name) {
  const auto it = Cards().find({std::string(kind), std::string(name)});
  return it == Cards().end() ? nullptr : &it->second;
}

std::vector<std::string> CardNames(std::string_view kind) {
  std::vector<std::string> names;
  for (const auto& [key, card] : Cards()) {
    if (key.first == kind) names.push_back(key.second);
  }
  return names;
}

}  // namespace excise
