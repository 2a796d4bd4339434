#include "experiments/tables/table_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/plural.h"
#include "core/text.h"
#include "experiments/formats/experiment.h"
#include "experiments/results/access.h"
#include "experiments/tables/table_findings.h"
#include "experiments/tables/table_recovery.h"

namespace excise {
namespace {

// What methods may read (MethodTraits::uses), as a table says it.
struct Use {
  const char *name, *letter, *meaning;
};
constexpr Use kUses[] = {{"known_names", "N", "the concept's names"},
                         {"anchor", "A", "its anchor"},
                         {"preserve", "P", "names to keep"},
                         {"target_images", "T", "pictures of the target"},
                         {"unsafe_images", "U", "unsafe pictures"},
                         {"judge", "J", "a judge"},
                         {"attack", "K", "an attack"},
                         {"training_data", "D", "the training data"}};

std::string LetterOf(const std::string& use) {
  for (const Use& known : kUses) {
    if (use == known.name) return known.letter;
  }
  return "?";
}

std::vector<std::string> UsesOf(const TableView& view, const std::string& method) {
  for (const Record& record : view.results().records) {
    if (record.method == method) return record.uses;
  }
  return {};
}

class NotesWriter {
 public:
  NotesWriter(const TableView& view, const Record* headline) : view_(view), headline_(headline) {}

  Text Caption() const {
    const Json& experiment = view_.results().experiment;
    const Json& inputs = view_.results().inputs;
    const Json protocol = headline_ == nullptr ? Json::object() : headline_->protocol;
    int64_t n = 0;
    for (const Record& record : view_.results().records) {
      if (headline_ != nullptr && record.metric == headline_->metric) {
        n = std::max(n, record.score.n);
      }
    }
    const std::string sha = inputs.at("backbone").at("sha");
    Text text;
    text.Bold(experiment.at("title")).Words(" (profile ").Data(experiment.at("profile"));
    text.Words("). Backbone ").Data(inputs.at("backbone").at("name"));
    text.Words(" (").Data(sha.substr(0, 8));
    text.Words(fmt::format(
        "), {}, {} each, n = {} a cell, {} a prompt;", Plural(view_.concepts().size(), "concept"),
        Plural(experiment.at("prompts").at("target").get<int64_t>(), "test prompt"),
        Plural(n, "picture"), experiment.at("sampler").at("images_per_prompt").get<int64_t>()));
    if (protocol.contains("sampler")) {
      text.Words(" ").Data(protocol.at("sampler"));
      text.Words(fmt::format(" {}, guidance {:g}, {}x{};",
                             Plural(protocol.at("steps").get<int64_t>(), "step"),
                             protocol.at("guidance").get<double>(),
                             protocol.at("size").at(0).dump(), protocol.at("size").at(1).dump()));
    }
    text.Words(" the same noise in every row");
    AddAttackers(&text);
    text.Words(".");
    AddEdits(&text);
    if (headline_ != nullptr) AddBudgets(view_, headline_->metric, &text);
    AddRemovals(&text);
    const std::string caveat = experiment.value("caveat", "");
    if (!caveat.empty()) text.Words(" ").Data(caveat);
    AddJudges(&text);
    return text;
  }

  std::vector<Text> Remarks() {
    if (headline_ != nullptr) {
      remarks_.push_back(TableFindings(view_, headline_->metric));
      AddDenominators();
    }
    AddRemovedToo();
    AddLegend();
    return std::move(remarks_);
  }

 private:
  // Which rows pool the pictures of several edits.
  void AddEdits(Text* text) const {
    std::vector<std::string> several;
    int64_t edits = 1;
    for (const std::string& method : view_.methods()) {
      for (const Record& record : view_.results().records) {
        if (record.method != method || !record.denominators.contains("edits")) continue;
        edits = record.denominators.at("edits");
        several.push_back(method);
        break;
      }
    }
    if (several.empty()) return;
    const std::string seeds = view_.results().experiment.at("seeds").at("erase").dump();
    text->Words(fmt::format(" Erased {} times, with the seeds {}, and pooled: ", edits, seeds));
    text->List(several, "").Words("; the other rows draw nothing and are erased once.");
  }

  // "poodle, sepia and weapons are removed together by one edit."
  void AddRemovals(Text* text) const {
    const Json removals = view_.results().experiment.value("removals", Json::array());
    for (const Json& list : removals) {
      for (size_t i = 0; i < list.size(); ++i) {
        text->Words(i == 0 ? " " : i + 1 == list.size() ? " and " : ", ").Data(list[i]);
      }
      text->Words(" are removed together by one edit.");
    }
    AddRowRemovals(text);
  }

