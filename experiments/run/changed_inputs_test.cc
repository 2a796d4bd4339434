// What is hashed at the start and read later: whatever changes in between, nothing is stored under
// the old digest, and the error names the file.
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "core/files.h"
#include "core/hash.h"
#include "experiments/run/grid.h"
#include "experiments/run/pipeline.h"
#include "experiments/run/runner.h"
#include "models/nets/unet.h"
#include "models/pictures/image_io.h"
#include "models/tensors/safetensors.h"
#include "tests/testdata.h"
#include "tests/tiny_models.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

constexpr const char* kTensor = "conv_in.bias";  // of the U-Net

// Other bytes of the same length in the same place.
void Edit(const fs::path& file) {
  std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
  bytes.seekg(-1, std::ios::end);
  const char last = static_cast<char>(bytes.get());
  bytes.seekp(-1, std::ios::end);
  bytes.put(static_cast<char>(last ^ 1));
}

void Write(const fs::path& file, const std::string& text) {
  fs::create_directories(file.parent_path());
  WriteFileAtomically(file, text);
}

Prompt TargetPrompt() {
  Prompt prompt;
  prompt.id = prompt.root_id = "t/0";
  prompt.text = "a picture of a poodle";
  return prompt;
}

// A lab and a store of tiny models, with an attack or a method whose files are in `folder`.
struct Scene {
  explicit Scene(const std::string& name)
      : folder(TestFolder(name)), store(folder / "store"), pipeline(lab, store) {
    lab.experiment.sampler.unit_size = 1;
    lab.experiment.sampler.steps = 1;
    lab.numerics = {{"fingerprint", "a"}};
    lab.backbone = TinyBackbone(folder / "backbone");
    lab.judges.push_back(Make<Judge>("emoji"));
    lab.own_clip = TinyClip();
    lab.concepts = {TinyConcept()};
    lab.dataset = Make<Dataset>("emoji_prompts");
    lab.methods.push_back(Make<Method>("none"));
    lab.attacks.push_back(Make<Attack>("none"));
    lab.prompts = {{{"target", {TargetPrompt()}}}};
    ReadInputs(&lab);
  }

  template <class Base>
  Entry<Base> Make(const std::string& name, const Json& params = Json::object()) {
    std::unique_ptr<Base> plugin = Registry<Base>::Get().Make(name);
    DecodeParams(params, *plugin, "test");
    return MakeEntry<Base>(name, name, std::move(plugin), &lab.inputs);
  }

  // Erases, or crafts: whether something was stored under `key`, and what was said.
  void CheckRefused(const std::function<void()>& work, const Json& key, const fs::path& changed) {
    INFO(changed);
    CHECK_THROWS_WITH(work(), Contains("was changed, replaced or removed") &&
                                  Contains(changed.filename().string()));
    CHECK_FALSE(store.Find(key).has_value());
    CHECK_FALSE(fs::exists(store.root() / ".scratch" / Store::Digest(key)));
  }

  void Erase(const std::string& method, const Json& params, const fs::path& changed,
             const std::function<void()>& change) {
    lab.methods.push_back(Make<Method>(method, params));
    if (lab.methods.back().plugin->traits().needs_folder == "retrained/unet") {
      lab.methods.back().folder_digest = lab.inputs.Add(lab.backbone.folder / "retrained/unet");
    }
    ReadInputs(&lab);
    change();
    CheckRefused([&] { pipeline.Erase(1, 0); }, EraseKey(lab, 1, 0), changed);
  }

  void Craft(const std::string& attack, const Json& params, const fs::path& changed,
             const std::function<void()>& change) {
    lab.attacks.push_back(Make<Attack>(attack, params));
    change();
    CheckRefused([&] { pipeline.Craft(1, 0, 0, TargetPrompt()); },
                 AttackKey(lab, 1, 0, 0, TargetPrompt()), changed);
  }

  fs::path folder;
  Lab lab;
  Store store;
  Pipeline pipeline;
};

void WriteTensor(const fs::path& file, double value) {
  StateDict tensors;
  tensors.Set(std::string("unet.") + kTensor,
              at::full(TinyBackbone().unet.Get(kTensor).sizes(), value));
  SaveSafetensors(file, tensors);
}

void WriteUNet(const fs::path& folder, uint64_t seed) {
  const UNetConfig config = TinyBackbone().unet_config;
  Write(folder / "config.json", UNetConfigToJson(config).dump());
  SaveSafetensors(folder / "diffusion_pytorch_model.safetensors", InitUNet(config, seed));
}

