#include "experiments/page/headline.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/plural.h"
#include "experiments/lab/lab.h"

namespace excise {
namespace {

std::string Percent(double value) { return fmt::format("{:.0f} %", 100 * value); }

// "2 % [1–7]"
std::string Rate(const Estimate& estimate) {
  if (!estimate.has_interval) return Percent(estimate.value);
  return fmt::format("{} [{:.0f}–{:.0f}]", Percent(estimate.value), 100 * estimate.low,
                     100 * estimate.high);
}

class Author {
 public:
  Author(const TableView& view, const Record& headline)
      : view_(view),
        headline_(headline),
        attack_(HeadlineAttack(view, headline)),
        kept_(FindKeptRate(view)) {}

  Text Write() {
    for (const auto& [method, mark] : view_.Marks(headline_.metric, "", attack_)) {
      (mark == TableView::Mark::kBest         ? best_
       : mark == TableView::Mark::kEquivalent ? equivalent_
                                              : open_)
          .push_back(method);
    }
    if (best_.empty()) return Unfit();
    const Record* record = view_.Find(best_.front(), kAllConcepts, attack_, headline_.metric);
    AddOpening();
    AddNames(best_, true);
    text_.Words(best_.size() == 1 ? " leaves" : " leave");
    text_.Words(" the concept in " + Rate(*EstimateOf(*record, "")) + " of the pictures");
    AddReferences([&](const std::string& method) { return RateOf(method); });
    AddPrice();
    text_.Words(".");
    AddOthers(" Within 5 points of that: ", equivalent_);
    AddOthers(" Not significantly different in removal: ", open_);
    AddRecovery();
    return std::move(text_);
  }

 private:
  void AddOpening() {
    int64_t attacks = 0;
    for (const std::string& attack : view_.Attacks(headline_.metric)) {
      attacks += attack != kUnmodified && attack != kUnion;
    }
    if (attack_ == kUnmodified) {
      text_.Words("Without attack, ");
    } else if (attack_ == kUnion) {
      text_.Words("In the worst case over " + Plural(attacks, "attack") + ", ");
    } else {
      text_.Words("Under ").Data(attack_).Words(", ");
    }
  }

  // Why no removal is reported, or nothing.
  Text Unfit() const {
    const std::vector<Record>& records = view_.results().records;
    const bool any = std::any_of(records.begin(), records.end(),
                                 [](const Record& r) { return r.status == kUnfitJudge; });
    return any ? Text(
                     "The judge does not see the concepts in the unmodified model's pictures, so "
                     "no removal is reported.")
               : Text();
  }

  void AddOthers(const std::string& words, const std::vector<std::string>& names) {
    if (names.empty()) return;
    text_.Words(words);
    AddNames(names, false);
    text_.Words(".");
  }

  // At most three of them by name.
  void AddNames(const std::vector<std::string>& names, bool bold) {
    constexpr size_t kMost = 3;
    const size_t told = names.size() > kMost + 1 ? kMost : names.size();
    for (size_t i = 0; i < told; ++i) {
      if (i > 0) text_.Words(i + 1 == names.size() ? " and " : ", ");
      bold ? text_.Bold(names[i]) : text_.Data(names[i]);
    }
    if (told < names.size()) text_.Words(fmt::format(" and {} more", names.size() - told));
  }

  std::optional<Estimate> RateOf(const std::string& method) const {
    const Record* record = view_.Find(method, kAllConcepts, attack_, headline_.metric);
    return IsWhole(record) ? EstimateOf(*record, "") : std::nullopt;
  }

  std::optional<Estimate> KeptOf(const std::string& method) const {
    const Record* record =
        view_.Find(method, kAllConcepts, kept_->metric->attack, kept_->metric->metric);
    return IsWhole(record) ? EstimateOf(*record, kept_->part) : std::nullopt;
  }

