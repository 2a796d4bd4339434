// experiments/formats/experiment.h. Input: lines "#profile NAME" and "#set path=value" for the
// command line, then the experiment's JSON. What is accepted is in range, named plainly, writable
// as JSON, and the same when it is loaded again.
#include "experiments/formats/experiment.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace excise;
  using fuzz::Require;
  std::string_view text = fuzz::Text(data, size);
  ExperimentChoices choices;
  while (!text.empty() && text[0] == '#') {
    const std::string_view line = fuzz::TakeLine(&text);
    const size_t space = line.find(' ');
    const std::string word(space == std::string_view::npos ? "" : line.substr(space + 1));
    if (line.substr(0, space) == "#profile") choices.profile = word;
    if (line.substr(0, space) == "#set") choices.settings.push_back(word);
  }
  const fuzz::MemoryFile file(text);
  Experiment e;
  if (!fuzz::Accepts([&] { e = LoadExperiment(file.path(), choices); })) return 0;
  Require(!e.name.empty() && e.name.find('/') == std::string::npos, "a name that is a file name");
  Require(!e.concepts.empty(), "something to remove");
  Require(e.prompts.target >= 1 && e.prompts.near >= 0, "counts in range");
  Require(e.sampler.steps >= 1 && e.sampler.steps <= 1000, "steps in range");
  Require(e.sampler.guidance >= 0 && e.sampler.guidance <= 100, "guidance in range, and a number");
  Require(e.sampler.unit_size >= 2 && e.sampler.images_per_prompt >= 1, "batches in range");
  Require(e.seeds.erase >= 0 && e.seeds.attack >= 0 && e.seeds.noise >= 0, "seeds in range");
  const std::string written = CanonicalJson(ExperimentToJson(e));
  Require(written == CanonicalJson(ExperimentToJson(LoadExperiment(file.path(), choices))),
          "the same every time");
  return 0;
}
