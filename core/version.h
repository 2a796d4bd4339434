// The commit that a binary was built from. Declared for everybody, defined in //core:version, which
// only binaries link: were it in a library, every commit would rerun every test.
#pragma once

#include <string>

namespace excise {

// Git commit in hexadecimal, or "unknown" when built outside a repository.
std::string BuildCommit();
// Whether tracked files differed from that commit.
bool BuildDirty();

}  // namespace excise
