// Snapshots that were damaged, mixed up or made to harm: every one is refused with an Error that
// names the file and, where one is at fault, the tensor, without much memory and in no time. The
// good folder is tests/fixtures/sd1; each case spoils one thing in a copy.
#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>

#include "core/error.h"
#include "core/json.h"
#include "models/snapshots/backbone.h"
#include "tests/testdata.h"

namespace excise {
namespace {

namespace fs = std::filesystem;
using Catch::Contains;

constexpr const char* kUNet = "unet/diffusion_pytorch_model.safetensors";
constexpr const char* kConv = "conv_in.weight";  // a tensor of kUNet, and of 16 channels
constexpr const char* kIndex = "unet/diffusion_pytorch_model.safetensors.index.json";
constexpr const char* kShard = "unet/diffusion_pytorch_model-00001-of-00002.safetensors";

std::string ReadBytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void WriteBytes(const fs::path& path, const std::string& bytes) {
  fs::remove(path);
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string LittleEndian(uint64_t n) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &n, 8);
  return bytes;
}

// Takes a safetensors file apart, lets `spoil` change header and data, and puts it together again.
using Spoil = std::function<void(Json* header, std::string* data)>;
void SpoilWeights(const fs::path& path, const Spoil& spoil) {
  const std::string bytes = ReadBytes(path);
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  Json header = Json::parse(bytes.substr(8, length));
  std::string data = bytes.substr(8 + length);
  spoil(&header, &data);
  const std::string text = header.dump();
  WriteBytes(path, LittleEndian(text.size()) + text + data);
}

void SpoilJson(const fs::path& path, const std::function<void(Json*)>& spoil) {
  Json json = Json::parse(ReadBytes(path));
  spoil(&json);
  WriteBytes(path, json.dump());
}

// Moves the U-Net's weights into a shard that an index names for every tensor.
void Shard(const fs::path& folder) {
  Json map = Json::object();
  SpoilWeights(folder / kUNet, [&](Json* header, std::string*) {
    for (const auto& [name, entry] : header->items()) {
      if (name != "__metadata__") map[name] = fs::path(kShard).filename().string();
    }
  });
  fs::rename(folder / kUNet, folder / kShard);
  WriteBytes(folder / kIndex, Json{{"weight_map", map}}.dump());
}

struct Case {
  std::string name;
  std::function<void(const fs::path& folder)> spoil;
  std::string file, what;  // both stand in the message
};

// Each spoils the header or the data of the U-Net's weights.
std::vector<Case> WeightCases() {
  const auto weights = [](const Spoil& spoil) {
    return [spoil](const fs::path& folder) { SpoilWeights(folder / kUNet, spoil); };
  };
  const auto entry = [weights](const std::string& key, const Json& value) {
    return weights([=](Json* header, std::string*) { (*header)[kConv][key] = value; });
  };
  // Four bytes at the beginning of a tensor.
  const auto value = [weights](uint32_t bits) {
    return weights([bits](Json* header, std::string* data) {
      const size_t begin = (*header)[kConv]["data_offsets"][0];
      std::memcpy(data->data() + begin, &bits, 4);
    });
  };
  return {
      {"half the data", weights([](Json*, std::string* d) { d->resize(d->size() / 2); }), kUNet,
       "truncated"},
      {"data behind the last tensor", weights([](Json*, std::string* d) { *d += "xxxx"; }), kUNet,
       "trailing bytes"},
      {"two tensors on the same bytes", weights([](Json* h, std::string*) {
         (*h)[kConv]["data_offsets"] = (*h)["conv_norm_out.weight"]["data_offsets"];
       }),
       kUNet, kConv},
      {"offsets beyond the file", weights([](Json* h, std::string*) {
         for (Json& offset : (*h)[kConv]["data_offsets"])
           offset = offset.get<uint64_t>() + (1 << 30);
       }),
       kUNet, "tensor"},
      {"offsets that wrap around", entry("data_offsets", {~uint64_t{0}, ~uint64_t{0}}), kUNet,
       kConv},
      {"a shape that overflows", entry("shape", {uint64_t{1} << 62, 16}), kUNet, kConv},
      {"nine dimensions", entry("shape", {1, 1, 1, 1, 1, 1, 1, 1, 1}), kUNet, kConv},
      {"a negative dimension", entry("shape", {-16, -4, 3, 3}), kUNet, kConv},
      {"a shape of the same size", entry("shape", {4, 16, 3, 3}), "unet", kConv},
      {"integers for weights", entry("dtype", "I32"), kUNet, kConv},
      {"a dtype of no meaning", entry("dtype", "F32; rm -rf"), kUNet, kConv},
      {"an entry that is no object",
       weights([](Json* h, std::string*) { (*h)[kConv] = "weights"; }), kUNet, kConv},
      {"not a number", value(0x7fc00000), kUNet, kConv},
      {"infinity", value(0xff800000), kUNet, kConv},
      {"a tensor under another name", weights([](Json* h, std::string*) {
         (*h)["conv_in.wieght"] = (*h)[kConv];
         h->erase(kConv);
       }),
       "unet", kConv},
      {"a tensor too many", weights([](Json* h, std::string* d) {
         (*h)["extra"] = {
             {"dtype", "F32"}, {"shape", {1}}, {"data_offsets", {d->size(), d->size() + 4}}};
         d->append(4, '\0');
       }),
       "unet", "extra"},
      {"a name that clears the screen", weights([](Json* h, std::string*) {
         (*h)["\x1b[2J"] = (*h)[kConv];
         h->erase(kConv);
       }),
       kUNet, "name"},
  };
}

// Each replaces the U-Net's weights as a whole.
std::vector<Case> FileCases() {
  const auto bytes = [](const std::string& text) {
    return [text](const fs::path& folder) { WriteBytes(folder / kUNet, text); };
  };
  return {
      {"an empty file", bytes(""), kUNet, "0 bytes"},
      {"seven bytes", bytes("1234567"), kUNet, "7 bytes"},
      {"text", bytes("<!DOCTYPE html><html>Not found</html>"), kUNet, "header"},
      {"a pickle", bytes("\x80\x02}q\x01X\x05weight"), kUNet, "header"},
      {"a header of 2^64 - 1 bytes", bytes(LittleEndian(~uint64_t{0}) + "{}"), kUNet,
       "out of range"},
      {"a header of 100 MB in a file of 10 bytes", bytes(LittleEndian(100'000'000) + "{}"), kUNet,
       "truncated"},
      {"a header of brackets", bytes(LittleEndian(200'001) + "{" + std::string(200'000, '[')),
       kUNet, "JSON"},
      {"a duplicate entry", bytes(LittleEndian(21) + R"({"a":{},"b":1,"a":{}})"), kUNet, "twice"},
      {"2^40 bytes of nothing",
       [](const fs::path& folder) {
         const std::string header = R"({"conv_in.weight":{"dtype":"F32","shape":[16384,16777216],)"
                                    R"("data_offsets":[0,1099511627776]}})";
         WriteBytes(folder / kUNet, LittleEndian(header.size()) + header);
         fs::resize_file(folder / kUNet, 8 + header.size() + (uint64_t{1} << 40));
       },
       kUNet, "far more than config.json describes"},
      {"a folder",
       [](const fs::path& folder) {
         fs::remove(folder / kUNet);
         fs::create_directory(folder / kUNet);
       },
       "unet", "missing"},
      {"a link to itself",
       [](const fs::path& folder) {
         fs::remove(folder / kUNet);
         fs::create_symlink(folder / kUNet, folder / kUNet);
       },
       "unet", "missing"},
  };
}

// Each spoils the index of sharded weights.
std::vector<Case> IndexCases() {
  const auto index = [](const std::function<void(Json*)>& spoil) {
    return [spoil](const fs::path& folder) {
      Shard(folder);
      SpoilJson(folder / kIndex, spoil);
    };
  };
  const auto shard = [index](const std::string& name) {
    return index([name](Json* json) { (*json)["weight_map"][kConv] = name; });
  };
  const std::string file = kIndex;
  return {
      {"a shard above the folder", shard("../vae/diffusion_pytorch_model.safetensors"), file,
       "plain"},
      {"a shard anywhere", shard("/etc/passwd.safetensors"), file, "plain"},
      {"a shard below", shard("a/b.safetensors"), file, "plain"},
      {"a shard with a NUL", shard(std::string("a\0.safetensors", 14)), "unet", "missing"},
      {"a shard of pickles", shard("pytorch_model.bin"), "unet", "pytorch_model.bin"},
      {"a shard that is not there", shard("b.safetensors"), "unet", "b.safetensors"},
      {"a shard that is no text", index([](Json* j) { (*j)["weight_map"][kConv] = 3; }), file, ""},
      {"a tensor that its shard lacks",
       index([](Json* j) { (*j)["weight_map"]["extra"] = fs::path(kShard).filename().string(); }),
       file, "extra"},
      {"a tensor that nobody names", index([](Json* j) { (*j)["weight_map"].erase(kConv); }),
       "unet", kConv},
      {"no map", index([](Json* j) { *j = Json::array(); }), file, "weight_map"},
      {"a map of no tensors", index([](Json* j) { (*j)["weight_map"] = Json::object(); }), "unet",
       ""},
      {"a tensor named twice",
       [](const fs::path& folder) {
         Shard(folder);
         WriteBytes(folder / kIndex, R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})");
       },
       file, "twice"},
  };
}

