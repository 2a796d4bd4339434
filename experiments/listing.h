// What there is to run and to set, for --list.
#pragma once

#include <string>

namespace excise {

// `what`: "all" for a line each; a kind ("methods", "attacks", "metrics", "datasets") or a name for
// cards and settings, each as --set takes it, with its default; "settings" for those of the
// experiment. Lines are at most `width` characters wide where words allow. Throws UsageError for
// anything else.
std::string List(const std::string& what, size_t width);

}  // namespace excise
