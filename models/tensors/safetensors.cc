#include "models/tensors/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/read_file.h"
#include "core/store.h"
#include "core/text.h"
#include "models/formats/safetensors_header.h"
#include "models/tensors/tensor_reader.h"

namespace excise {
namespace {

// safetensors data is little-endian and has no alignment, so it is read into tensors, never cast.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is little-endian");

// Takes the elements of `header` off `room`.
void CheckRoom(const SafetensorsHeader& header, const std::filesystem::path& path, int64_t* room) {
  for (const SafetensorsEntry& entry : header.entries) {
    // The header's parser has checked that the bytes of each tensor fit 64 bits.
    const auto elements =
        static_cast<int64_t>((entry.end - entry.begin) / SafetensorsElementSize(entry.dtype));
    if (elements > *room) {
      throw Error(
          fmt::format("{}: with tensor '{}' of {} elements the weights are far more than "
                      "config.json describes. Check that both are of the same model.",
                      path.string(), entry.name, elements));
    }
    *room -= elements;
  }
}

StateDict Load(const std::filesystem::path& path, std::optional<at::ScalarType> float_dtype,
               int64_t* room = nullptr, const TensorChoice& wanted = nullptr) {
  const RegularFile file(path);
  SafetensorsHeader header = ReadSafetensorsHeader(file, path);
  if (room != nullptr) CheckRoom(header, path, room);
  if (wanted) {
    auto& entries = header.entries;
    entries.erase(std::remove_if(entries.begin(), entries.end(),
                                 [&](const auto& entry) { return !wanted(entry.name); }),
                  entries.end());
  }
  std::vector<at::Tensor> tensors = ReadTensors(file.fd(), path, header, float_dtype);
  StateDict result;
  for (size_t i = 0; i < tensors.size(); ++i) {
    result.Set(header.entries[i].name, std::move(tensors[i]));
  }
  return result;
}

// A shard lies in the folder of its index; anything else could read files elsewhere.
bool GoodShardName(const std::string& name) {
  const std::string extension = ".safetensors";
  return name.size() > extension.size() && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find("..") == std::string::npos &&
         name.find('\0') == std::string::npos && EndsWith(name, extension);
}

std::map<std::string, std::vector<std::string>> ReadIndex(const std::filesystem::path& index) {
  const Json json = ReadJsonFile(index);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    throw Error(index.string() + ": no \"weight_map\", so not an index of safetensors shards.");
  }
  std::map<std::string, std::vector<std::string>> tensors_of;
  for (const auto& [tensor, shard] : json["weight_map"].items()) {
    if (!shard.is_string() || !GoodShardName(shard.get<std::string>())) {
      throw Error(
          fmt::format("{}: the shard of tensor '{}' is not a plain *.safetensors file name "
                      "in the same folder. Refusing to follow it.",
                      index.string(), tensor));
    }
    tensors_of[shard.get<std::string>()].push_back(tensor);
  }
  return tensors_of;
}

}  // namespace

StateDict LoadSafetensors(const std::filesystem::path& path, bool upcast) {
  return Load(path, upcast ? std::optional(at::kFloat) : std::nullopt);
}

StateDict LoadSafetensorsFolder(const std::filesystem::path& folder, std::string_view stem,
                                at::ScalarType float_dtype, int64_t most_elements,
                                const TensorChoice& wanted) {
  const std::filesystem::path single = folder / fmt::format("{}.safetensors", stem);
  const auto load = [&](const std::filesystem::path& file) {
    return Load(file, float_dtype, &most_elements, wanted);
  };
  if (std::filesystem::exists(single)) return load(single);
  const std::filesystem::path index = folder / fmt::format("{}.safetensors.index.json", stem);
  if (!std::filesystem::exists(index)) {
    throw Error(
        fmt::format("No weights in {}: neither {} nor {} exists. Pickled weights (.bin, "
                    ".pt) are never read; convert them to safetensors.",
                    folder.string(), single.filename().string(), index.filename().string()));
  }
  StateDict tensors;
  for (auto& [shard, names] : ReadIndex(index)) {
    if (wanted) {
      names.erase(std::remove_if(names.begin(), names.end(), std::not_fn(wanted)), names.end());
    }
    if (names.empty()) continue;
    const StateDict part = load(folder / shard);
    for (const std::string& name : names) {
      if (!part.Contains(name)) {
        throw Error(
            fmt::format("{}: tensor '{}' should be in {}, but is not there. The shards "
                        "probably come from different downloads.",
                        index.string(), name, shard));
      }
      tensors.Set(name, part.Get(name));
    }
  }
  return tensors;
}

void SaveSafetensors(const std::filesystem::path& path, const StateDict& tensors,
                     const std::map<std::string, std::string>& metadata) {
  std::vector<std::pair<std::string, at::Tensor>> items;
  for (const auto& [name, tensor] : tensors) {
    if (SafetensorsDtypeName(tensor.scalar_type()) == nullptr || !AllFinite(tensor)) {
      throw Error(fmt::format("Cannot save tensor '{}' to {}: {}.", name, path.string(),
                              SafetensorsDtypeName(tensor.scalar_type()) == nullptr
                                  ? "safetensors has no such dtype"
                                  : "it holds a value that is not finite"));
    }
    items.emplace_back(name, tensor.detach().cpu().contiguous());
  }
  // Wide elements first, so that every tensor is aligned in the file; names are sorted already.
  std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
    return a.second.element_size() > b.second.element_size();
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : items) {
    const uint64_t end = offset + tensor.nbytes();
    header[name] = {{"dtype", SafetensorsDtypeName(tensor.scalar_type())},
                    {"shape", tensor.sizes().vec()},
                    {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  std::string bytes(sizeof(length) + length + offset, '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  std::memcpy(bytes.data() + sizeof(length), text.data(), length);
  char* out = bytes.data() + sizeof(length) + length;
  for (const auto& item : items) {
    if (item.second.nbytes() == 0) continue;
    std::memcpy(out, item.second.const_data_ptr(), item.second.nbytes());
    out += item.second.nbytes();
  }
  WriteFileAtomically(path, bytes);
}

}  // namespace excise