  // "One edit of uce_3 and esd_3 removes together: poodle, weapons; sepia, smoking."
  void AddRowRemovals(Text* text) const {
    std::vector<std::pair<std::string, std::vector<std::string>>> rows;  // by lists
    for (const std::string& method : view_.methods()) {
      const Record* record = headline_ == nullptr ? nullptr : RowOf(method);
      if (record == nullptr || !record->method_params.contains("removals")) continue;
      std::string lists;
      for (const Json& list : record->method_params.at("removals")) {
        const auto names = list.get<std::vector<std::string>>();
        lists += fmt::format("{}{}", lists.empty() ? "" : "; ", fmt::join(names, ", "));
      }
      const auto same = std::find_if(rows.begin(), rows.end(),
                                     [&](const auto& row) { return row.first == lists; });
      if (same == rows.end()) {
        rows.push_back({lists, {method}});
      } else {
        same->second.push_back(method);
      }
    }
    for (const auto& [lists, methods] : rows) {
      text->Words(" One edit removes together, of ").List(methods, "").Words(": ");
      text->Data(lists.empty() ? "nothing" : lists).Words(".");
    }
  }

  // A record of the row that says how it was made.
  const Record* RowOf(const std::string& method) const {
    for (const Record& record : view_.results().records) {
      if (record.method == method && record.metric == headline_->metric) return &record;
    }
    return nullptr;
  }

  // What is left out of retention because the same edit is to remove it.
  void AddRemovedToo() {
    for (const Record& record : view_.results().records) {
      if (record.subject != kAllConcepts || record.traits.group != "retention") continue;
      const Json reasons = record.denominators.value("reasons", Json::object());
      if (!reasons.contains(kRemovedToo)) continue;
      Text text(
          "Left out of what must stay, because the edit that removes their concept is to "
          "remove what they show, too: ");
      text.Words(fmt::format("{} of {} pictures (", reasons.at(kRemovedToo).dump(),
                             record.denominators.at("set").dump()));
      remarks_.push_back(std::move(text.Data(kRemovedToo).Words(").")));
      return;
    }
  }

  // Judges that name a class for anything: garbage is no outcome of theirs.
  void AddJudges(Text* text) const {
    std::vector<std::string> names;
    for (const Record& record : view_.results().records) {
      if (record.subject == kAllConcepts) continue;
      const Json judge = record.protocol.value("judge", Json::object());
      if (judge.value("reject_class", true)) continue;
      const std::string name = judge.at("name");
      if (!IsOneOf(name, names)) names.push_back(name);
    }
    if (names.empty()) return;
    text->Words(" Without a reject class, so that garbage counts as what it is most like: judge ");
    text->List(names, "").Words(".");
  }

  // How attacks get at the methods.
  void AddAttackers(Text* text) const {
    std::vector<std::string> transfer, full, questions, given, found;
    for (const Record& record : view_.results().records) {
      if (headline_ == nullptr || record.metric != headline_->metric) continue;
      if (record.attack == view_.Attacks(headline_->metric).front()) continue;
      if (record.attack == kUnion || record.subject != kAllConcepts) continue;
      if (record.status != "ok") continue;  // where nothing was spent, nothing says how
      // Prompts that the user brought: nobody here knows how they were made.
      const bool brought = record.attack_params.contains("file_sha256");
      const std::string row = record.attack_params.value("found_on", "");
      const Access access = AccessOf(record);
      std::vector<std::string>& names = !row.empty()                   ? found
                                        : brought                      ? given
                                        : access == Access::kFull      ? full
                                        : access == Access::kQuestions ? questions
                                                                       : transfer;
      const std::string name =
          row.empty() ? record.attack : fmt::format("{} (on {})", record.attack, row);
      if (!IsOneOf(name, names)) names.push_back(name);
    }
    const auto say = [&](const std::string& how, std::vector<std::string> names) {
      if (names.empty()) return;
      std::sort(names.begin(), names.end());
      text->Words(fmt::format("; {}: ", how)).List(names, "");
    };
    say("crafted once for all methods", transfer);
    say("from a file, the same prompts for all methods", given);
    say("crafted against one row, with full access, and used on all", found);
    say("against each method, with full access", full);
    say("against each method, by questions alone", questions);
  }

  // "N the concept's names, A its anchor": the letters that occur.
  std::string UsesLegend() const {
    std::string text;
    for (const Use& use : kUses) {
      bool occurs = false;
      for (const std::string& method : view_.methods()) {
        const std::vector<std::string> uses = UsesOf(view_, method);
        occurs = occurs || IsOneOf(use.name, uses);
      }
      if (occurs) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", use.letter, use.meaning);
    }
    return text.empty() ? "nothing" : text;
  }