  // ", against 13 % for retrained and 100 % for the unmodified model"
  template <typename Value>
  void AddReferences(const Value& value) {
    std::vector<std::string> references;
    for (const std::string& method : view_.methods()) {
      if (view_.IsReference(method) && value(method)) references.insert(references.begin(), method);
    }
    for (size_t i = 0; i < references.size(); ++i) {
      text_.Words(i == 0 ? ", against " : i + 1 == references.size() ? " and " : ", ");
      text_.Words(Percent(value(references[i])->value) + " for ");
      AddReference(references[i]);
    }
  }

  // In plain words, once.
  void AddReference(const std::string& method) {
    if (method == kUnmodified) {
      text_.Words("the unmodified model");
      return;
    }
    text_.Bold(method);
    if (explained_) return;
    explained_ = true;
    // A reference row that knows the training data was trained on it, without the concept.
    for (const Record& record : view_.results().records) {
      if (record.method != method) continue;
      if (std::count(record.uses.begin(), record.uses.end(), "training_data") > 0) {
        text_.Words(", which never saw the concept,");
      }
      return;
    }
  }

  // What attacks bring back of what the first of the best hides.
  void AddRecovery() {
    const Record* record = view_.Find(best_.front(), kAllConcepts, attack_, kRecovery);
    if (!IsWhole(record)) return;
    const Score& score = record->score;
    const Json& floor = record->protocol.at("floor");
    const bool control = floor.at("method") == record->method;
    text_.Words(" Under attack ").Data(record->method);
    text_.Words(fmt::format(" recovers {:+.0f} points [{:.0f} to {:.0f}] beyond ",
                            100 * score.value, 100 * score.low, 100 * score.high));
    text_.Bold(floor.at(control ? "attack" : "method")).Words(".");
  }

  // What the best keep, where it is known of any of them.
  void AddPrice() {
    if (!kept_) return;
    std::vector<Estimate> kept;
    for (const std::string& method : best_) {
      if (const auto estimate = KeptOf(method)) kept.push_back(*estimate);
    }
    if (kept.empty()) return;
    const auto [least, most] =
        std::minmax_element(kept.begin(), kept.end(),
                            [](const Estimate& a, const Estimate& b) { return a.value < b.value; });
    text_.Words(best_.size() == 1 ? "; it keeps " : "; they keep ");
    text_.Words(kept.size() == 1
                    ? Rate(*least)
                    : fmt::format("{:.0f} to {}", 100 * least->value, Percent(most->value)));
    text_.Words(kept_->part.empty() ? " (" : " of the pictures of ");
    text_.Data(kept_->Name()).Words(kept_->part.empty() ? ")" : " neighbours");
    AddReferences([&](const std::string& method) { return KeptOf(method); });
  }

  const TableView& view_;
  const Record& headline_;
  const std::string attack_;
  const std::optional<KeptRate> kept_;
  std::vector<std::string> best_, equivalent_, open_;
  bool explained_ = false;
  Text text_;
};

}  // namespace

std::optional<KeptRate> FindKeptRate(const TableView& view) {
  for (const Record* metric : view.Metrics("retention")) {
    if (metric->traits.unit != "fraction" || !metric->traits.higher_is_better) continue;
    const std::vector<std::string> parts = PartsOf(*metric);
    const bool near = std::count(parts.begin(), parts.end(), "near") > 0;
    return KeptRate{metric, near ? "near" : parts.front()};
  }
  return std::nullopt;
}

std::vector<std::string> AttackColumns(const TableView& view, const std::string& metric) {
  std::vector<std::string> attacks = view.Attacks(metric);
  if (attacks.size() == 2 && attacks.back() == kUnion) attacks.pop_back();
  return attacks;
}

std::string HeadlineAttack(const TableView& view, const Record& headline) {
  return AttackColumns(view, headline.metric).back();
}

bool IsWhole(const Record* record) {
  return record != nullptr && record->status == "ok" && MissingOf(*record) == 0;
}

Text Headline(const TableView& view, const Record* headline) {
  return headline == nullptr ? Text() : Author(view, *headline).Write();
}

}  // namespace excise
