#include "experiments/lab/picture_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/escape.h"
#include "core/hash.h"
#include "core/progress.h"
#include "core/text.h"
#include "experiments/formats/picture_manifest.h"
#include "experiments/lab/lab.h"
#include "experiments/results/record.h"
#include "models/pictures/picture_file.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

// Stands for whatever made the pictures.
class MadeElsewhere : public Method {
 public:
  explicit MadeElsewhere(std::vector<std::string> uses) : uses_(std::move(uses)) {}
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MethodTraits traits() const override {
    MethodTraits traits;
    traits.uses = uses_;
    return traits;
  }
  Erased Erase(Context&, const Backbone&, const std::vector<Concept>&) const override {
    throw Error("Pictures that were made elsewhere come without a model.");
  }

 private:
  std::vector<std::string> uses_;
};

struct Found {
  size_t subject = 0;
  std::string group, root_id;
};

class ManifestReader {
 public:
  ManifestReader(const fs::path& folder, const Lab& lab)
      : lab_(lab), file_(folder / "manifest.json"), manifest_(ReadPictureManifest(folder)) {
    for (size_t subject = 0; subject < lab.concepts.size(); ++subject) {
      for (const auto& [group, prompts] : lab.prompts[subject]) {
        for (const Prompt& prompt : prompts) {
          by_id_[prompt.id] = {subject, group, prompt.root_id};
          by_text_[prompt.text].push_back({subject, group, prompt.root_id});
        }
      }
    }
  }

  std::map<std::string, PictureRow> Read() {
    Progress progress("hash the pictures of " + file_.string(),
                      static_cast<int64_t>(manifest_.pictures.size()), "pictures");
    for (size_t i = 0; i < manifest_.pictures.size(); ++i) {
      if (InterruptRequested()) throw Interrupted{};
      progress.Advance();
      Add(manifest_.pictures[i], fmt::format("#/pictures/{}", i));
    }
    for (const auto& [name, info] : manifest_.rows) {
      const auto row = rows_.find(name);
      if (row == rows_.end()) continue;  // all its pictures were passed over
      row->second.base = info.base;
      row->second.uses = info.uses;
    }
    if (rows_.empty()) {
      Fail("", manifest_.pictures.empty()
                   ? "it names no picture"
                   : "none of its pictures belongs to a prompt of this run: concepts, "
                     "prompts or --limit differ. --export_prompts=FILE.csv lists the ids");
    }
    if (passed_over_ > 0) {
      LogInfo(
          fmt::format("{}: {} of {} pictures belong to concepts, prompts or attacks that do not "
                      "take part here",
                      file_.string(), passed_over_, manifest_.pictures.size()));
    }
    CheckBases();
    return std::move(rows_);
  }

 private:
  static std::string Shown(const std::string& text) { return Escape(text, Format::kTerminal); }
  [[noreturn]] void Fail(const std::string& where, const std::string& what) const {
    throw UsageError(fmt::format("{}{}: {}.", file_.string(), where, what));
  }

  void Add(const PictureEntry& entry, const std::string& where) {
    for (const Entry<Method>& method : lab_.methods) {
      if (method.name == entry.row) {
        Fail(where,
             fmt::format("row '{}' is a method of this run; choose another name", entry.row));
      }
    }
    const auto attack = std::find_if(lab_.attacks.begin(), lab_.attacks.end(),
                                     [&](const auto& a) { return a.name == entry.attack; });
    if (attack == lab_.attacks.end()) {
      RequireKnown("attack", entry.attack, Registry<Attack>::Get().Names(), where);
    }
    if (!entry.subject.empty()) {
      RequireKnown("concept", entry.subject, lab_.known_concepts, where);
    }
    const std::optional<Found> found = Find(entry, where);
    const PictureRow::Picture picture = Locate(entry, where);
    if (!found || attack == lab_.attacks.end() ||
        entry.replicate >= lab_.experiment.sampler.images_per_prompt) {
      ++passed_over_;
      return;
    }
    const auto attack_index = static_cast<size_t>(attack - lab_.attacks.begin());
    if (attack_index != 0 && found->group != "target") {
      Fail(where, fmt::format("attack '{}' on group '{}': only target prompts are attacked",
                              entry.attack, found->group));
    }
    PictureRow& row = rows_[entry.row];
    const PictureRow::Place place = {found->subject, attack_index, found->root_id, entry.replicate};
    if (!row.pictures.emplace(place, picture).second) {
      Fail(where, fmt::format("a second picture of row '{}', prompt {}, attack {}, replicate {}",
                              entry.row, found->root_id, entry.attack, entry.replicate));
    }
    row.offered.insert({found->subject, attack_index, found->group});
  }