  // What was left out of the headline's rates, by attack, with the bounds that it leaves; and whose
  // pictures are partly missing.
  void AddDenominators() {
    const std::string& metric = headline_->metric;
    for (const std::string& attack : view_.Attacks(metric)) {
      std::vector<std::pair<std::string, std::string>> bounds;  // by method
      const Record* example = nullptr;
      for (const std::string& method : view_.methods()) {
        const Record* record = view_.Find(method, kAllConcepts, attack, metric);
        if (record == nullptr) continue;
        if (MissingOf(*record) > 0) AddMissing(*record);
        if (attack == kUnion || !record->denominators.contains("reasons")) continue;
        if (!record->denominators.contains("bounds")) continue;
        bounds.emplace_back(method, " " + Bounds(*record));
        example = record;
      }
      if (example == nullptr) continue;
      Text text("Left out under ");
      text.Data(attack).Words(fmt::format(": {} of {} pictures (",
                                          example->denominators.at("excluded").dump(),
                                          example->denominators.at("set").dump()));
      std::string between;
      for (const auto& [reason, count] : example->denominators.at("reasons").items()) {
        text.Words(between).Data(reason).Words(" " + count.dump());
        between = ", ";
      }
      text.Words("); had all of them failed or all succeeded, %: ");
      between.clear();
      for (const auto& [method, range] : bounds) {
        text.Words(between).Data(method).Words(range);
        between = ", ";
      }
      text.Words(".");
      remarks_.push_back(std::move(text));
    }
  }

  // "25-75", in percent.
  static std::string Bounds(const Record& record) {
    const Json& range = record.denominators.at("bounds");
    return fmt::format("{:.0f}-{:.0f}", 100 * range.at(0).get<double>(),
                       100 * range.at(1).get<double>());
  }

  void AddMissing(const Record& record) {
    Text text;
    text.Data(record.method).Words(", ");
    text.Data(record.attack == kUnion ? "worst case" : record.attack);
    text.Words(
        fmt::format(": missing or damaged pictures: {}, beside {} that are scored. They "
                    "count nowhere, and the row is neither ranked nor compared",
                    MissingOf(record), record.score.n));
    if (record.denominators.contains("bounds")) {
      text.Words("; had all of them failed or all succeeded, %: " + Bounds(record));
    }
    remarks_.push_back(std::move(text.Words(".")));
  }

  void AddLegend() {
    std::vector<std::string> references;
    for (const std::string& method : view_.methods()) {
      if (view_.IsReference(method)) references.push_back(method);
    }
    Text marks;
    marks.Best().Words(": best");
    if (!references.empty()) marks.Words(" beside the reference rows ").List(references, "");
    marks.Words("; ").Code("=").Words(": within 5 points of it (two one-sided tests); ").Code("~");
    marks.Words(
        ": not shown to be, but not significantly different from it either (paired test). Each at "
        "5 %, of two rows alone: not adjusted for how many rows there are. [a-b], ±: 95 % "
        "intervals over prompts, of these concepts and these edits.");
    remarks_.push_back(std::move(marks));
    remarks_.emplace_back(
        fmt::format("uses: {}. worst case: a prompt counts when it succeeds under any attack, or "
                    "under none.",
                    UsesLegend()));
    remarks_.emplace_back(
        "garbage: nothing that the judge knows (a broken model is no removal). U-Net: evaluations "
        "of one latent.");
    AddElsewhere();
  }

  // Cells that the run took from files of machines with other instructions.
  void AddElsewhere() {
    const Results& results = view_.results();
    int64_t cells = 0;
    for (const Json& source : ReusedSources(results)) {
      const Json here = results.inputs.value("numerics", Json::object());
      if (source.at("numerics") != here) cells += source.at("cells").get<int64_t>();
    }
    if (cells == 0) return;
    remarks_.emplace_back(
        fmt::format("{} computed on other machines, whose numbers differ by rounding.",
                    Plural(cells, "cell was", "cells were")));
  }

  const TableView& view_;
  const Record* headline_;
  std::vector<Text> remarks_;
};

}  // namespace

Text TableCaption(const TableView& view, const Record* headline) {
  return NotesWriter(view, headline).Caption();
}

std::vector<Text> TableRemarks(const TableView& view, const Record* headline) {
  return NotesWriter(view, headline).Remarks();
}

std::string LettersOfUses(const TableView& view, const std::string& method) {
  std::string letters;
  for (const std::string& use : UsesOf(view, method)) letters += LetterOf(use);
  return letters.empty() ? "-" : letters;
}

}  // namespace excise