// Each spoils a configuration or the tokenizer.
std::vector<Case> ConfigCases() {
  const auto text = [](const std::string& file, const std::string& bytes) {
    return [=](const fs::path& folder) { WriteBytes(folder / file, bytes); };
  };
  const auto set = [](const std::string& file, const std::string& key, const Json& value) {
    return [=](const fs::path& folder) {
      SpoilJson(folder / file, [&](Json* json) { (*json)[key] = value; });
    };
  };
  const std::string unet = "unet/config.json", vae = "vae/config.json",
                    clip = "text_encoder/config.json", vocab = "tokenizer/vocab.json",
                    merges = "tokenizer/merges.txt", special = "tokenizer/tokenizer_config.json",
                    schedule = "scheduler/scheduler_config.json";
  return {
      {"nothing", text(unet, ""), unet, "empty"},
      {"a list", text(unet, "[]"), unet, "object"},
      {"a cut", text(unet, "{\"in_channels\": 4,"), unet, "JSON"},
      {"brackets", text(unet, "{\"a\":" + std::string(100'000, '[')), unet, "nested"},
      {"bytes that are no text", text(unet, "{\"a\":\"\xff\xfe\"}"), unet, "JSON"},
      {"a key twice", text(unet, R"({"in_channels":4,"in_channels":4})"), unet, "twice"},
      {"a number beyond all", text(unet, "{\"norm_eps\":1e999}"), unet, "JSON"},
      {"10^8 channels", set(unet, "block_out_channels", {100'000'000, 16, 32}), "unet", "shape"},
      {"10^12 channels", set(unet, "block_out_channels", {1'000'000'000'000, 16, 32}), unet,
       "block_out_channels"},
      {"10^8 layers", set(unet, "layers_per_block", 100'000'000), unet, "layers_per_block"},
      {"10^8 transformers", set(unet, "transformer_layers_per_block", 100'000'000), unet,
       "transformer_layers_per_block"},
      {"10^5 levels", set(unet, "block_out_channels", Json(std::vector<int>(100'000, 16))), unet,
       "block_out_channels"},
      {"no groups", set(unet, "norm_num_groups", 0), unet, "norm_num_groups"},
      {"less than nothing", set(unet, "cross_attention_dim", -1), unet, "cross_attention_dim"},
      {"an architecture of another kind", set(unet, "class_embed_type", "timestep"), unet,
       "class_embed_type"},
      {"the VAE's 10^8 layers", set(vae, "layers_per_block", 100'000'000), vae, "layers_per_block"},
      {"a VAE of another size", set(vae, "block_out_channels", {32, 32}), "vae", ""},
      {"a scale of zero", set(vae, "scaling_factor", 0), vae, "scaling_factor"},
      {"10^8 text layers", set(clip, "num_hidden_layers", 100'000'000), clip, "num_hidden_layers"},
      {"10^8 tokens", set(clip, "vocab_size", 100'000'000), "text_encoder", "shape"},
      {"heads that do not divide", set(clip, "num_attention_heads", 7), clip,
       "num_attention_heads"},
      {"10^8 steps of training", set(schedule, "num_train_timesteps", 100'000'000), schedule,
       "num_train_timesteps"},
      {"betas the wrong way round", set(schedule, "beta_start", 0.5), schedule, "beta_start"},
      {"a scheduler of no name", set(schedule, "_class_name", "EvilScheduler"), schedule,
       "EvilScheduler"},
      {"a vocabulary with a hole", text(vocab, R"({"a":0,"b":2})"), vocab, "\"b\""},
      {"an id of 2^64 - 1", text(vocab, R"({"a":18446744073709551615})"), vocab, "\"a\""},
      {"an id of -1", text(vocab, R"({"a":-1})"), vocab, "\"a\""},
      {"a token of two ids", text(vocab, R"({"a":0,"a":1})"), vocab, "twice"},
      {"no tokens", text(vocab, "{}"), vocab, "empty"},
      {"a merge of strangers", text(merges, "#version: 0.2\nsurely nothing\n"), merges, ":2"},
      {"a merge of three", text(merges, "a b c\n"), merges, ":1"},
      {"a merge that stands twice",
       [=](const fs::path& folder) { WriteBytes(folder / merges, "g r\ng r\n"); }, merges, ":2"},
      {"a line without end", text(merges, std::string(3'000'000, 'a')), merges, ":1"},
      {"no room for a text", set(special, "model_max_length", -5), special, "model_max_length"},
      {"an added token far away",
       set(special, "added_tokens_decoder", {{"999999999", {{"content", "<x>"}}}}), "tokenizer",
       "<x>"},
  };
}

int64_t PeakMegabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

fs::path GoodCopy() {
  const fs::path folder = TestFolder("hostile");
  fs::copy(RepoFile("tests/fixtures/sd1"), folder, fs::copy_options::recursive);
  return folder;
}

void CheckRefused(const Case& c) {
  const fs::path folder = GoodCopy();
  c.spoil(folder);
  INFO(c.name);
  const int64_t before = PeakMegabytes();
  try {
    LoadBackbone(folder);
    FAIL_CHECK("was loaded");
  } catch (const Error& error) {
    CHECK_THAT(error.what(), Contains(c.file) && Contains(c.what));
    CHECK(std::strlen(error.what()) < 2000);
  } catch (const std::exception& error) {
    FAIL_CHECK("an Error is expected, came: " << error.what());
  }
  CHECK(PeakMegabytes() - before < 300);
}

}  // namespace

TEST_CASE("the folder that is spoiled below is good, in one file and in shards") {
  const fs::path folder = GoodCopy();
  CHECK_NOTHROW(LoadBackbone(folder));
  Shard(folder);
  CHECK_NOTHROW(LoadBackbone(folder));
  // As the Hugging Face cache has it: every file is a link to a blob elsewhere.
  fs::create_directory(folder / "blobs");
  fs::rename(folder / kShard, folder / "blobs" / "1234");
  fs::create_symlink("../blobs/1234", folder / kShard);
  CHECK_NOTHROW(LoadBackbone(folder));
}

TEST_CASE("hostile weights are refused by file and tensor") {
  for (const Case& c : WeightCases()) CheckRefused(c);
}

TEST_CASE("files that are no weights are refused") {
  for (const Case& c : FileCases()) CheckRefused(c);
}

TEST_CASE("an index stays in its folder and says what its shards hold") {
  for (const Case& c : IndexCases()) CheckRefused(c);
}

TEST_CASE("hostile configurations and vocabularies are refused by file and key") {
  for (const Case& c : ConfigCases()) CheckRefused(c);
}

}  // namespace excise
