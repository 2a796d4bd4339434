#include "tests/store_damage.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>

#include "core/hash.h"
#include "tests/process.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

void CutShort(const fs::path& file, const fs::path&) { fs::resize_file(file, 3); }
void Remove(const fs::path& file, const fs::path&) { fs::remove(file); }
void LinkElsewhere(const fs::path& file, const fs::path&) {
  fs::remove(file);
  fs::create_symlink("/etc/passwd", file);
}
void RemoveManifest(const fs::path&, const fs::path& manifest) { fs::remove(manifest); }
void EmptyManifest(const fs::path&, const fs::path& manifest) { fs::resize_file(manifest, 0); }
void GarbageManifest(const fs::path&, const fs::path& manifest) {
  std::ofstream(manifest) << "{\"files\": {\"../../x\": 3}, \"key\": \x01\xff";
}
void ManifestOfNothing(const fs::path&, const fs::path& manifest) {
  Json json = ReadJsonFile(manifest);
  json["files"] = Json::object();
  std::ofstream(manifest) << json.dump();
}

std::vector<fs::path> ManifestsOf(const fs::path& store, const std::string& stage) {
  std::vector<fs::path> manifests;
  for (const auto& entry : fs::recursive_directory_iterator(store / stage)) {
    if (entry.path().filename() == "manifest.json") manifests.push_back(entry.path());
  }
  std::sort(manifests.begin(), manifests.end());
  REQUIRE_FALSE(manifests.empty());
  return manifests;
}

}  // namespace

void FlipBit(const fs::path& file, const fs::path&) {
  std::string bytes = ReadBytes(file);
  bytes[bytes.size() / 2] ^= 4;
  std::ofstream(file, std::ios::binary) << bytes;
}

const std::vector<std::pair<const char*, Damage>>& Damages() {
  static const std::vector<std::pair<const char*, Damage>> damages = {
      {"a flipped bit", FlipBit},
      {"a file cut short", CutShort},
      {"a file gone", Remove},
      {"a link in a file's place", LinkElsewhere},
      {"the manifest gone", RemoveManifest},
      {"an empty manifest", EmptyManifest},
      {"a manifest of garbage", GarbageManifest},
      {"a manifest that names no files", ManifestOfNothing},
  };
  return damages;
}

int64_t DamageStage(const fs::path& store, const std::string& stage, Damage damage, bool all) {
  std::vector<fs::path> manifests = ManifestsOf(store, stage);
  if (!all) manifests.resize(1);
  for (const fs::path& manifest : manifests) {
    const Json files = ReadJsonFile(manifest).at("files");
    REQUIRE_FALSE(files.empty());
    damage(manifest.parent_path() / files.begin().key(), manifest);
  }
  return static_cast<int64_t>(manifests.size());
}

const std::vector<Poison>& Poisons() {
  static const std::vector<Poison> poisons = {
      {"more verdicts than pictures", "judge", "verdicts.json",
       [](Json* verdicts) {
         for (int i = 0; i < 1000; ++i) verdicts->push_back(verdicts->front());
       }},
      {"fewer verdicts than pictures", "judge", "verdicts.json",
       [](Json* verdicts) { verdicts->erase(0); }},
      {"a class that no judge knows", "judge", "verdicts.json",
       [](Json* verdicts) { verdicts->front()["class"] = "dragon"; }},
      {"pictures of another size", "generate", "unit.json",
       [](Json* unit) {
         unit->at("shape")[2] = 32;
         unit->at("shape")[3] = 128;
       }},
      {"fewer values than samples", "score", "score.json",
       [](Json* score) {
         if (score->contains("per_sample")) score->at("per_sample").erase(0);
         score->at("n") = 1;
       }},
      {"a search that found nothing", "attack", "trajectory.json",
       [](Json* trajectory) { *trajectory = Json::array(); }},
  };
  return poisons;
}

void PoisonStage(const fs::path& store, const Poison& poison) {
  const fs::path manifest = ManifestsOf(store, poison.stage).front();
  const fs::path file = manifest.parent_path() / poison.file;
  Json json = ReadJsonFile(file), whole = ReadJsonFile(manifest);
  poison.edit(&json);
  const std::string bytes = CanonicalJson(json);
  std::ofstream(file) << bytes;
  whole["files"][poison.file] = {{"size", bytes.size()}, {"sha256", Sha256Hex(bytes)}};
  whole["files_sha256"] = Sha256Hex(CanonicalJson(whole["files"]));
  std::ofstream(manifest) << CanonicalJson(whole);
}

}  // namespace excise
