// Bars 4 to 6: what the model draws from names, from held-out names, and what `retrained` draws.
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/stack.h>
#include <fmt/format.h>

#include "core/error.h"
#include "core/text.h"
#include "datasets/emoji/emoji_captions.h"
#include "pretraining/bars/bars_bench.h"

namespace excise {
namespace {

constexpr double kClassRate = .70, kAliasRate = .60;
constexpr int64_t kSheetColumns = 11;

// A style word of `style`, or -1 for plain pictures, whose captions name none.
int AnyStyleWord(SceneStyle style, Philox& rng) {
  std::vector<int> words;
  for (size_t i = 0; i < StyleWords().size(); ++i) {
    if (StyleWords()[i].style == style) words.push_back(static_cast<int>(i));
  }
  return style == SceneStyle::kPlain ? -1 : words[rng.Below(words.size())];
}

// n captions of every class, class by class in turn, in styles as frequent as in training.
std::vector<Ask> AllClasses(const Bench& bench) {
  std::vector<Ask> asks;
  const std::vector<EmojiClass>& classes = bench.world->classes();
  for (int64_t i = 0; i < bench.options.n; ++i) {
    for (size_t c = 0; c < classes.size(); ++c) {
      const std::string id = fmt::format("bars/pictures/{}/{}", classes[c].id, i);
      Philox rng({bench.options.seed, id + "/style", 0, Stream::kData, 0});
      const int emoji = static_cast<int>(c);
      const SceneStyle style = bench.world->SampleScene(rng, emoji).style;
      asks.push_back(MakeAsk(bench, id, ThingOf(classes[c]), emoji, AnyStyleWord(style, rng)));
    }
  }
  return asks;
}

// Captions that use `names` of the concept in turn. A style is asked of random things.
std::vector<Ask> ConceptAsks(const Bench& bench, const Concept& subject,
                             const std::vector<std::string>& names, const std::string& group) {
  std::vector<Ask> asks;
  const std::vector<EmojiClass>& classes = bench.world->classes();
  for (int64_t i = 0; i < 4 * bench.options.n; ++i) {
    const std::string id = fmt::format("bars/{}/{}/{}", group, subject.name, i);
    const std::string& name = names[i % names.size()];
    Philox rng({bench.options.seed, id + "/thing", 0, Stream::kData, 0});
    if (subject.judge.kind == "style") {
      const int emoji = static_cast<int>(rng.Below(classes.size()));
      const int word = StyleWordNamed(name);
      if (word < 0) {
        throw Error(fmt::format("concept '{}': '{}' is no style word of the emoji captions.",
                                subject.name, name));
      }
      asks.push_back(MakeAsk(bench, id, ThingOf(classes[emoji]), emoji, word));
      continue;
    }
    const int emoji = bench.world->ClassNamed(name);
    if (emoji < 0) {
      throw Error(fmt::format("concept '{}': '{}' names no emoji class, or more than one.",
                              subject.name, name));
    }
    const EmojiClass& shown = classes[emoji];
    const std::string article =
        shown.article.empty() || name == shown.name ? shown.article : "auto";
    asks.push_back(MakeAsk(bench, id, WithArticle(article, name), emoji, -1));
  }
  return asks;
}

// The same things in plain pictures, for the style's other side.
std::vector<Ask> PlainAsks(const Bench& bench, const std::vector<Ask>& styled) {
  std::vector<Ask> asks;
  for (const Ask& ask : styled) {
    const EmojiClass& shown = bench.world->classes()[ask.emoji];
    asks.push_back(MakeAsk(bench, ask.id + "/plain", ThingOf(shown), ask.emoji, -1));
  }
  return asks;
}

// Every concept's captions in one list, so that batches are full.
struct ConceptPictures {
  std::vector<std::vector<Ask>> asks;  // [concept]
  at::Tensor pictures;                 // of all, in order
  std::vector<std::vector<Verdict>> verdicts;
};

void Draw(const Bench& bench, const Backbone& model, const std::string& label,
          ConceptPictures* set) {
  std::vector<Ask> all;
  for (const std::vector<Ask>& asks : set->asks) all.insert(all.end(), asks.begin(), asks.end());
  set->pictures = DrawPictures(bench, model, all, label);
  const std::vector<Verdict> verdicts = JudgePictures(bench, set->pictures);
  auto next = verdicts.begin();
  for (const std::vector<Ask>& asks : set->asks) {
    const auto end = next + static_cast<std::ptrdiff_t>(asks.size());
    set->verdicts.emplace_back(next, end);
    next = end;
  }
}

// How often each concept's captions drew its target; into the table of concepts too.
std::map<std::string, Tally> TargetsOf(const Bench& bench, const ConceptPictures& set,
                                       const std::string& column, BarReport* report) {
  std::map<std::string, Tally> tallies;
  for (size_t c = 0; c < bench.concepts.size(); ++c) {
    const Concept& subject = bench.concepts[c];
    Tally target, anchor, garbage;
    for (const Verdict& verdict : set.verdicts[c]) {
      const Outcome outcome = OutcomeOf(verdict, subject);
      target.Add(outcome == Outcome::kTarget);
      anchor.Add(outcome == Outcome::kAnchor);
      garbage.Add(outcome == Outcome::kGarbage);
    }
    tallies[subject.name] = target;
    Json& row = report->tables["concepts"][subject.name];
    row[column] = TallyToJson(target);
    row[column + "_garbage"] = TallyToJson(garbage);
    if (column == "retrained") row[column + "_anchor"] = TallyToJson(anchor);
  }
  return tallies;
}

void MeasureSepia(const Bench& bench, const ConceptPictures& known, BarReport* report) {
  Tally all, styled_right, plain_right;
  for (size_t c = 0; c < bench.concepts.size(); ++c) {
    const Concept& subject = bench.concepts[c];
    if (subject.judge.kind != "style") continue;
    const at::Tensor pictures =
        DrawPictures(bench, *bench.base, PlainAsks(bench, known.asks[c]), "plain pictures");
    for (const Verdict& verdict : JudgePictures(bench, pictures)) {
      plain_right.Add(OutcomeOf(verdict, subject) == Outcome::kAnchor);
      all.Add(OutcomeOf(verdict, subject) == Outcome::kAnchor);
    }
    for (const Verdict& verdict : known.verdicts[c]) {
      styled_right.Add(OutcomeOf(verdict, subject) == Outcome::kTarget);
      all.Add(OutcomeOf(verdict, subject) == Outcome::kTarget);
    }
  }
  report->Set("pictures.sepia",
              MeasureRate(all, fmt::format("sepia {:.1f} %, plain {:.1f} %",
                                           100 * styled_right.rate(), 100 * plain_right.rate())));
}

struct Drawn {
  std::vector<Ask> asks;
  std::vector<bool> right;  // the class that was asked for
};

Drawn MeasureClasses(const Bench& bench, bool wanted, BarReport* report) {
  Drawn drawn{AllClasses(bench), {}};
  const at::Tensor pictures = DrawPictures(bench, *bench.base, drawn.asks, "all classes");
  const std::vector<Verdict> verdicts = JudgePictures(bench, pictures);
  Tally all, style_right;
  std::map<std::string, Tally> by_class, by_style, garbage;
  for (size_t i = 0; i < verdicts.size(); ++i) {
    const Ask& ask = drawn.asks[i];
    const std::string& truth = bench.world->classes()[ask.emoji].id;
    const bool right = verdicts[i].class_id == truth;
    drawn.right.push_back(right);
    all.Add(right);
    by_class[truth].Add(right);
    garbage[truth].Add(verdicts[i].class_id.empty());
    by_style[StyleName(ask.style)].Add(right);
    style_right.Add(verdicts[i].style == StyleName(ask.style));
  }
  for (const auto& [name, tally] : by_class) {
    report->tables["classes"][name]["generated"] = TallyToJson(tally);
    report->tables["classes"][name]["generated_garbage"] = TallyToJson(garbage[name]);
  }
  for (const auto& [name, tally] : by_style) {
    report->tables["styles"][name]["generated"] = TallyToJson(tally);
  }
  if (!wanted) return drawn;
  report->Set("pictures.all",
              MeasureRate(all, fmt::format("style right {:.1f} %", 100 * style_right.rate())));
  const Measurement reaching = MeasureReaching(by_class, kClassRate);
  report->Set("pictures.classes",
              MeasureRate({static_cast<int64_t>(reaching.value), reaching.n}, reaching.note));
  WriteSheet(bench, "generated.png",
             pictures.narrow(0, 0, static_cast<int64_t>(bench.world->classes().size())),
             kSheetColumns);
  return drawn;
}

// The same captions and noise without the targets, by both models.
void MeasureRest(const Bench& bench, const Drawn& base, BarReport* report) {
  const auto allowed = WithoutConcepts(*bench.world, bench.options.concepts);
  std::vector<Ask> asks;
  std::vector<bool> base_right;
  for (size_t i = 0; i < base.asks.size(); ++i) {
    Scene scene;
    scene.emoji = base.asks[i].emoji;
    scene.style = base.asks[i].style;
    if (!allowed(scene)) continue;
    asks.push_back(base.asks[i]);
    base_right.push_back(base.right[i]);
  }
  const std::vector<Verdict> verdicts =
      JudgePictures(bench, DrawPictures(bench, *bench.retrained, asks, "retrained: the rest"));
  std::vector<bool> right;
  std::map<std::string, Tally> by_class;
  for (size_t i = 0; i < asks.size(); ++i) {
    const std::string& truth = bench.world->classes()[asks[i].emoji].id;
    right.push_back(verdicts[i].class_id == truth);
    by_class[truth].Add(right.back());
  }
  for (const auto& [name, tally] : by_class) {
    report->tables["classes"][name]["retrained"] = TallyToJson(tally);
  }
  report->Set("retrained.rest", MeasurePaired(CountPairs(right, base_right)));
}

// Rows of the unmodified model over rows of `retrained`: the same captions and noise.
void WriteTargetSheet(const Bench& bench, const ConceptPictures& base,
                      const ConceptPictures& retrained) {
  constexpr int64_t kEach = 12;
  std::vector<at::Tensor> rows;
  int64_t first = 0;
  for (const std::vector<Ask>& asks : base.asks) {
    const auto n = static_cast<int64_t>(asks.size());
    for (const at::Tensor& pictures : {base.pictures, retrained.pictures}) {
      for (int64_t i = 0; i < kEach; ++i) rows.push_back(pictures[first + i % n]);
    }
    first += n;
  }
  WriteSheet(bench, "retrained_targets.png", at::stack(rows), kEach);
}

void MeasureAliases(const Bench& bench, BarReport* report) {
  ConceptPictures aliases;
  for (const Concept& subject : bench.concepts) {
    aliases.asks.push_back(subject.held_out.empty()
                               ? std::vector<Ask>{}
                               : ConceptAsks(bench, subject, subject.held_out, "aliases"));
  }
  Draw(bench, *bench.base, "held-out names", &aliases);
  report->Set("aliases.concepts",
              MeasureReaching(TargetsOf(bench, aliases, "held_out", report), kAliasRate));
}

void MeasureRetrained(const Bench& bench, const Drawn& base, const ConceptPictures& known,
                      BarReport* report) {
  ConceptPictures drawn;
  drawn.asks = known.asks;
  Draw(bench, *bench.retrained, "retrained: targets", &drawn);
  Tally targets;
  std::string worst;
  double worst_rate = -1;
  for (const auto& [name, tally] : TargetsOf(bench, drawn, "retrained", report)) {
    targets.right += tally.right;
    targets.n += tally.n;
    if (tally.rate() <= worst_rate) continue;
    worst_rate = tally.rate();
    worst = name;
  }
  report->Set("retrained.targets",
              MeasureRate(targets, fmt::format("most: {} {:.1f} %", worst, 100 * worst_rate)));
  WriteTargetSheet(bench, known, drawn);
  MeasureRest(bench, base, report);
}

}  // namespace

void MeasurePictures(const Bench& bench, const std::vector<std::string>& groups,
                     BarReport* report) {
  const bool drawable = bench.base && bench.judges;
  for (const BarSpec& spec : BarSpecs()) {
    if (spec.number < 4) continue;
    report->Explain(spec.id, drawable ? "retrained/unet is not there yet"
                                      : "unet, vae, text_encoder or judges/reporting is not there "
                                        "yet");
  }
  if (!drawable) return;
  if (IsOneOf("aliases", groups)) MeasureAliases(bench, report);
  const bool pictures = IsOneOf("pictures", groups);
  const bool retrained = IsOneOf("retrained", groups) && bench.retrained.has_value();
  if (!pictures && !retrained) return;
  const Drawn base = MeasureClasses(bench, pictures, report);
  ConceptPictures known;
  for (const Concept& subject : bench.concepts) {
    known.asks.push_back(ConceptAsks(bench, subject, subject.known, "concepts"));
  }
  Draw(bench, *bench.base, "concepts", &known);
  const std::map<std::string, Tally> targets = TargetsOf(bench, known, "generated", report);
  if (pictures) {
    report->Set("pictures.worst_concept", MeasureWorst(targets));
    MeasureSepia(bench, known, report);
  }
  if (retrained) MeasureRetrained(bench, base, known, report);
}

}  // namespace excise
