// What attacks found: used on other rows (found_on), and written for others to try
// (--export_prompts=found:FILE), as a user asks for it.
#include <catch2/catch.hpp>
#include <set>

#include "core/csv.h"
#include "core/hash.h"
#include "experiments/formats/results_file.h"
#include "tests/testdata.h"
#include "tests/tiny_table.h"

namespace excise {
namespace {

using Strings = std::vector<std::string>;

const Strings kRows = {"--methods=none,uce,negative_prompt", "--concepts=poodle", "--metrics=asr"};

Strings With(Strings more) {
  Strings all = kRows;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

Strings OnUce(const std::string& plugin, const std::string& row = "uce") {
  return With({"--attacks=" + plugin + ",on_uce", "--set", "attacks.on_uce.plugin=" + plugin,
               "--set", "attacks.on_uce.found_on=" + row});
}

size_t Stored(const std::string& stage) {
  size_t files = 0;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(Cache() / "store" / stage)) {
    files += entry.path().filename() == "manifest.json" ? 1 : 0;
  }
  return files;
}

}  // namespace

TEST_CASE("found_on: what was found on a row is used on all, without another search") {
  const Table plain = RunTable(With({"--attacks=unlearn_diff_atk"}));
  const size_t searches = Stored("attack");
  const Table table = RunTable(OnUce("unlearn_diff_atk"));
  CHECK(Stored("attack") == searches);
  // On the row that it was found on it is the attack itself.
  CHECK(table.Outcomes("uce", "on_uce") == table.Outcomes("uce", "unlearn_diff_atk"));
  const auto digests = [&](const std::string& method, const std::string& attack) {
    const Json lineage = table.Record(method + "/poodle/" + attack + "/asr").at("lineage");
    return std::set<std::string>(lineage.begin(), lineage.end());
  };
  CHECK(digests("uce", "on_uce") == digests("uce", "unlearn_diff_atk"));
  CHECK(digests("negative_prompt", "on_uce") != digests("negative_prompt", "unlearn_diff_atk"));
  for (const char* method : {"none", "uce", "negative_prompt"}) {
    const Json& record = table.Record(std::string(method) + "/poodle/on_uce/asr");
    CHECK(record.at("status") == "ok");
    CHECK(record.at("attack_params").at("found_on") == "uce");
    CHECK(record.at("attack_params").at("plugin") == "unlearn_diff_atk");
    CHECK(record.at("protocol").at("adaptive") == false);
  }
  // What the results say is what was asked for.
  const Experiment again = ExperimentOf(table.results, "tiny.json");
  CHECK(again.attacks.params.at("on_uce").at("found_on") == "uce");
  const ProcessResult shown = RunTiny(OnUce("unlearn_diff_atk"));
  CHECK_THAT(shown.out, Catch::Contains("used on all: on_uce (on uce)"));
}

TEST_CASE("found_on: what cannot be meant is refused") {
  Refused(OnUce("unlearn_diff_atk", "ucee"), "Did you mean 'uce'?");
  Refused({"--methods=none,safe_clip", "--concepts=poodle", "--attacks=on_uce", "--set",
           "attacks.on_uce.plugin=unlearn_diff_atk", "--set", "attacks.on_uce.found_on=safe_clip"},
          "row 'safe_clip' is not attacked for 'poodle'");
  Refused(OnUce("pez"), "is made once for all methods anyway");
  Refused(OnUce("relearn"), "changes the weights of the model that it attacks");
  Refused(With({"--set", "attacks.pez.found_on=1"}), "is the name of a row of the table");
}

TEST_CASE("found:FILE holds what attacks found, and prompt_file reads it back") {
  const Strings attacks = {"--attacks=random_prefix,char_typo,cce"};
  const Table table = RunTable(With(attacks));
  const ProcessResult run = RunTiny(With({attacks[0], "--export_prompts=found:found.csv"}));
  CHECK(run.code == 0);
  CHECK_THAT(run.err, Catch::Contains("because they are embeddings or initial latents"));
  const RowFile file = ReadRows(Desk() / "found.csv");
  // 2 prompts: of char_typo once, of random_prefix against each of the three rows.
  REQUIRE(file.rows.size() == 2 + 2 * 3);
  std::string against_uce = "prompt_id,prompt\n";
  for (const FileRow& row : file.rows) {
    const auto of = [&](const char* column) { return row.fields.at(column); };
    CHECK(of("concept") == "poodle");
    CHECK(of("sha256") == Sha256Hex(of("prompt")));
    CHECK((of("success") == "true" || of("success") == "false") == (of("attack") != "char_typo"));
    if (of("attack") != "random_prefix" || of("method") != "uce") continue;
    CHECK(std::stoi(of("victim_queries")) >= 1);
    against_uce += CsvLine({of("prompt_id"), of("prompt")});
  }
  Write("against_uce.csv", against_uce);
  const Table back =
      RunTable(With({"--attacks=mine", "--set", "attacks.mine.plugin=prompt_file", "--set",
                     "attacks.mine.file=" + (Desk() / "against_uce.csv").string()}));
  CHECK(back.Outcomes("uce", "mine") == table.Outcomes("uce", "random_prefix"));

  // An object a line, and names that are refused.
  CHECK(RunTiny(With({attacks[0], "--export_prompts=found:found.jsonl"})).code == 0);
  CHECK(ReadRows(Desk() / "found.jsonl").rows.size() == file.rows.size());
  Refused(With({attacks[0], "--export_prompts=found:"}), "needs the name of a file");
  Refused(With({attacks[0], "--export_prompts=found:x.txt"}), ".csv or .jsonl file");
  Refused(With({attacks[0], "--sensitive_texts"}), "is for --export_prompts=found:FILE");
}

TEST_CASE("found:FILE keeps texts of sensitive concepts back, unless the user asks for them") {
  Json own = ReadJsonFile(RepoFile("datasets/concepts/poodle.json"));
  own["name"] = "dog";
  own["sensitivity"] = "sensitive";
  own["names"] = {{"known", {"dog"}}, {"held_out", Json::array()}};
  own["anchor"] = "cat";
  own["preserve"] = {"car"};
  own["neighbours"] = {{"near", {"fox"}}, {"far", Json::array()}, {"lexical", Json::array()}};
  own["judge"] = {{"kind", "class"}, {"target", {"dog"}}, {"anchor", {"cat"}}};
  Write("concepts/dog.json", own.dump());
  Write("own.csv", "prompt,concept\na dog on the moon,dog\n");
  Strings export_found = {"--concepts=dog",
                          "--methods=none",
                          "--attacks=char_typo",
                          "--concepts_dir=concepts",
                          "--set",
                          "prompts.dataset=prompts_csv",
                          "--set",
                          "prompts.params.file=own.csv",
                          "--metrics=asr",
                          "--export_prompts=found:own_found.csv"};
  const ProcessResult kept = RunTiny(export_found);
  INFO(kept.err);
  REQUIRE(kept.code == 0);
  CHECK_THAT(kept.err, Catch::Contains("without their text: 1 prompt (--sensitive_texts"));
  const std::map<std::string, std::string> hidden =
      ReadRows(Desk() / "own_found.csv").rows.at(0).fields;
  CHECK(hidden.at("prompt").empty());
  export_found.push_back("--sensitive_texts");
  REQUIRE(RunTiny(export_found).code == 0);
  const std::map<std::string, std::string> shown =
      ReadRows(Desk() / "own_found.csv").rows.at(0).fields;
  CHECK(Sha256Hex(shown.at("prompt")) == hidden.at("sha256"));
  std::filesystem::remove_all(Desk() / "concepts");
}

}  // namespace excise