// `change` goes on whenever the lab asks what the method is.
std::function<void()> meddling;
class Meddler : public Method {
 public:
  void Fields(ParamVisitor&) override {}
  int version() const override { return 1; }
  MethodTraits traits() const override {
    if (meddling) meddling();
    return {};
  }
  Erased Erase(Context&, const Backbone&, const std::vector<Concept>&) const override { return {}; }
};
const Registration<Method, Meddler> meddler("methods/meddler.cc");

std::unique_ptr<Lab> OpenSmallLab(const Json& more) {
  Json experiment = {{"name", "small"},
                     {"title", "small"},
                     {"caveat", "small"},
                     {"backbone", "emoji"},
                     {"concepts", {"poodle"}},
                     {"sampler", {{"steps", 1}, {"unit_size", 2}}},
                     {"prompts", {{"target", 1}, {"near", 0}, {"far", 0}, {"lexical", 0}}},
                     {"attacks", {{"only", {"none"}}}},
                     {"metrics", {{"only", {"asr"}}}}};
  experiment.merge_patch(more);
  return OpenLab(MakeExperiment(experiment, "test", {}),
                 {RepoFile("models/emoji/model_index.json").parent_path().parent_path(),
                  RepoFile("datasets/concepts/poodle.json").parent_path()});
}

#define REQUIRE_MODELS()                                                              \
  if (!HaveModels()) {                                                                \
    WARN(                                                                             \
        "SKIPPED: models/emoji is not there; //models:pretrain_emoji makes it. What " \
        "changes under a whole lab was not tested.");                                 \
    return;                                                                           \
  }

}  // namespace

TEST_CASE("weights that change after they were hashed: tensors, snapshots, LoRAs, folders") {
  const fs::path inputs = TestFolder("changed_weights");
  const fs::path file = inputs / "mine.safetensors";
  WriteTensor(file, 1);
  Scene("changed_edited").Erase("snapshot", {{"tensors", file.string()}}, file, [&] {
    Edit(file);
  });
  Scene("changed_replaced").Erase("snapshot", {{"tensors", file.string()}}, file, [&] {
    WriteTensor(file, 2);
  });

  // A pipeline whose U-Net is a link: the model behind it changes.
  const fs::path real = inputs / "real", snapshot = inputs / "snapshot";
  WriteUNet(real, 21);
  fs::create_directories(snapshot);
  fs::create_directory_symlink(real, snapshot / "unet");
  const fs::path weights = snapshot / "unet/diffusion_pytorch_model.safetensors";
  WriteUNet(inputs / "other", 23);
  Scene("changed_snapshot").Erase("snapshot", {{"folder", snapshot.string()}}, weights, [&] {
    fs::copy_file(inputs / "other" / weights.filename(), real / weights.filename(),
                  fs::copy_options::overwrite_existing);
  });
  Scene("changed_link").Erase("snapshot", {{"folder", snapshot.string()}}, "snapshot", [&] {
    fs::remove(snapshot / "unet");
    fs::create_directory_symlink(inputs / "other", snapshot / "unet");
  });

  StateDict lora;
  for (const auto& [name, tensor] : TinyBackbone().unet) {
    if (name.find("attn2.to_v.weight") == name.npos) continue;
    const std::string layer = "unet." + name.substr(0, name.size() - 7);
    lora.Set(layer + ".lora_A.weight", at::ones({1, tensor.size(1)}));
    lora.Set(layer + ".lora_B.weight", at::ones({tensor.size(0), 1}));
  }
  const fs::path adapter = inputs / "lora.safetensors";
  SaveSafetensors(adapter, lora);
  Scene("changed_lora").Erase("snapshot", {{"lora", adapter.string()}}, adapter, [&] {
    Edit(adapter);
  });

  Scene retrained("changed_retrained");
  const fs::path unet =
      retrained.lab.backbone.folder / "retrained/unet/diffusion_pytorch_model.safetensors";
  retrained.Erase("retrained", Json::object(), unet, [&] { Edit(unet); });
}

TEST_CASE("an input that does not change is no obstacle") {
  const fs::path file = TestFolder("unchanged") / "mine.safetensors";
  WriteTensor(file, 1);
  Scene scene("unchanged_scene");
  scene.lab.methods.push_back(scene.Make<Method>("snapshot", {{"tensors", file.string()}}));
  ReadInputs(&scene.lab);
  CHECK(scene.pipeline.Erase(1, 0)->model.unet.Get(kTensor).eq(1).all().item<bool>());
  CHECK(scene.store.Find(EraseKey(scene.lab, 1, 0)).has_value());
}

