#include "core/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <map>
#include <vector>

#include "core/error.h"
#include "core/input_files.h"
#include "core/json.h"
#include "core/progress.h"
#include "core/read_file.h"

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
  RegularFile file(path);
  Sha256 digest;
  std::vector<char> buffer(1 << 16);  // a store has thousands of small files
  while (const size_t n = file.Read(buffer.data(), buffer.size())) {
    digest.Update(buffer.data(), n);
  }
  return digest.Hex();
}

std::string Sha256HexOfPath(const std::filesystem::path& path) {
  std::error_code problem;
  if (!std::filesystem::is_directory(path, problem)) return Sha256HexOfFile(path);
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : FilesOf(path)) {
    if (InterruptRequested()) throw Interrupted{};
    if (file.IsFile()) files[name] = Sha256HexOfFile(file.path());
  }
  return Sha256Hex(CanonicalJson(Json(files)));
}

}  // namespace excise