  // What takes no part in this run is passed over; what does not exist is a mistake.
  void RequireKnown(const char* kind, const std::string& name,
                    const std::vector<std::string>& known, const std::string& where) const {
    if (IsOneOf(name, known)) return;
    throw UsageError(fmt::format("{}{}: unknown {} '{}'.{}", file_.string(), where, kind,
                                 Shown(name), DidYouMeanOrKnown(name, known)));
  }

  // Which prompt the picture is of; nullopt where it takes no part in this run.
  std::optional<Found> Find(const PictureEntry& entry, const std::string& where) const {
    const auto subject = std::find_if(lab_.concepts.begin(), lab_.concepts.end(),
                                      [&](const Concept& c) { return c.name == entry.subject; });
    const bool named = !entry.subject.empty();
    if (!entry.prompt_id.empty()) {
      // An adversarial prompt's id is its seed's with "+attack" after it.
      auto found = by_id_.find(entry.prompt_id);
      if (found == by_id_.end()) {
        found = by_id_.find(entry.prompt_id.substr(0, entry.prompt_id.rfind('+')));
      }
      if (found == by_id_.end()) return std::nullopt;
      if (named && lab_.concepts[found->second.subject].name != entry.subject) {
        Fail(where,
             fmt::format("prompt {} belongs to concept '{}', not '{}'", Shown(entry.prompt_id),
                         lab_.concepts[found->second.subject].name, Shown(entry.subject)));
      }
      return found->second;
    }
    if (entry.prompt.empty() || !named) {
      Fail(where, "a prompt_id is needed, or a prompt with its concept");
    }
    const auto texts = by_text_.find(entry.prompt);
    if (subject == lab_.concepts.end() || texts == by_text_.end()) return std::nullopt;
    std::vector<Found> fits;
    for (const Found& one : texts->second) {
      const bool in_group = entry.group.empty() || one.group == entry.group;
      if (lab_.concepts[one.subject].name == entry.subject && in_group) fits.push_back(one);
    }
    if (fits.size() > 1) Fail(where, "several prompts have this text; name one by prompt_id");
    if (fits.empty()) return std::nullopt;
    return fits[0];
  }

  PictureRow::Picture Locate(const PictureEntry& entry, const std::string& where) const {
    const fs::path& path = entry.path;
    std::error_code problem;
    if (!fs::exists(path, problem)) return {path, ""};
    try {
      RequirePictureFile(path);
    } catch (const Error& error) {
      throw UsageError(fmt::format("{}{}: {}", file_.string(), where, error.what()));
    }
    const std::string sha256 = Sha256HexOfFile(path);
    if (!entry.sha256.empty() && entry.sha256 != sha256) {
      Fail(where, fmt::format("file '{}' has the SHA-256 {}, not {}: it was changed after the "
                              "manifest was written",
                              Shown(entry.file), sha256, Shown(entry.sha256)));
    }
    return {path, sha256};
  }

  // What is compared with a row must be whole.
  void CheckBases() const {
    for (const auto& [name, row] : rows_) {
      if (row.base.empty()) continue;
      const auto base = rows_.find(row.base);
      if (base == rows_.end() || row.base == name) {
        std::vector<std::string> names;
        for (const auto& [other, ignored] : rows_) names.push_back(other);
        Fail(fmt::format("#/rows/{}", name),
             fmt::format("base '{}' is no other row with pictures; there are {}", Shown(row.base),
                         fmt::join(names, ", ")));
      }
      for (const auto& [place, picture] : row.pictures) {
        const auto& [subject, attack, root_id, replicate] = place;
        const auto other = base->second.pictures.find({subject, 0, root_id, replicate});
        if (other != base->second.pictures.end() && !other->second.sha256.empty()) continue;
        Fail(fmt::format("#/rows/{}", name),
             fmt::format("its base '{}' has no picture of prompt {}, replicate {}, which it has "
                         "itself",
                         row.base, root_id, replicate));
      }
    }
  }

  const Lab& lab_;
  fs::path file_;
  PictureManifest manifest_;
  std::map<std::string, Found> by_id_;
  std::map<std::string, std::vector<Found>> by_text_;
  std::map<std::string, PictureRow> rows_;
  int64_t passed_over_ = 0;
};

}  // namespace

void AddPictureRows(const fs::path& folder, Lab* lab) {
  for (auto& [name, row] : ManifestReader(folder, *lab).Read()) {
    Entry<Method> entry = MakeEntry<Method>(
        name, "pictures", std::make_unique<MadeElsewhere>(row.uses), &lab->inputs);
    entry.pictures = std::make_shared<const PictureRow>(std::move(row));
    lab->methods.push_back(std::move(entry));
  }
}

}  // namespace excise
