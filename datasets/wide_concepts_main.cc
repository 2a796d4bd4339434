// The concepts of datasets/concepts/wide, made again by their rule.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "core/data_file.h"
#include "core/files.h"
#include "core/program.h"
#include "core/progress.h"
#include "datasets/emoji/wide_concepts.h"

namespace excise {
namespace {

void Write(const std::string& to) {
  const std::filesystem::path folder = UserPath(to);
  CreateFolders(folder);
  const std::filesystem::path own = DataFile("datasets/concepts");
  std::vector<Concept> others;
  for (const std::string& name : ListConcepts(own)) {
    others.push_back(LoadConcept(own / (name + ".json")));
  }
  const std::vector<Concept> made = WideConcepts(*EmojiWorld::Load(), others);
  for (const Concept& one : made) {
    WriteFileAtomically(folder / (one.name + ".json"), ConceptToJson(one).dump(2) + "\n");
  }
  LogInfo(fmt::format("{} concepts in {}", made.size(), folder.string()));
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  CLI::App app("Writes the concepts of datasets/concepts/wide, a file each, by their rule.");
  std::string folder;
  app.add_option("--out", folder, "the folder to write to")->required();
  return excise::RunProgram(app, argc, argv, [&] { excise::Write(folder); });
}
