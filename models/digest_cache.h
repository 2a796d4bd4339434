// Digests of big weight files, remembered: hashing Stable Diffusion's takes seconds at every start.
#pragma once

#include <filesystem>
#include <string>

namespace excise {

// The folder for what a user's programs remember: EXCISE_CACHE, XDG_CACHE_HOME/excise or
// HOME/.cache/excise; empty where none of them is set.
std::filesystem::path UserCacheFolder();

// SHA-256 of the file. From 32 MiB on it is kept in UserCacheFolder()/digests under the file's
// device and inode, and believed while size and times of modification and change are the same to
// the nanosecond. Throws Error naming the path.
std::string WeightDigest(const std::filesystem::path& path);

// From now on this process hashes every file again (and remembers the result).
void DistrustDigests();

}  // namespace excise
