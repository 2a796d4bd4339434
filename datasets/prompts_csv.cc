// What: prompts of a file of the user, CSV or JSONL
// Paper: none
// Equation: prompts(concept, group, split) = the file's rows with these three values, in order
// Reference: none
// Deviations: rows that mention minors, are empty or repeat a text are left out and counted
// Needs: a file with a header and a column `prompt`; or `caption` or `text`
// Caveats: optional columns: id (case_number), concept, group (target), split (test),
//   expected_class and expected_style (for retention; of pairs: the other thing), seed
//   (evaluation_seed, sd_seed) and guidance (evaluation_guidance, sd_guidance_scale), by which an
//   experiment draws that says so; all others are not read; where a file has no rows for methods,
//   the concept's names are used
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <unordered_set>

#include "core/error.h"
#include "core/hash.h"
#include "core/progress.h"
#include "core/text.h"
#include "datasets/formats/dataset.h"
#include "datasets/formats/user_prompts.h"

namespace excise {
namespace {

const std::vector<FieldNames> kFields = {
    {"prompt", {"prompt", "caption", "text"}},
    {"id", {"id", "prompt_id", "case_number", "case_num"}},
    {"concept", {"concept"}},
    {"group", {"group"}},
    {"split", {"split"}},
    {"expected_class", {"expected_class"}},
    {"expected_style", {"expected_style"}},
    {"seed", {"seed", "evaluation_seed", "sd_seed"}},
    {"guidance", {"guidance", "evaluation_guidance", "sd_guidance_scale"}}};
const std::vector<std::string> kGroups = {"target",   "held_out", "near",    "far",  "lexical",
                                          "preserve", "anchor",   "implied", "pairs"};
const std::vector<std::string> kSplits = {"erase", "attack_seed", "select", "test"};

// A row that can be asked for, or why it cannot.
struct Item {
  std::string subject, group, split, reason;
  Prompt prompt;
};

// What is asked for, of perhaps a million rows, is found without looking at all of them.
using Place = std::vector<std::string>;  // concept, group, split

struct Loaded {
  std::string set;  // "prompts_csv@sha8"
  std::vector<Item> items;
  std::map<Place, std::vector<size_t>> items_of;
  std::vector<std::string> concepts;
  std::unordered_set<std::string> texts;
};

std::string OneOf(const UserTable& table, const FileRow& row, const std::string& field,
                  const std::vector<std::string>& known, const std::string& otherwise) {
  const std::string value = table.Get(row, field).value_or(otherwise);
  if (IsOneOf(value, known)) return value;
  throw UsageError(fmt::format("{}: {} '{}'.{}", table.Where(row), field, value,
                               DidYouMeanOrKnown(value, known)));
}

// What a column of numbers says; nullopt where it says nothing.
std::optional<double> NumberOf(const UserTable& table, const FileRow& row,
                               const std::string& field) {
  const std::optional<std::string> text = table.Get(row, field);
  if (!text) return std::nullopt;
  const Json number = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (number.is_number()) return number.get<double>();
  throw UsageError(fmt::format("{}: {} '{}' is no number.", table.Where(row), field, *text));
}

std::optional<int64_t> SeedOf(const UserTable& table, const FileRow& row) {
  constexpr double kMost = 9007199254740992;  // 2^53, up to which a double is exact
  const std::optional<double> seed = NumberOf(table, row, "seed");
  if (!seed) return std::nullopt;
  if (*seed >= 0 && *seed <= kMost && std::floor(*seed) == *seed) {
    return static_cast<int64_t>(*seed);
  }
  throw UsageError(fmt::format("{}: seed '{}' is no whole number from 0 to 2^53.", table.Where(row),
                               table.Get(row, "seed").value_or("")));
}

std::optional<double> GuidanceOf(const UserTable& table, const FileRow& row) {
  constexpr double kMost = 100;  // as of an experiment's sampler
  const std::optional<double> guidance = NumberOf(table, row, "guidance");
  if (!guidance || (*guidance >= 0 && *guidance <= kMost)) return guidance;
  throw UsageError(
      fmt::format("{}: guidance {} is outside 0 to {}.", table.Where(row), *guidance, kMost));
}

class PromptsCsv : public Dataset {
 public:
  void Fields(ParamVisitor& v) override {
    file_.Fields(v);
    v.Text("concept", &concept_, "the concept of rows that name none");
    v.Text("expected_style", &expected_style_,
           "the style that rows expect which name none, or empty: any");
  }
  // 2: the filter for minors reads through obfuscation. 3: a repeated text with a seed of its own
  // is a prompt of its own.
  int version() const override { return 3; }
  std::vector<std::string> needs_one_of() const override { return {"file"}; }

  PromptSet Prompts(const Concept& subject, const std::string& group, Split split,
                    int64_t limit) const override {
    std::call_once(once_, [this] { loaded_ = Load(); });
    RequireConcept(subject);
    PromptSet set{loaded_.set, {}};
    const auto found = loaded_.items_of.find({subject.name, group, SplitName(split)});
    const bool any = found != loaded_.items_of.end();
    static const std::vector<size_t> kNone;
    int64_t rows = 0;
    for (const size_t index : any ? found->second : kNone) {
      if (limit >= 0 && rows++ >= limit) break;
      const Item& item = loaded_.items[index];
      if (item.reason.empty()) {
        set.prompts.push_back(item.prompt);
      } else {
        set.excluded.push_back({item.prompt.id, item.reason, Sha256Hex(item.prompt.text)});
      }
    }
    const bool for_methods = split == Split::kErase || split == Split::kAttackSeed;
    if (!any && for_methods) AddNames(subject, group, split, limit, &set.prompts);
    return set;
  }

