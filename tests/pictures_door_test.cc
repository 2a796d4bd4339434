// The door for pictures of other software, walked as a user would: --export_prompts, draw,
// --images.
#include <ATen/ops/from_blob.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>

#include "core/hash.h"
#include "models/pictures/image_io.h"
#include "models/tensors/noise.h"
#include "models/tensors/safetensors.h"
#include "tests/tiny_table.h"

namespace excise {

namespace fs = std::filesystem;
using Catch::Contains;

namespace {

// Pictures of `method` as the store has them, in the order of rows, as PNG files of another size
// beside a manifest: what a user's own software would leave.
Json DrawElsewhere(const Table& table, const std::string& method, const std::string& row_name,
                   const std::string& folder) {
  fs::create_directories(Desk() / folder);
  std::map<std::string, int64_t> next;  // by artifact
  Json pictures = Json::array();
  for (const Json& row : table.rows) {
    const std::string artifact = row.at("artifact");
    const int64_t index = next[artifact]++;
    if (row.at("method") != method) continue;
    const fs::path stored = Cache() / "store" / "generate" / artifact.substr(0, 2) / artifact;
    const auto shape = ReadJsonFile(stored / "unit.json").at("shape").get<std::vector<int64_t>>();
    std::string bytes = ReadBytes(stored / "images.u8");
    const at::Tensor images = at::from_blob(bytes.data(), shape, at::kByte);
    const std::string file = row_name + "_" + std::to_string(pictures.size()) + ".png";
    WritePng(Desk() / folder / file, images[index]);
    pictures.push_back({{"row", row_name},
                        {"prompt_id", row.at("root_id")},
                        {"concept", row.at("concept")},
                        {"attack", row.at("attack")},
                        {"file", file},
                        {"sha256", Sha256HexOfFile(Desk() / folder / file)}});
  }
  return pictures;
}

void WriteManifest(const std::string& folder, const Json& manifest) {
  Write(folder + "/manifest.json", manifest.dump());
}

}  // namespace

TEST_CASE("--images: pictures of other software are scored as ours are") {
  const std::vector<std::string> set = {"--methods=uce", "--attacks=char_typo"};
  const Table ours = RunTable(set);
  Json pictures = DrawElsewhere(ours, "uce", "theirs", "drawn");
  for (const Json& one : DrawElsewhere(ours, "none", "their_base", "drawn")) {
    pictures.push_back(one);
  }
  WriteManifest("drawn", {{"pictures", pictures},
                          {"rows", {{"theirs", {{"base", "their_base"}, {"uses", {"anchor"}}}}}}});
  std::vector<std::string> import = set;
  import.push_back("--images=drawn");
  const Table table = RunTable(import);
  for (const std::string attack : {"none", "char_typo"}) {
    CHECK(table.Outcomes("theirs", attack) == ours.Outcomes("uce", attack));
    CHECK(table.Outcomes("their_base", attack) == ours.Outcomes("none", attack));
  }
  for (const std::string metric : {"asr", "retention", "clip_score", "kid"}) {
    INFO(metric);
    const Json& theirs = table.Record("theirs/*/none/" + metric);
    CHECK(theirs.at("value") == ours.Record("uce/*/none/" + metric).at("value"));
    CHECK(theirs.at("parts") == ours.Record("uce/*/none/" + metric).at("parts"));
  }
  CHECK(table.Record("theirs/*/none/asr").at("uses") == Json{"anchor"});
  CHECK(table.Record("theirs/*/none/cost").at("status") == "not_applicable");
}

TEST_CASE("--images: what is missing or damaged counts nowhere, never as a removal") {
  const std::vector<std::string> set = {"--methods=none", "--attacks=none", "--concepts=poodle"};
  const Table ours = RunTable(set);
  Json pictures = Json::array();
  for (const Json& one : DrawElsewhere(ours, "none", "theirs", "partly")) pictures.push_back(one);
  const std::string broken = pictures[0].at("file");
  const std::string root = pictures[0].at("prompt_id");
  const std::string bytes = ReadBytes(Desk() / "partly" / broken);
  Write("partly/" + broken, bytes.substr(0, bytes.size() / 2));
  pictures[0].erase("sha256");
  WriteManifest("partly", {{"pictures", pictures}});
  std::vector<std::string> import = set;
  import.push_back("--images=partly");
  const auto check = [&](const std::string& why) {
    INFO(why);
    const Table table = RunTable(import, 1);
    CHECK_THAT(table.Outcomes("theirs").at(root), Contains("error"));
    const Json& asr = table.Record("theirs/*/none/asr");
    CHECK(asr.at("status") == "ok");
    CHECK(asr.at("n") == 1);
    CHECK(asr.at("parts").at("error") == 0.5);
    CHECK_THAT(asr.at("reason").get<std::string>(), Contains(why));
    const Json& counts = asr.at("denominators");
    CHECK(counts.at("set") == 2);
    CHECK(counts.at("scored") == 1);
    CHECK(counts.at("missing") == 1);
    const double value = asr.at("value");
    CHECK(counts.at("bounds") == Json{value / 2, (value + 1) / 2});
    CHECK(table.Record("none/*/none/asr").at("n") == 2);
  };
  check(broken);
  fs::remove(Desk() / "partly" / broken);
  check(broken + " is missing");
  pictures.erase(0);
  WriteManifest("partly", {{"pictures", pictures}});
  check("the manifest has no picture of this prompt");

  // Nothing but junk is an error, and no rate of 0.
  for (Json& one : pictures) {
    one.erase("sha256");
    Write("partly/" + one.at("file").get<std::string>(), "junk");
  }
  WriteManifest("partly", {{"pictures", pictures}});
  const Table junk = RunTable(import, 1);
  for (const std::string metric : {"asr", "retention", "clip_accuracy", "clip_score", "kid"}) {
    CHECK(junk.Record("theirs/*/none/" + metric).at("status") == "error");
  }
}

TEST_CASE("--images: a manifest that cannot be meant is refused") {
  const Table ours = RunTable({"--methods=none", "--attacks=none", "--concepts=poodle"});
  const Json pictures = DrawElsewhere(ours, "none", "theirs", "bad");
  Write("outside.png", ReadBytes(Desk() / "bad" / pictures[0].at("file").get<std::string>()));
  fs::remove(Desk() / "bad" / "link.png");
  fs::create_symlink(Desk() / "outside.png", Desk() / "bad" / "link.png");
  const auto refused_all = [&](const Json& manifest, const std::string& message) {
    WriteManifest("bad", manifest);
    Refused({"--methods=none", "--attacks=none", "--concepts=poodle", "--images=bad"}, message);
  };
  const auto refused = [&](const char* key, const Json& value, const std::string& message) {
    Json changed = pictures;
    changed[0][key] = value;
    refused_all({{"pictures", changed}}, message);
  };
  refused("file", "../outside.png", "leaves the folder");
  refused("file", "link.png", "leaves the folder");
  refused("file", (Desk() / "outside.png").string(), "below the folder");
  // Neither waited for nor hashed.
  REQUIRE(mkfifo((Desk() / "bad" / "pipe.png").c_str(), 0600) == 0);
  refused("file", "pipe.png", "is a pipe");
  Write("bad/huge.png", "");
  fs::resize_file(Desk() / "bad" / "huge.png", uint64_t{300} << 30);
  refused("file", "huge.png", "322122547200 bytes; at most");
  refused("sha256", std::string(64, '0'), "was changed after the manifest");
  refused("row", "none", "is a method of this run");
  refused("row", "", "letters, digits");
  refused("concept", "poodel", "Did you mean 'poodle'?");
  refused("concept", "sepia", "belongs to concept 'poodle'");
  refused("attack", "pezz", "Did you mean 'pez'?");
  refused("replicate", -1, "/replicate");
  refused("flie", "x", "Did you mean 'file'?");
  Json twice = pictures;
  twice.push_back(pictures[0]);
  refused_all({{"pictures", twice}}, "a second picture");
  refused_all({{"pictures", Json::array()}}, "names no picture");
  refused_all({{"pictrues", pictures}}, "a list \"pictures\"");
  refused_all({{"pictures", pictures}, {"row", 1}}, "Did you mean 'rows'?");
  refused_all({{"pictures", pictures}, {"rows", {{"theirs", {{"base", "x"}}}}}}, "no other row");
  Json unknown = Json::array({pictures[0]});
  unknown[0]["prompt_id"] = "nowhere/1";
  refused_all({{"pictures", unknown}}, "none of its pictures belongs to a prompt");
  Write("bad/manifest.json", "{");
  Refused({"--images=bad"}, "manifest.json", 1);
  Refused({"--images=nowhere"}, "a folder with manifest.json is expected");
}

TEST_CASE("--export_prompts: prompts and the very noise that the table draws on") {
  const RowFile file = Export({"--attacks=char_typo", "--set", "sampler.images_per_prompt=2"});
  CHECK(file.columns == std::vector<std::string>{"prompt_id", "concept", "group", "attack",
                                                 "replicate", "prompt", "noise_seed", "latents"});
  // 2 concepts x 2 replicates x (2 target, again under the attack, 2 near, 1 far, 1 lexical).
  CHECK(file.rows.size() == 2 * 2 * (2 + 2 + 2 + 1 + 1));
  const StateDict latents = LoadSafetensors(Desk() / "prompts.latents.safetensors");
  CHECK(latents.size() == 2 * 2 * (2 + 2 + 1 + 1));
  for (const FileRow& row : file.rows) {
    const std::string name = row.fields.at("latents");
    const std::string root = name.substr(0, name.rfind('#'));
    const at::Tensor& drawn = latents.Get(name);
    CHECK(drawn.equal(LatentNoise(std::stoull(row.fields.at("noise_seed")), root,
                                  std::stoull(row.fields.at("replicate")), drawn.sizes())));
    CHECK(row.fields.at("prompt_id").find(root) == 0);
  }
  Refused({"--export_prompts=prompts.txt"}, ".csv or .jsonl file");
}

}  // namespace excise