TEST_CASE("attacks whose files change after they were hashed") {
  const fs::path inputs = TestFolder("changed_attacks");
  const fs::path prompts = inputs / "adversarial.csv";
  Write(prompts, "root_id,prompt\nt/0,a curly dog\n");
  Scene("changed_prompts").Craft("prompt_file", {{"file", prompts.string()}}, prompts, [&] {
    Write(prompts, "root_id,prompt\nt/0,a woolly dog\n");
  });

  const ClipConfig clip = TinyClip().config;
  const std::string shape = std::to_string(clip.text.max_position_embeddings) + ", " +
                            std::to_string(clip.text.hidden_size);
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape + "), }";
  header.resize(117, ' ');
  header += '\n';
  const auto floats =
      static_cast<size_t>(clip.text.max_position_embeddings * clip.text.hidden_size);
  const fs::path vector = inputs / "vector.npy";
  Write(vector,
        std::string("\x93NUMPY\x01\x00\x76\x00", 10) + header + std::string(4 * floats, '\0'));
  Scene("changed_vector")
      .Craft("ring_a_bell",
             {{"concept_vector", vector.string()},
              {"prompt_len", 2},
              {"population", 2},
              {"generations", 1}},
             vector, [&] { Edit(vector); });
}

TEST_CASE("pictures made elsewhere that change after they were hashed") {
  for (const bool junk : {false, true}) {
    Scene scene(junk ? "changed_to_junk" : "changed_picture");
    const fs::path file = scene.folder / "picture.png";
    WritePng(file, at::full({3, 8, 8}, 100, at::kByte));
    PictureRow row;
    row.pictures[{0, 0, "t/0", 0}] = {file, Sha256HexOfFile(file)};
    row.offered.insert({0, 0, "target"});
    scene.lab.methods.push_back(scene.Make<Method>("none"));
    scene.lab.methods.back().pictures = std::make_shared<const PictureRow>(row);
    const std::vector<Unit> units = UnitsOf(scene.lab, 1, 0, 0, "target");
    REQUIRE(units.size() == 1);
    if (junk) {
      Write(file, "junk");
    } else {
      WritePng(file, at::full({3, 8, 8}, 200, at::kByte));
    }
    scene.CheckRefused([&] { scene.pipeline.Generate(units[0]); }, units[0].key, file);
    // The very picture again.
    WritePng(file, at::full({3, 8, 8}, 100, at::kByte));
    CHECK(scene.pipeline.Generate(units[0]).images.eq(100).all().item<bool>());
  }
}

TEST_CASE("prompts that change between their digest and their reading are no lab's") {
  REQUIRE_MODELS();
  const fs::path file = TestFolder("changed_csv") / "prompts.csv";
  Write(file, "id,prompt,concept\n0,a poodle,poodle\n");
  const Json experiment = {
      {"methods", {{"only", {"meddler"}}}},
      {"prompts", {{"dataset", "prompts_csv"}, {"params", {{"file", file.string()}}}}}};
  CHECK(OpenSmallLab(experiment)->prompts[0].at("target").size() == 1);
  meddling = [&] { std::ofstream(file, std::ios::app) << "\n"; };
  CHECK_THROWS_WITH(OpenSmallLab(experiment), Contains(file.string()) && Contains("was changed"));
  meddling = nullptr;
}

TEST_CASE("a run whose input changes ends, and says which file it was") {
  REQUIRE_MODELS();
  const fs::path file = TestFolder("changed_run") / "mine.safetensors";
  StateDict tensors;
  tensors.Set("unet.conv_in.bias", at::full({1}, 0.5));
  SaveSafetensors(file, tensors);
  const std::unique_ptr<Lab> lab = OpenSmallLab(
      {{"methods",
        {{"only", {"mine"}},
         {"params", {{"mine", {{"plugin", "snapshot"}, {"tensors", file.string()}}}}}}}});
  Store store(TestFolder("changed_run_store"));
  Edit(file);
  CHECK_THROWS_WITH(RunExperiment(*lab, Grid(*lab), store, {}),
                    Contains(file.string()) && Contains("was changed"));
  CHECK_FALSE(fs::exists(store.root() / "erase"));
}

}  // namespace excise
