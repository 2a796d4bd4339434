// SHA-256 (OpenSSL), in lower-case hexadecimal.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace excise {

std::string Sha256Hex(std::string_view bytes);

// Streaming digest of a file. Throws Error naming the path.
std::string Sha256HexOfFile(const std::filesystem::path& path);

// The same of a folder: of the names and digests of all files below it, links followed. A file's
// own digest. Throws Error naming what cannot be read.
std::string Sha256HexOfPath(const std::filesystem::path& path);

// Incremental digest.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(const void* data, size_t size);
  void Update(std::string_view bytes) { Update(bytes.data(), bytes.size()); }
  std::string Hex();  // ends the digest

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace excise
