#include "models/tensors/tensor_reader.h"

#include <ATen/TensorIterator.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "core/error.h"

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

// Fits the second-level cache, so that checking and casting cost no second trip to memory.
constexpr uint64_t kBlock = uint64_t{1} << 20;
// Below this, starting threads costs more than it saves.
constexpr uint64_t kParallelBytes = uint64_t{8} << 20;
constexpr unsigned kMaxThreads = 8;

// Whether no value's exponent is all ones. Inner loops of a fixed length, which the compiler turns
// into vector code.
template <class Bits>
bool FiniteBits(const void* data, size_t count, Bits exponent) {
  constexpr size_t kRun = 1024;
  const auto* bits = static_cast<const Bits*>(data);
  size_t i = 0;
  for (; i + kRun <= count; i += kRun) {
    Bits bad = 0;
    for (size_t j = 0; j < kRun; ++j) {
      bad |= static_cast<Bits>((bits[i + j] & exponent) == exponent ? 1 : 0);
    }
    if (bad != 0) return false;
  }
  for (; i < count; ++i) {
    if ((bits[i] & exponent) == exponent) return false;
  }
  return true;
}

bool FiniteValues(const void* data, size_t count, at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return FiniteBits<uint64_t>(data, count, 0x7ff0000000000000);
    case at::kFloat:
      return FiniteBits<uint32_t>(data, count, 0x7f800000);
    case at::kHalf:
      return FiniteBits<uint16_t>(data, count, 0x7c00);
    case at::kBFloat16:
      return FiniteBits<uint16_t>(data, count, 0x7f80);
    default:
      return true;
  }
}

// In runs for which ATen starts no threads: those that read are enough. Setting their count of
// threads would do, too, but it changes that of the whole process: a thread that computes takes it
// over at its first operation in parallel, whatever was set in it before.
void Cast(void* from, at::ScalarType type, const at::Tensor& to) {
  constexpr int64_t kMost = at::internal::GRAIN_SIZE - 64;  // 64 keeps runs aligned
  for (int64_t first = 0; first < to.numel(); first += kMost) {
    const int64_t count = std::min(kMost, to.numel() - first);
    char* begin = static_cast<char*>(from) + static_cast<size_t>(first) * c10::elementSize(type);
    to.narrow(0, first, count)
        .copy_(at::from_blob(begin, {count}, at::TensorOptions().dtype(type)));
  }
}

// A run of one tensor's elements that is read, checked and stored at once.
struct Block {
  size_t tensor;
  int64_t first, count;  // elements
};

class Reader {
 public:
  Reader(int fd, const std::filesystem::path& path, const SafetensorsHeader& header,
         std::optional<at::ScalarType> float_dtype)
      : fd_(fd), path_(path), header_(header) {
    for (size_t i = 0; i < header.entries.size(); ++i) Allocate(i, float_dtype);
    problems_.resize(tensors_.size());
  }

