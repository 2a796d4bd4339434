#include "experiments/lab/removals.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/hash.h"
#include "core/text.h"
#include "experiments/lab/lab.h"

namespace excise {
namespace {

const RemovalLists& ListsOf(const Lab& lab, size_t method) {
  const std::optional<RemovalLists>& own = lab.methods[method].removals;
  return own ? *own : lab.experiment.removals;
}

bool Meet(const std::vector<std::string>& some, const std::vector<std::string>& others) {
  return std::any_of(some.begin(), some.end(),
                     [&](const std::string& one) { return IsOneOf(one, others); });
}

// Whether what `subject` is to become is what the removal of `other` is to take away.
bool Becomes(const Concept& subject, const Concept& other) {
  if (IsOneOf(subject.anchor, other.known)) return true;
  return subject.judge.kind == other.judge.kind && Meet(subject.judge.anchor, other.judge.target);
}

// Whether a picture as the prompt asks for it would show the concept.
bool AsksFor(const Prompt& prompt, const Concept& subject) {
  const bool style = subject.judge.kind == "style";
  return IsOneOf(style ? prompt.expected_style : prompt.expected_class, subject.judge.target);
}

}  // namespace

std::vector<size_t> RemovedTogether(const Lab& lab, size_t method, size_t subject) {
  if (method == lab.unmodified) return {subject};
  for (const std::vector<std::string>& list : ListsOf(lab, method)) {
    if (!IsOneOf(lab.concepts[subject].name, list)) continue;
    std::vector<size_t> together;
    for (size_t i = 0; i < lab.concepts.size(); ++i) {
      if (IsOneOf(lab.concepts[i].name, list)) together.push_back(i);
    }
    return together;
  }
  return {subject};
}

std::string NamesOf(const Lab& lab, const std::vector<size_t>& concepts,
                    const std::string& between) {
  std::vector<std::string> names;
  for (const size_t one : concepts) names.push_back(lab.concepts[one].name);
  return Joined(names, between);
}

Concept RemovedAmong(const Lab& lab, size_t subject, const std::vector<size_t>& together) {
  Concept removed = lab.concepts[subject];
  for (const size_t other : together) {
    if (other == subject) continue;
    const auto gone = [&](const std::string& name) {
      return IsOneOf(name, lab.concepts[other].known);
    };
    std::vector<std::string>& kept = removed.preserve;
    kept.erase(std::remove_if(kept.begin(), kept.end(), gone), kept.end());
  }
  return removed;
}

void TakeRemovals(Lab* lab) {
  for (Entry<Method>& entry : lab->methods) {
    if (!entry.removals) continue;
    for (const std::vector<std::string>& list : *entry.removals) {
      for (const std::string& name : list) {
        if (IsOneOf(name, lab->known_concepts)) continue;
        ThrowUnknownName(fmt::format("concept in removals of method '{}'", entry.name), name,
                         lab->known_concepts);
      }
    }
    entry.removals = RemovalsAmong(lab->experiment.concepts, *entry.removals);
  }
  for (const size_t row : lab->Rows()) {
    for (size_t subject = 0; subject < lab->concepts.size(); ++subject) {
      const std::vector<size_t> together = RemovedTogether(*lab, row, subject);
      for (const size_t other : together) {
        const Concept &one = lab->concepts[subject], &gone = lab->concepts[other];
        if (other == subject || !Becomes(one, gone)) continue;
        throw UsageError(fmt::format(
            "removals: {} are removed together, but '{}' is to become its anchor '{}', which is "
            "what '{}' removes. Remove the two apart, or give '{}' another anchor in its file.",
            NamesOf(*lab, together, ", "), one.name, one.anchor, gone.name, one.name));
      }
    }
  }
}

void LeaveOutRemoved(Lab* lab) {
  for (size_t subject = 0; subject < lab->concepts.size(); ++subject) {
    std::set<size_t> together;
    for (const size_t row : lab->Rows()) {
      const std::vector<size_t> some = RemovedTogether(*lab, row, subject);
      together.insert(some.begin(), some.end());
    }
    const auto removed_too = [&](const Prompt& prompt) {
      return std::any_of(together.begin(), together.end(), [&](size_t other) {
        return other != subject && AsksFor(prompt, lab->concepts[other]);
      });
    };
    for (const char* group : kGroups) {
      const auto found = lab->prompts[subject].find(group);
      if (group == std::string("target") || found == lab->prompts[subject].end()) continue;
      std::vector<Prompt> kept;
      for (Prompt& prompt : found->second) {
        if (removed_too(prompt)) {
          lab->excluded[subject][group].push_back({prompt.id, kRemovedToo, Sha256Hex(prompt.text)});
        } else {
          kept.push_back(std::move(prompt));
        }
      }
      found->second = std::move(kept);
    }
  }
}

}  // namespace excise
