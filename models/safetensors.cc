#include "models/safetensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/store.h"
#include "models/safetensors_header.h"

namespace excise {
namespace {

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeName kDtypes[] = {{"F64", at::kDouble},    {"F32", at::kFloat}, {"F16", at::kHalf},
                                 {"BF16", at::kBFloat16}, {"I64", at::kLong},  {"I32", at::kInt},
                                 {"I16", at::kShort},     {"I8", at::kChar},   {"U8", at::kByte},
                                 {"BOOL", at::kBool}};

std::optional<at::ScalarType> ScalarTypeOf(std::string_view name) {
  for (const DtypeName& dtype : kDtypes) {
    if (name == dtype.name) return dtype.type;
  }
  return std::nullopt;
}

const char* NameOf(at::ScalarType type) {
  for (const DtypeName& dtype : kDtypes) {
    if (type == dtype.type) return dtype.name;
  }
  return nullptr;
}

bool IsFinite(const at::Tensor& tensor) {
  return !tensor.is_floating_point() || at::isfinite(tensor).all().item<bool>();
}

// safetensors data is little-endian and has no alignment, so it is read into tensors, never cast.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "safetensors data is little-endian");

class File {
 public:
  explicit File(const std::filesystem::path& path) : path_(path) {
    std::error_code error;
    size_ = std::filesystem::file_size(path, error);
    if (!error) stream_.open(path, std::ios::binary);
    if (error || !stream_) {
      throw Error(fmt::format("Cannot read {}: {}. Check the path and its permissions.",
                              path.string(), error ? error.message() : "it cannot be opened"));
    }
  }
  uint64_t size() const { return size_; }
  void Read(uint64_t offset, char* out, uint64_t bytes) {
    stream_.seekg(static_cast<std::streamoff>(offset));
    stream_.read(out, static_cast<std::streamsize>(bytes));
    if (!stream_) {
      throw Error(
          fmt::format("Cannot read {} bytes at {} of {}: a disk error, or the file changed.", bytes,
                      offset, path_.string()));
    }
  }
  SafetensorsHeader ReadHeader() {
    const std::string origin = path_.string();
    std::string bytes(std::min<uint64_t>(8, size_), '\0');
    Read(0, bytes.data(), bytes.size());
    const uint64_t length = SafetensorsHeaderLength(bytes, size_, origin);
    bytes.resize(length);
    Read(8, bytes.data(), length);
    return ParseSafetensorsHeader(bytes, size_, origin);
  }

 private:
  std::filesystem::path path_;
  std::ifstream stream_;
  uint64_t size_ = 0;
};

at::Tensor ReadTensor(File& file, const SafetensorsHeader& header, const SafetensorsEntry& entry,
                      bool upcast, const std::string& origin) {
  const auto type = ScalarTypeOf(entry.dtype);
  if (!type) {
    throw Error(
        fmt::format("{}: tensor '{}' has dtype {}, which Excise does not read. Convert the "
                    "weights to F32, F16 or BF16.",
                    origin, entry.name, entry.dtype));
  }
  at::Tensor tensor = at::empty(entry.shape, *type);
  file.Read(header.data_begin + entry.begin, static_cast<char*>(tensor.data_ptr()),
            entry.end - entry.begin);
  if (*type == at::kBool) {
    // Any byte but 0 and 1 would be undefined behaviour as a bool.
    auto* bytes = static_cast<unsigned char*>(tensor.data_ptr());
    for (int64_t i = 0; i < tensor.numel(); ++i) bytes[i] = bytes[i] != 0;
  }
  if (!IsFinite(tensor)) {
    throw Error(
        fmt::format("{}: tensor '{}' holds a value that is not finite. The training that "
                    "made it probably diverged; use other weights.",
                    origin, entry.name));
  }
  const bool half = *type == at::kHalf || *type == at::kBFloat16;
  return upcast && half ? tensor.to(at::kFloat) : tensor;
}

// A shard lies in the folder of its index; anything else could read files elsewhere.
bool GoodShardName(const std::string& name) {
  const std::string extension = ".safetensors";
  return name.size() > extension.size() && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find("..") == std::string::npos &&
         name.find('\0') == std::string::npos &&
         name.compare(name.size() - extension.size(), extension.size(), extension) == 0;
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
  File file(path);
  const SafetensorsHeader header = file.ReadHeader();
  StateDict tensors;
  for (const SafetensorsEntry& entry : header.entries) {
    tensors.Set(entry.name, ReadTensor(file, header, entry, upcast, path.string()));
  }
  return tensors;
}

StateDict LoadSafetensorsFolder(const std::filesystem::path& folder, std::string_view stem,
                                bool upcast) {
  const std::filesystem::path single = folder / fmt::format("{}.safetensors", stem);
  if (std::filesystem::exists(single)) return LoadSafetensors(single, upcast);
  const std::filesystem::path index = folder / fmt::format("{}.safetensors.index.json", stem);
  if (!std::filesystem::exists(index)) {
    throw Error(
        fmt::format("No weights in {}: neither {} nor {} exists. Pickled weights (.bin, "
                    ".pt) are never read; convert them to safetensors.",
                    folder.string(), single.filename().string(), index.filename().string()));
  }
  StateDict tensors;
  for (const auto& [shard, names] : ReadIndex(index)) {
    const StateDict part = LoadSafetensors(folder / shard, upcast);
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
    if (NameOf(tensor.scalar_type()) == nullptr || !IsFinite(tensor)) {
      throw Error(fmt::format("Cannot save tensor '{}' to {}: {}.", name, path.string(),
                              NameOf(tensor.scalar_type()) == nullptr
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
    header[name] = {{"dtype", NameOf(tensor.scalar_type())},
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