  std::vector<at::Tensor> Read() {
    const uint64_t bytes = header_.entries.empty() ? 0 : header_.entries.back().end;
    const unsigned threads = bytes < kParallelBytes
                                 ? 1
                                 : std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads);
    std::vector<std::thread> others;
    for (unsigned i = 1; i < threads; ++i) {
      try {
        others.emplace_back([this] { Work(); });
      } catch (const std::system_error&) {
        break;  // no more threads to be had: those that run do the work
      }
    }
    Work();
    for (std::thread& thread : others) thread.join();
    for (size_t i = 0; i < problems_.size(); ++i) {
      if (!problems_[i].empty()) {
        throw Error(fmt::format("{}: tensor '{}' {}", path_.string(), header_.entries[i].name,
                                problems_[i]));
      }
    }
    return std::move(tensors_);
  }

 private:
  void Allocate(size_t index, std::optional<at::ScalarType> float_dtype) {
    const SafetensorsEntry& entry = header_.entries[index];
    const auto type = SafetensorsScalarType(entry.dtype);
    if (!type) {
      throw Error(
          fmt::format("{}: tensor '{}' has dtype {}, which Excise does not read. Convert the "
                      "weights to F32, F16 or BF16.",
                      path_.string(), entry.name, entry.dtype));
    }
    types_.push_back(*type);
    tensors_.push_back(
        at::empty(entry.shape, at::isFloatingType(*type) ? float_dtype.value_or(*type) : *type));
    const int64_t numel = tensors_.back().numel();
    const auto step = static_cast<int64_t>(kBlock / c10::elementSize(*type));
    for (int64_t first = 0; first < numel; first += step) {
      blocks_.push_back({index, first, std::min(step, numel - first)});
    }
  }

  void Work() {
    std::vector<char> scratch;
    while (!failed_) {
      const size_t next = next_++;
      if (next >= blocks_.size()) return;
      std::string problem;
      try {
        problem = ReadBlock(blocks_[next], &scratch);
      } catch (const std::exception& error) {  // memory
        problem = fmt::format("cannot be read: {}.", error.what());
      }
      if (problem.empty()) continue;
      // One block of a tensor may fail while another one is read.
      if (!failed_.exchange(true)) problems_[blocks_[next].tensor] = problem;
    }
  }

  std::string ReadBlock(const Block& block, std::vector<char>* scratch) {
    const at::ScalarType type = types_[block.tensor];
    const at::Tensor& tensor = tensors_[block.tensor];
    const size_t width = c10::elementSize(type), bytes = static_cast<size_t>(block.count) * width;
    const bool cast = tensor.scalar_type() != type;
    char* out = nullptr;
    if (cast) {
      scratch->resize(kBlock);
      out = scratch->data();
    } else {
      out = static_cast<char*>(tensor.data_ptr()) + static_cast<size_t>(block.first) * width;
    }
    const uint64_t begin = header_.entries[block.tensor].begin;
    std::string problem =
        Fill(header_.data_begin + begin + static_cast<uint64_t>(block.first) * width, out, bytes);
    if (!problem.empty()) return problem;
    if (type == at::kBool) {
      // Any byte but 0 and 1 would be undefined behaviour as a bool.
      for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(out[i] != 0);
    }
    const auto count = static_cast<size_t>(block.count);
    const bool finite = FiniteValues(out, count, type);
    if (cast && finite) {
      const at::Tensor part = tensor.view({-1}).narrow(0, block.first, block.count);
      Cast(out, type, part);
      if (!FiniteValues(part.const_data_ptr(), count, part.scalar_type())) {
        return fmt::format("holds a value that does not fit into {}. Use another --dtype.",
                           c10::toString(part.scalar_type()));
      }
    }
    return finite ? ""
                  : "holds a value that is not finite. The training that made it probably "
                    "diverged; use other weights.";
  }

  std::string Fill(uint64_t offset, char* out, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
      const ssize_t n = pread(fd_, out + done, bytes - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        return fmt::format("cannot be read: {} bytes at {}: {}.", bytes, offset,
                           n == 0 ? "the file became shorter" : std::strerror(errno));
      }
      done += static_cast<size_t>(n);
    }
    return "";
  }

  const int fd_;
  const std::filesystem::path& path_;
  const SafetensorsHeader& header_;
  std::vector<at::ScalarType> types_;  // in the file
  std::vector<at::Tensor> tensors_;
  std::vector<Block> blocks_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::vector<std::string> problems_;  // by tensor
};

}  // namespace

std::optional<at::ScalarType> SafetensorsScalarType(std::string_view dtype) {
  for (const DtypeName& known : kDtypes) {
    if (dtype == known.name) return known.type;
  }
  return std::nullopt;
}

const char* SafetensorsDtypeName(at::ScalarType type) {
  for (const DtypeName& known : kDtypes) {
    if (known.type == type) return known.name;
  }
  return nullptr;
}

std::vector<at::Tensor> ReadTensors(int fd, const std::filesystem::path& path,
                                    const SafetensorsHeader& header,
                                    std::optional<at::ScalarType> float_dtype) {
  return Reader(fd, path, header, float_dtype).Read();
}

bool AllFinite(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().cpu().contiguous();
  return FiniteValues(flat.const_data_ptr(), static_cast<size_t>(flat.numel()), flat.scalar_type());
}

}  // namespace excise
