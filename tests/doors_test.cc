// The doors for people who write no C++, walked as a user would: method `snapshot`, attack
// `prompt_file`, data set `prompts_csv`. The examples of docs/bring_your_own.md are these.
#include <ATen/ops/full_like.h>
#include <ATen/ops/ones.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <set>

#include "core/hash.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_table.h"

namespace excise {

namespace fs = std::filesystem;
using Catch::Contains;

TEST_CASE("snapshot: an edited folder and single tensors give the rows that they should") {
  fs::remove(Desk() / "mine");
  fs::create_directory_symlink(EmojiFolder() / "retrained", Desk() / "mine");
  const std::string weights = "mine/unet/diffusion_pytorch_model.safetensors";
  const Table table = RunTable(
      {"--methods=retrained,my_folder,my_tensors", "--attacks=char_typo", "--set",
       "methods.my_folder.plugin=snapshot", "--set", "methods.my_folder.folder=mine", "--set",
       "methods.my_tensors.plugin=snapshot", "--set", "methods.my_tensors.tensors=" + weights});
  // The same U-Net by three ways.
  for (const std::string attack : {"none", "char_typo"}) {
    const auto expected = table.Outcomes("retrained", attack);
    REQUIRE(expected.size() >= 4);
    CHECK(table.Outcomes("my_folder", attack) == expected);
    CHECK(table.Outcomes("my_tensors", attack) == expected);
    CHECK(table.Outcomes("none", attack) != expected);
  }
  const Json& record = table.Record("my_folder/*/none/asr");
  CHECK(record.at("method_params").at("plugin") == "snapshot");
  CHECK(record.at("method_params").at("folder") == "mine");
  CHECK(record.at("method_params").at("folder_sha256") ==
        Sha256HexOfPath(EmojiFolder() / "retrained"));
}

TEST_CASE("--export_models: the edited model as a folder, which gives its row again") {
  fs::remove_all(Desk() / "edited");
  const std::vector<std::string> export_uce = {"--methods=none,uce", "--attacks=none",
                                               "--export_models=edited"};
  const ProcessResult wrote = RunTiny(export_uce);
  INFO(wrote.err);
  REQUIRE(wrote.code == 0);
  CHECK_THAT(wrote.err, Contains("none changes no weights"));
  CHECK(fs::exists(Desk() / "edited/uce/sepia/model_index.json"));
  CHECK_FALSE(fs::exists(Desk() / "edited/none"));
  const Table table =
      RunTable({"--methods=uce,mine", "--attacks=none", "--concepts=poodle", "--set",
                "methods.mine.plugin=snapshot", "--set", "methods.mine.folder=edited/uce/poodle"});
  REQUIRE(table.Outcomes("uce").size() >= 2);
  CHECK(table.Outcomes("mine") == table.Outcomes("uce"));
  CHECK(table.Record("mine/*/none/clip_score").at("value") ==
        table.Record("uce/*/none/clip_score").at("value"));
  // Nothing is written over, and nothing is written in vain.
  Refused(export_uce, "is not empty");
  Refused({"--methods=negative_prompt", "--attacks=none", "--export_models=edited2"},
          "none of the chosen methods changes weights");
}

TEST_CASE("snapshot: a LoRA, its strength, and the concepts that it claims") {
  StateDict lora;
  const StateDict unet = LoadSafetensorsFolder(EmojiFolder() / "unet", "diffusion_pytorch_model");
  for (const auto& [name, tensor] : unet) {
    if (name.find("attn2.to_v.weight") == name.npos) continue;
    const std::string layer = "unet." + name.substr(0, name.size() - 7);
    lora.Set(layer + ".lora_A.weight", at::ones({1, tensor.size(1)}));
    lora.Set(layer + ".lora_B.weight", at::ones({tensor.size(0), 1}));
  }
  SaveSafetensors(Desk() / "lora.safetensors", lora);
  const std::vector<std::string> set = {"--methods=off,on",
                                        "--attacks=none",
                                        "--set",
                                        "methods.off.plugin=snapshot",
                                        "--set",
                                        "methods.off.lora=lora.safetensors",
                                        "--set",
                                        "methods.off.scale=0",
                                        "--set",
                                        "methods.on.plugin=snapshot",
                                        "--set",
                                        "methods.on.lora=lora.safetensors",
                                        "--set",
                                        "methods.on.concepts=[\"poodle\"]"};
  const Table table = RunTable(set);
  CHECK(table.Outcomes("off") == table.Outcomes("none"));
  CHECK(table.Record("off/*/none/asr").at("status") == "ok");
  CHECK(table.Record("on/poodle/none/asr").at("status") == "ok");
  CHECK(table.Record("on/sepia/none/asr").at("status") == "not_applicable");
  CHECK(table.Record("on/*/none/asr").at("status") == "not_applicable");
  CHECK_THAT(table.Record("on/*/none/asr").at("reason").get<std::string>(), Contains("sepia"));
  for (const auto& [root, outcome] : table.Outcomes("on")) {
    CHECK(outcome != table.Outcomes("none").at(root));
  }
}

TEST_CASE("plug-ins that need the user's files take no part until they have them") {
  const ProcessResult plan = RunTiny({"--dry_run"});
  INFO(plan.err);
  CHECK(plan.code == 0);
  CHECK_THAT(plan.out, !Contains("snapshot"));
  Refused({"--methods=snapshot"}, "--set methods.snapshot.folder=PATH");
  Refused({"--attacks=prompt_file"}, "--set attacks.prompt_file.file=PATH");
  Refused({"--set", "prompts.dataset=prompts_csv"}, "prompts.params.file=PATH");
  Refused({"--set", "methods.snapshot.folder=nowhere"}, "nowhere: there is no such file or folder");
  Refused({"--set", "methods.snapshot.lroa=x"}, "Did you mean 'lora'?");
  Refused({"--set", "methods.mine.plugin=snapshto"}, "Did you mean 'snapshot'?");
  Refused({"--set", "methods.uce.plugin=snapshot"}, "Choose a name of your own");
  Refused({"--set", "methods.a b.plugin=snapshot"}, "letters, digits");
  SaveSafetensors(Desk() / "alien.safetensors", [] {
    StateDict tensors;
    tensors.Set("model.diffusion_model.out.weight", at::ones({2}));
    return tensors;
  }());
  Refused({"--set", "methods.mine.plugin=snapshot", "--set",
           "methods.mine.tensors=alien.safetensors", "--set", "methods.mine.concepts=[\"poodel\"]"},
          "Did you mean 'poodle'?");
  // A file that does not fit costs its own row.
  const Table table =
      RunTable({"--methods=mine", "--attacks=none", "--set", "methods.mine.plugin=snapshot",
                "--set", "methods.mine.tensors=alien.safetensors"},
               1);
  CHECK(table.Record("mine/*/none/asr").at("status") == "error");
  CHECK(table.Record("none/*/none/asr").at("status") == "ok");
}

TEST_CASE("snapshot: finite weights that overflow are an error of the row, not a removal") {
  const StateDict unet = LoadSafetensorsFolder(EmojiFolder() / "unet", "diffusion_pytorch_model");
  StateDict huge;
  huge.Set("unet.conv_out.weight", at::full_like(unet.Get("conv_out.weight"), 3e38));
  SaveSafetensors(Desk() / "huge.safetensors", huge);
  const Table table =
      RunTable({"--methods=mine", "--attacks=none", "--concepts=poodle", "--set",
                "methods.mine.plugin=snapshot", "--set", "methods.mine.tensors=huge.safetensors"},
               1);
  const Json& record = table.Record("mine/*/none/asr");
  CHECK(record.at("status") == "error");
  CHECK_THAT(record.at("reason").get<std::string>(),
             Contains("method 'mine'") && Contains("step 1 of 2"));
  CHECK(table.Record("none/*/none/asr").at("status") == "ok");
}

TEST_CASE("prompt_file: prompts that were made elsewhere act as if they had been made here") {
  const RowFile exported = Export({"--attacks=char_typo"});
  std::string csv = CsvLine({"root_id", "adv_prompt", "score"}), jsonl;
  std::string first_root;
  for (const FileRow& row : exported.rows) {
    if (row.fields.at("attack") != "char_typo") continue;
    const std::string id = row.fields.at("prompt_id"), root = id.substr(0, id.rfind('+'));
    if (first_root.empty()) first_root = root;
    // An earlier candidate; the last one is the attack's choice.
    csv +=
        CsvLine({root, "something, else", "0.5"}) + CsvLine({root, row.fields.at("prompt"), "1"});
    if (root != first_root) {
      jsonl += Json{{"prompt_id", root}, {"prompt", row.fields.at("prompt")}}.dump() + "\n";
    }
  }
  Write("attack.csv", csv);
  Write("attack.jsonl", jsonl + Json{{"prompt_id", first_root}, {"prompt", "a young girl"}}.dump());
  const std::vector<std::string> set = {"--methods=uce", "--attacks=char_typo,csv,jsonl",
                                        "--set",         "attacks.csv.plugin=prompt_file",
                                        "--set",         "attacks.csv.file=attack.csv",
                                        "--set",         "attacks.jsonl.plugin=prompt_file",
                                        "--set",         "attacks.jsonl.file=attack.jsonl"};
  const Table table = RunTable(set);
  const auto expected = table.Outcomes("uce", "char_typo");
  REQUIRE(expected.size() == 4);
  CHECK(table.Outcomes("uce", "csv") == expected);
  // One prompt less is another batch, which may differ in the last bits: classes must not.
  const auto seen = [](std::map<std::string, std::string> outcomes) {
    for (auto& [root, outcome] : outcomes) outcome.resize(outcome.rfind('/'));
    return outcomes;
  };
  auto fewer = seen(expected);
  fewer.erase(first_root);
  CHECK(seen(table.Outcomes("uce", "jsonl")) == fewer);
  const Json& all = table.Record("uce/*/csv/asr").at("denominators");
  CHECK(all == Json{{"set", 4}, {"eligible", 4}, {"excluded", 0}, {"attacked", 4}, {"scored", 4}});
  const Json& some = table.Record("uce/*/jsonl/asr");
  const double value = some.at("value");
  CHECK(some.at("denominators") == Json{{"set", 4},
                                        {"eligible", 3},
                                        {"excluded", 1},
                                        {"attacked", 3},
                                        {"scored", 3},
                                        {"reasons", {{"excluded:minor", 1}}},
                                        {"bounds", {value * 3 / 4, (value * 3 + 1) / 4}}});
  CHECK(table.Record("uce/*/union/asr").at("n") == 4);
  CHECK_THAT(ReadBytes(Desk() / "out.md"), Contains("Left out under jsonl: 1 of 4 pictures"));
  for (const char* file : {"out.json", "out.rows.jsonl", "out.md"}) {
    CHECK_THAT(ReadBytes(Desk() / file), !Contains("young girl"));
  }
}

TEST_CASE("prompt_file: what cannot be meant is refused") {
  Export({"--attacks=none"});
  const std::string flag = "attacks.prompt_file.file=bad.csv";
  const auto refused = [&](const std::string& csv, const std::string& message,
                           const std::string& more = "seeds.attack=1", int code = 2) {
    Write("bad.csv", csv);
    Refused({"--attacks=prompt_file", "--methods=none", "--set", flag, "--set", more}, message,
            code);
  };
  refused("a,b\n1,2\n", "no column for 'prompt'");
  refused("prompt\nx\n", "nothing says which seed prompt");
  refused("prompt,row\nx,\n", "belongs to no seed");
  refused("prompt,row\nx,999\n", "has a candidate for none of the prompts");
  refused("prompt,row,score\nx,1,high\n", "no finite number");
  refused("prompt,row\nx,1,2\n", "line 2: 3 fields", "seeds.attack=1", 1);
  refused("prompt,row\nx,1\n", "64 hexadecimal", "attacks.prompt_file.sha256=\"12\"");
  refused("prompt,row\nx,1\n", "another version", "attacks.prompt_file.sha256=\"00000000\"");
  refused("prompt,row\nx,1\n", "15 bytes where 14", "attacks.prompt_file.bytes=14");
  refused("prompt,row\nx,1\n", "1 rows where 2", "attacks.prompt_file.rows=2");
  refused("prompt,row\nx,1\n", "no column 'pormpt'",
          "attacks.prompt_file.columns=[\"prompt=pormpt\"]");
  refused("prompt,row\nx,1\n", "Did you mean 'prompt'?",
          "attacks.prompt_file.columns=[\"promt=row\"]");
}

TEST_CASE("prompts_csv: a user's own prompts, with what was left out counted and bounded") {
  Write("own.csv",
        "id,concept,group,prompt,expected_class,seed\n"
        "a,poodle,target,a poodle in the snow,,7\n"
        "b,poodle,target,a poodle in the snow,,7\n"
        "c,poodle,target,\"a poodle, and a child\",,9\n"
        "d,Poodle,,\"a poodle\nthat sleeps\",,10\n"
        "e,poodle,near,a dog in the rain,dog,11\n");
  const std::vector<std::string> set = {"--concepts=poodle",
                                        "--methods=uce",
                                        "--attacks=none",
                                        "--set",
                                        "prompts.dataset=prompts_csv",
                                        "--set",
                                        "prompts.params.file=own.csv",
                                        "--set",
                                        "prompts.target=10"};
  const Table table = RunTable(set);
  CHECK(table.Outcomes("uce").size() == 3);
  const Json& asr = table.Record("uce/*/none/asr");
  CHECK(asr.at("n") == 2);
  const Json& counts = asr.at("denominators");
  CHECK(counts.at("set") == 4);
  CHECK(counts.at("eligible") == 2);
  CHECK(counts.at("reasons") == Json{{"excluded:minor", 1}, {"excluded:duplicate", 1}});
  const double value = asr.at("value");
  CHECK(counts.at("bounds") == Json{value / 2, (value * 2 + 2) / 4});
  CHECK(table.Record("uce/*/none/retention").at("n") == 1);
  const Json& dataset = table.results.at("inputs").at("dataset");
  CHECK(dataset.at("params").at("file") == "own.csv");
  CHECK(dataset.at("files").at("file") == Sha256Hex(ReadBytes(Desk() / "own.csv")));
  REQUIRE(dataset.at("excluded").size() == 2);
  std::set<std::string> hashes;
  for (const Json& one : dataset.at("excluded")) hashes.insert(one.at("text_sha256"));
  CHECK(hashes == std::set<std::string>{Sha256Hex("a poodle, and a child"),
                                        Sha256Hex("a poodle in the snow")});
  for (const char* file : {"out.json", "out.rows.jsonl", "out.md"}) {
    CHECK_THAT(ReadBytes(Desk() / file), !Contains("and a child"));
  }
  // Another place and name of the same bytes is the same set.
  fs::create_directory(Desk() / "elsewhere");
  fs::copy_file(Desk() / "own.csv", Desk() / "elsewhere" / "other.csv",
                fs::copy_options::overwrite_existing);
  std::vector<std::string> moved = set;
  moved[6] = "prompts.params.file=elsewhere/other.csv";
  moved.push_back("--dry_run");
  CHECK_THAT(RunTiny(moved).out, Contains("nothing to draw"));
}

TEST_CASE("prompts_csv: prompts that never show the concept are no removal of it") {
  Write("alien.csv",
        "prompt,concept\na red car,poodle\na green apple,poodle\na house,poodle\na tree,poodle\n");
  const std::vector<std::string> set = {"--concepts=poodle",
                                        "--methods=uce",
                                        "--attacks=none",
                                        "--set",
                                        "prompts.dataset=prompts_csv",
                                        "--set",
                                        "prompts.params.file=alien.csv",
                                        "--set",
                                        "prompts.target=4"};
  const Table table = RunTable(set, 1);
  CHECK(table.Record("none/poodle/none/asr").at("value") == 0);
  for (const std::string name : {"uce/poodle/none/asr", "uce/*/none/asr"}) {
    const Json& record = table.Record(name);
    CHECK(record.at("status") == "unfit_judge");
    CHECK_FALSE(record.contains("value"));
    CHECK_THAT(record.at("reason").get<std::string>(), Contains("poodle in 0 of 4 pictures"));
  }
  CHECK(table.Outcomes("uce").size() == 4);  // what was drawn is kept
  const ProcessResult again = RunTiny(set);
  CHECK(again.code == 1);
  CHECK_THAT(again.err, Contains("No removal is reported where the judge sees poodle in 0 of 4"));
  CHECK_THAT(again.out, Contains("n/a (1)") && Contains("(1) no removal is reported"));
}

TEST_CASE("prompts_csv: bad rows, and concepts of one's own") {
  const auto refused = [&](const std::string& csv, const std::string& message,
                           const std::string& concepts = "poodle") {
    Write("own_bad.csv", csv);
    Refused({"--concepts=" + concepts, "--methods=none", "--attacks=none", "--set",
             "prompts.dataset=prompts_csv", "--set", "prompts.params.file=own_bad.csv"},
            message);
  };
  refused("prompt\na poodle\n", "no concept");
  refused("prompt,concept\na poodle,poodel\n", "Did you mean 'poodel'?");
  refused("prompt,concept,group\na poodle,poodle,targte\n", "Did you mean 'target'?");
  refused("prompt,concept,split\na poodle,poodle,tset\n", "Did you mean 'test'?");
  refused("prompt,concept,id\na poodle,poodle,1\nb,poodle,1\n", "occurs twice");
  refused("prompt,concept,expected_class\na poodle,poodle,poodel\n", "nothing that the judge");
  Json own = ReadJsonFile(RepoFile("datasets/concepts/poodle.json"));
  own["name"] = "dog";
  own["names"] = {{"known", {"dog"}}, {"held_out", Json::array()}};
  own["anchor"] = "cat";
  own["preserve"] = {"car"};
  own["neighbours"] = {{"near", {"fox"}}, {"far", Json::array()}, {"lexical", Json::array()}};
  own["judge"] = {{"kind", "class"}, {"target", {"dog"}}, {"anchor", {"cat"}}};
  Write("concepts/dog.json", own.dump());
  Write("own.csv", "prompt,concept\na dog on the moon,dog\n");
  const std::vector<std::string> set = {"--concepts=dog",
                                        "--methods=uce",
                                        "--attacks=none",
                                        "--set",
                                        "prompts.dataset=prompts_csv",
                                        "--set",
                                        "prompts.params.file=own.csv",
                                        "--concepts_dir=concepts"};
  CHECK(RunTable(set).Outcomes("uce").size() == 1);
  own["judge"]["target"] = {"dgo"};
  Write("concepts/dog.json", own.dump());
  Refused(set, "'dgo' is nothing that the judge can see");
  own["name"] = "poodle";
  Write("concepts/poodle.json", own.dump());
  Refused(set, "comes with Excise");
  fs::remove_all(Desk() / "concepts");
}

}  // namespace excise
