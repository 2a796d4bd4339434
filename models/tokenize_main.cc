// Token ids of lines: one JSON array a line.
#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "core/error.h"
#include "core/json.h"
#include "core/program.h"
#include "models/formats/tokenizer.h"

namespace excise {
namespace {

struct Options {
  std::string model;
  bool pad = false;
};

void Run(const Options& options) {
  const std::filesystem::path folder = UserPath(options.model);
  const bool inside = std::filesystem::is_directory(folder / "tokenizer");
  const auto tokenizer = Tokenizer::Load(inside ? folder / "tokenizer" : folder);
  std::string line;
  while (std::getline(std::cin, line)) {
    std::vector<int64_t> ids;
    if (options.pad) {
      ids = tokenizer->EncodePadded(line, tokenizer->model_max_length());
    } else {
      ids = tokenizer->Encode(line);
      ids.insert(ids.begin(), tokenizer->bos_id());
      ids.push_back(tokenizer->eos_id());
    }
    std::cout << Json(ids).dump() << '\n';
  }
  if (std::cin.bad()) throw Error("stdin: reading failed.");
  if (!std::cout.flush()) throw Error("stdout: writing failed. Is the disk full?");
}

}  // namespace
}  // namespace excise

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  excise::Options options;
  CLI::App app(
      "Reads one text a line from stdin and prints its token ids, start and end included, as one\n"
      "JSON array a line.");
  app.add_option("--model", options.model,
                 "Hugging Face folder: a pipeline (DIR/tokenizer), a model or a tokenizer")
      ->required();
  app.add_flag("--pad", options.pad, "cut and pad to the tokenizer's model_max_length");
  return excise::RunProgram(app, argc, argv, [&] { excise::Run(options); });
}