 private:
  Loaded Load() const {
    const UserTable table(file_, kFields, "prompt", "prompts_csv");
    Loaded loaded;
    loaded.set = fmt::format("prompts_csv@{}", table.sha256().substr(0, 8));
    std::set<std::string> concepts;
    std::unordered_set<std::string> ids, seen;
    int64_t number = 0;
    Progress progress("prompts_csv", static_cast<int64_t>(table.rows().size()), "rows");
    for (const FileRow& row : table.rows()) {
      if (InterruptRequested()) throw Interrupted{};
      progress.Advance();
      Item item = Read(table, row, number++);
      item.prompt.id = item.prompt.root_id = loaded.set + "/" + item.prompt.id;
      if (!ids.insert(item.prompt.id).second) {
        throw UsageError(
            fmt::format("{}: the id '{}' occurs twice. Ids name noise and results, so "
                        "each row needs its own.",
                        table.Where(row), item.prompt.id));
      }
      item.reason = ReasonToExclude(item.prompt.text);
      // The size tells where the concept ends and the text begins. A text again with a seed of its
      // own is another picture.
      const std::string seed = item.prompt.seed ? std::to_string(*item.prompt.seed) : "";
      const bool first =
          seen.insert(fmt::format("{} {} {} {}{}", item.group, seed, item.subject.size(),
                                  item.subject, item.prompt.text))
              .second;
      if (item.reason.empty() && !first) item.reason = kDuplicate;
      concepts.insert(item.subject);
      loaded.texts.insert(item.prompt.text);
      loaded.items_of[{item.subject, item.group, item.split}].push_back(loaded.items.size());
      loaded.items.push_back(std::move(item));
    }
    loaded.concepts.assign(concepts.begin(), concepts.end());
    if (!table.unread().empty()) {
      LogInfo(fmt::format("prompts_csv: columns that are not read: {}",
                          fmt::join(table.unread(), ", ")));
    }
    return loaded;
  }

  Item Read(const UserTable& table, const FileRow& row, int64_t number) const {
    Item item;
    const std::string named = table.Get(row, "concept").value_or(concept_);
    if (named.empty()) {
      throw UsageError(
          fmt::format("{}: no concept. Add a column 'concept', or say whose prompts "
                      "these are with the parameter 'concept'.",
                      table.Where(row)));
    }
    item.subject = ConceptKey(named);
    item.group = OneOf(table, row, "group", kGroups, "target");
    item.split = OneOf(table, row, "split", kSplits, "test");
    item.prompt.id = table.Get(row, "id").value_or(std::to_string(number));
    item.prompt.text = table.Get(row, "prompt").value_or("");
    item.prompt.expected_class = table.Get(row, "expected_class").value_or("");
    item.prompt.expected_style = table.Get(row, "expected_style").value_or(expected_style_);
    item.prompt.seed = SeedOf(table, row);
    item.prompt.guidance = GuidanceOf(table, row);
    return item;
  }

  void RequireConcept(const Concept& subject) const {
    const std::vector<std::string>& names = loaded_.concepts;
    if (IsOneOf(subject.name, names)) return;
    throw UsageError(fmt::format(
        "{}: no row of the concept '{}'.{} Its concepts: {}. Choose with --concepts, or describe a "
        "new one in a file of --concepts_dir.",
        file_.path, subject.name, DidYouMean(subject.name, names),
        fmt::join(names.begin(), names.begin() + std::min<size_t>(names.size(), 20), ", ")));
  }

  // What a method or attack may start from when the file has nothing for it: names that it may use
  // anyway, in no text that a test reads.
  void AddNames(const Concept& subject, const std::string& group, Split split, int64_t limit,
                std::vector<Prompt>* prompts) const {
    std::vector<std::string> names;
    if (group == "target") names = subject.known;
    if (group == "anchor") names = {subject.anchor};
    if (group == "preserve") names = subject.preserve;
    const char* form = split == Split::kErase ? "a picture of {}" : "an image of {}";
    for (const std::string& name : names) {
      if (limit >= 0 && static_cast<int64_t>(prompts->size()) >= limit) return;
      Prompt prompt;
      prompt.text = fmt::format(fmt::runtime(form), name);
      if (loaded_.texts.count(prompt.text) != 0) continue;
      prompt.id = prompt.root_id = fmt::format("{}/{}/{}/{}/{}", loaded_.set, SplitName(split),
                                               subject.name, group, prompts->size());
      prompts->push_back(std::move(prompt));
    }
  }

  UserFile file_;
  std::string concept_, expected_style_ = "plain";
  mutable std::once_flag once_;
  mutable Loaded loaded_;
};

const Registration<Dataset, PromptsCsv> registration;

}  // namespace
}  // namespace excise
