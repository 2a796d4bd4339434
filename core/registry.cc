#include "core/registry.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/escape.h"
#include "core/text.h"

namespace excise {

std::string FileStem(std::string_view path) {
  if (const size_t slash = path.find_last_of("/\\"); slash != std::string_view::npos) {
    path.remove_prefix(slash + 1);
  }
  const size_t dot = path.find_last_of('.');
  if (dot != std::string_view::npos && dot > 0) path = path.substr(0, dot);
  return std::string(path);
}

void ThrowUnknownName(std::string_view kind, std::string_view name,
                      const std::vector<std::string>& known) {
  std::string message = fmt::format("Unknown {} '{}'.{}", kind, Escape(name, Format::kTerminal),
                                    DidYouMean(name, known));
  if (known.empty()) {
    message += fmt::format(" No {} is registered: this program was linked without any.", kind);
  } else {
    std::vector<std::string> sorted = known;
    std::sort(sorted.begin(), sorted.end());
    message += fmt::format(" Registered: {}.", Joined(sorted));
  }
  throw UsageError(message);
}

std::vector<std::string>& RegistrationProblems() {
  static std::vector<std::string> problems;
  return problems;
}

}  // namespace excise
