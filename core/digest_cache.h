// Digests of big weight files, remembered: hashing Stable Diffusion's takes seconds at every start.
#pragma once

#include <filesystem>
#include <string>

namespace excise {

// The folder for what a user's programs remember: EXCISE_CACHE, XDG_CACHE_HOME/excise or
// HOME/.cache/excise; empty where none of them is set.
std::filesystem::path UserCacheFolder();

// From now on this process keeps digests in `cache`/digests in place of UserCacheFolder()/digests:
// whoever names a cache of its own writes nowhere else. Without `remember`, what is there is read
// and nothing is written.
void UseDigestsIn(const std::filesystem::path& cache, bool remember = true);

// SHA-256 of the file. From 32 MiB on it is kept in UserCacheFolder()/digests under the file's
// device and inode, and believed while size and times of modification and change are the same to
// the nanosecond; unless it was hashed within a tick of its last change. Throws Error naming the
// path: it cannot be read, or it changed while it was hashed.
std::string WeightDigest(const std::filesystem::path& path);

// From now on this process hashes every file again (and remembers the result).
void DistrustDigests();

}  // namespace excise
