// A judge held to pictures whose classes are known, as a process.
#include <ATen/core/Tensor.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <string>
#include <vector>

#include "judges/judge.h"
#include "models/pictures/image_io.h"
#include "models/pictures/picture_file.h"
#include "models/tensors/safetensors.h"
#include "tests/imagenet_files.h"
#include "tests/process.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

fs::path Weights() {
  static const fs::path file = [] {
    const fs::path made = TestFolder("judge_program_weights") / "net.safetensors";
    SaveSafetensors(made, FormulaResNet(4));
    return made;
  }();
  return file;
}

ProcessResult RunJudge(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"--judge=imagenet", "--set",
                                        "weights=" + Weights().string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunProcess("EXCISE_JUDGE", arguments);
}

void SavePicture(const fs::path& file, const at::Tensor& image) {
  fs::create_directories(file.parent_path());
  WritePng(file, image);
}

// What the judge says of the picture in the file.
std::string Said(const fs::path& file) {
  const std::unique_ptr<Judge> judge = Registry<Judge>::Get().Make("imagenet");
  DecodeParams({{"weights", Weights().string()}}, *judge, "test");
  judge->Open(JudgeSource());
  return judge->Report(ReadPicture(file).unsqueeze(0)).verdicts[0].class_id;
}

}  // namespace

TEST_CASE("a judge is held to pictures whose classes are known") {
  const fs::path folder = TestFolder("judge_program");
  const at::Tensor pictures = ToUint8(TinyImages(3, 5));
  SavePicture(folder / "aside.png", pictures[0]);
  const std::string right = Said(folder / "aside.png");
  const std::string wrong = right == "tench" ? "goldfish" : "tench";
  for (const char* name : {"a.png", "b.PNG"}) {
    SavePicture(folder / "in" / right / name, pictures[0]);
    SavePicture(folder / "in" / wrong / name, pictures[0]);
  }
  SavePicture(folder / "in" / right / "c.png", pictures[0]);
  std::ofstream(folder / "in" / right / "notes.txt") << "no picture";
  std::ofstream(folder / "in" / wrong / "broken.png") << "junk";
  const std::string in = "--pictures=" + (folder / "in").string();
  const ProcessResult result = RunJudge({in, "--published=75.1"});
  INFO(result.err);
  REQUIRE(result.code == 0);
  // Wilson, 3 of 5: 23.1 to 88.2 %.
  CHECK_THAT(result.out, Contains("60.0 %") && Contains("3 of 5 pictures") && Contains("23.1 %") &&
                             Contains("88.2 %"));
  CHECK_THAT(result.out, Contains("published: 75.1 %, inside"));
  CHECK_THAT(result.out, Contains("2  " + right + " for " + wrong));
  CHECK_THAT(result.out, Contains("1 picture was not read") && Contains("broken.png"));
  CHECK_THAT(RunJudge({in, "--limit=1"}).out, Contains("1 of 2 pictures"));
  // A threshold that nothing reaches: it names none.
  CHECK_THAT(RunJudge({in, "--set", "threshold=1"}).out, Contains("none of its classes: 100.0 %"));
}

TEST_CASE("folders of another naming are read by a list in the order of the classes") {
  const fs::path folder = TestFolder("judge_program_names");
  const at::Tensor pictures = ToUint8(TinyImages(1, 5));
  SavePicture(folder / "aside.png", pictures[0]);
  const std::string right = Said(folder / "aside.png");
  const Json classes = ReadJsonFile(RepoFile("datasets/imagenet_classes.json"));
  std::ofstream names(folder / "names.txt");
  std::string mine;
  for (size_t i = 0; i < classes.size(); ++i) {
    names << "n" << i << " words, of it\n";
    if (classes[i] == right) mine = "n" + std::to_string(i);
  }
  names.close();
  SavePicture(folder / "in" / mine / "a.png", pictures[0]);
  const std::string in = "--pictures=" + (folder / "in").string();
  CHECK_THAT(RunJudge({in, "--names=" + (folder / "names.txt").string()}).out,
             Contains("1 of 1 picture"));
  std::ofstream(folder / "short.txt") << "n0 one\nn1 two\n";
  const ProcessResult wrong = RunJudge({in, "--names=" + (folder / "short.txt").string()});
  CHECK(wrong.code == 2);
  CHECK_THAT(wrong.err, Contains("2 lines") && Contains("1000 classes"));
}

TEST_CASE("what cannot be meant is refused") {
  const fs::path folder = TestFolder("judge_program_refused");
  const at::Tensor picture = ToUint8(TinyImages(1, 5))[0];
  const auto refused = [](const std::vector<std::string>& arguments, const std::string& word) {
    const ProcessResult result = RunJudge(arguments);
    INFO(result.err);
    CHECK(result.code == 2);
    CHECK_THAT(result.err, Contains(word));
  };
  const std::string in = "--pictures=" + (folder / "in").string();
  refused({in}, "no such folder");
  fs::create_directories(folder / "in");
  refused({in}, "no picture");
  SavePicture(folder / "in" / "tenhc" / "a.png", picture);
  refused({in}, "Did you mean 'tench'");
  refused({in, "--published=175"}, "percentage");
  refused({in, "--set", "threshold"}, "NAME=VALUE");
  const ProcessResult unknown = RunProcess("EXCISE_JUDGE", {in, "--judge=imagenett"});
  CHECK(unknown.code == 2);
  CHECK_THAT(unknown.err, Contains("Did you mean 'imagenet'"));
  fs::rename(folder / "in" / "tenhc", folder / "in" / "tench");
  std::ofstream(folder / "in" / "tench" / "a.png") << "junk";
  const ProcessResult none = RunJudge({in});
  CHECK(none.code == 1);
  CHECK_THAT(none.err, Contains("a.png"));
}

}  // namespace excise
