#include "core/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

#include "core/error.h"
#include "core/json.h"

namespace excise {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  if (state_->context == nullptr ||
      EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) != 1) {
    throw Error("OpenSSL cannot start a SHA-256 digest. Check the installed libcrypto.");
  }
}

Sha256::~Sha256() = default;

void Sha256::Update(const void* data, size_t size) {
  if (state_ == nullptr) throw Error("Sha256::Update after Hex: the digest has ended.");
  if (EVP_DigestUpdate(state_->context, data, size) != 1) {
    throw Error("OpenSSL failed while hashing.");
  }
}

std::string Sha256::Hex() {
  if (state_ == nullptr) throw Error("Sha256::Hex called twice: the digest has ended.");
  std::array<unsigned char, EVP_MAX_MD_SIZE> bytes;
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(state_->context, bytes.data(), &size) != 1) {
    throw Error("OpenSSL failed while hashing.");
  }
  state_.reset();
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * size);
  for (unsigned int i = 0; i < size; ++i) {
    hex += kDigits[bytes[i] >> 4];
    hex += kDigits[bytes[i] & 15];
  }
  return hex;
}

std::string Sha256Hex(std::string_view bytes) {
  Sha256 digest;
  digest.Update(bytes);
  return digest.Hex();
}

std::string Sha256HexOfFile(const std::filesystem::path& path) {
  const auto fail = [&](int code) {
    throw Error(fmt::format("{} cannot be read: {}.", path.string(), std::strerror(code)));
  };
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) fail(EISDIR);
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                       &std::fclose);
  if (file == nullptr) fail(errno);
  Sha256 digest;
  std::vector<char> buffer(1 << 16);  // a store has thousands of small files
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
    digest.Update(buffer.data(), n);
  }
  if (std::ferror(file.get())) fail(errno);
  return digest.Hex();
}

std::string Sha256HexOfPath(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  std::error_code problem;
  if (!fs::is_directory(path, problem)) return Sha256HexOfFile(path);
  std::map<std::string, std::string> files;
  fs::recursive_directory_iterator entry(path, problem);
  for (; !problem && entry != fs::recursive_directory_iterator(); entry.increment(problem)) {
    if (!entry->is_regular_file()) continue;
    files[entry->path().lexically_relative(path).generic_string()] = Sha256HexOfFile(entry->path());
  }
  if (problem) throw Error(fmt::format("{} cannot be read: {}.", path.string(), problem.message()));
  return Sha256Hex(CanonicalJson(Json(files)));
}

}  // namespace excise
