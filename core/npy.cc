#include "core/npy.h"

#include <fmt/format.h>

#include <cstring>
#include <string>

#include "core/error.h"
#include "core/escape.h"
#include "core/read_file.h"
#include "core/text.h"

namespace excise {
namespace {

[[noreturn]] void Fail(std::string_view origin, const std::string& what) {
  throw Error(
      fmt::format("{}: {}. A float32 array in C order is expected, as written by "
                  "numpy.save(file, array.astype('<f4')).",
                  Escape(origin, Format::kTerminal), what));
}

// The header is a Python dictionary of one line with these three keys, in any order.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, std::string_view origin) : text_(text), origin_(origin) {}

  std::vector<int64_t> Shape() {
    bool descr = false, order = false, shape = false;
    std::vector<int64_t> sizes;
    Expect('{');
    while (!Take('}')) {
      const std::string_view key = Quoted();
      Expect(':');
      if (key == "descr" && !descr) {
        descr = true;
        if (Quoted() != "<f4") Fail(origin_, "its elements are not little-endian float32");
      } else if (key == "fortran_order" && !order) {
        order = true;
        if (!TakeWord("False")) Fail(origin_, "its elements are not in C order");
      } else if (key == "shape" && !shape) {
        shape = true;
        sizes = Sizes();
      } else {
        Fail(origin_, "its header is not one of numpy's");
      }
      Take(',');
    }
    Spaces();
    if (!text_.empty() || !descr || !order || !shape) {
      Fail(origin_, "its header is not one of numpy's");
    }
    return sizes;
  }

 private:
  void Spaces() {
    const size_t first = text_.find_first_not_of(" \n");
    text_.remove_prefix(first == std::string_view::npos ? text_.size() : first);
  }
  bool Take(char wanted) {
    Spaces();
    if (text_.empty() || text_.front() != wanted) return false;
    text_.remove_prefix(1);
    return true;
  }
  void Expect(char wanted) {
    if (!Take(wanted)) Fail(origin_, "its header is not one of numpy's");
  }
  bool TakeWord(std::string_view word) {
    Spaces();
    if (!StartsWith(text_, word)) return false;
    text_.remove_prefix(word.size());
    return true;
  }
  std::string_view Quoted() {
    Expect('\'');
    const size_t end = text_.find('\'');
    if (end == std::string_view::npos) Fail(origin_, "its header is not one of numpy's");
    const std::string_view word = text_.substr(0, end);
    text_.remove_prefix(end + 1);
    return word;
  }
  std::vector<int64_t> Sizes() {
    std::vector<int64_t> sizes;
    Expect('(');
    while (!Take(')')) {
      Spaces();
      int64_t size = 0, digits = 0;
      for (; !text_.empty() && text_.front() >= '0' && text_.front() <= '9' && digits < 10;
           ++digits, text_.remove_prefix(1)) {
        size = 10 * size + (text_.front() - '0');
      }
      if (digits == 0 || digits == 10 || sizes.size() == 8) {
        Fail(origin_, "its header names no sizes");
      }
      sizes.push_back(size);
      Take(',');
    }
    return sizes;
  }

  std::string_view text_, origin_;
};

}  // namespace

NpyArray ParseNpy(std::string_view bytes, std::string_view origin) {
  constexpr std::string_view kMagic = "\x93NUMPY";
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<uint8_t>(bytes[i])); };
  if (bytes.substr(0, kMagic.size()) != kMagic || bytes.size() < 12) {
    Fail(origin, "it is no .npy file");
  }
  if (byte(6) < 1 || byte(6) > 3) Fail(origin, "its format version is unknown");
  const size_t start = byte(6) == 1 ? 10 : 12;
  size_t length = byte(8) + (byte(9) << 8);
  if (byte(6) > 1) length += (byte(10) << 16) + (byte(11) << 24);
  if (length > bytes.size() - start) Fail(origin, "it ends inside its header");
  NpyArray array;
  array.shape = HeaderReader(bytes.substr(start, length), origin).Shape();
  const std::string_view data = bytes.substr(start + length);
  // Compared with what is there before anything is allocated; sizes below 10^9 do not overflow when
  // checked one by one.
  size_t count = 1;
  for (const int64_t size : array.shape) {
    count *= static_cast<size_t>(size);
    if (count > data.size()) Fail(origin, "it is shorter than its shape says");
  }
  if (data.size() != count * sizeof(float)) {
    Fail(origin, fmt::format("it holds {} bytes of data, its shape asks for {}", data.size(),
                             count * sizeof(float)));
  }
  array.values.resize(count);
  if (count > 0) std::memcpy(array.values.data(), data.data(), data.size());
  return array;
}

NpyArray ReadNpy(const std::filesystem::path& file, int64_t most_bytes) {
  return ParseNpy(ReadFile(file, static_cast<uint64_t>(most_bytes)), file.string());
}

}  // namespace excise
