// One registry template for every kind of plug-in. A plug-in registers itself:
//
//   const Registration<Method, Uce> registration;
//
// Its name is the stem of the file it stands in (methods/uce.cc -> "uce").
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace excise {

// File stem of a path: "methods/uce.cc" -> "uce".
std::string FileStem(std::string_view path);

// "Unknown method 'ucee'. Did you mean 'uce'? Registered: esd, none, uce." as a UsageError.
[[noreturn]] void ThrowUnknownName(std::string_view kind, std::string_view name,
                                   const std::vector<std::string>& known);

// Problems found before main (two files with one name); main reports them and exits 2.
std::vector<std::string>& RegistrationProblems();

// `Base` is the interface (Method, Attack, Metric, Dataset). It provides
// `static constexpr const char* kKind` ("method").
template <class Base>
class Registry {
 public:
  struct Entry {
    std::string file;
    std::function<std::unique_ptr<Base>()> make;
  };
  static Registry& Get() {
    static Registry registry;
    return registry;
  }
  void Add(std::string_view file, std::function<std::unique_ptr<Base>()> make) {
    const std::string name = FileStem(file);
    auto [it, inserted] = entries_.emplace(name, Entry{std::string(file), std::move(make)});
    if (!inserted) {
      RegistrationProblems().push_back(std::string(Base::kKind) + " '" + name +
                                       "' is registered twice: " + it->second.file + " and " +
                                       std::string(file) + ". Rename one of the files.");
    }
  }
  // A fresh object with default parameters. Throws UsageError with a suggestion.
  std::unique_ptr<Base> Make(std::string_view name) const {
    auto it = entries_.find(name);
    if (it == entries_.end()) ThrowUnknownName(Base::kKind, name, Names());
    return it->second.make();
  }
  bool Contains(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  const std::string& File(std::string_view name) const { return entries_.find(name)->second.file; }
  // Sorted.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& [name, entry] : entries_) names.push_back(name);
    return names;
  }

 private:
  std::map<std::string, Entry, std::less<>> entries_;
};

template <class Base, class Derived>
class Registration {
 public:
  explicit Registration(const char* file = __builtin_FILE()) {
    Registry<Base>::Get().Add(file, [] { return std::make_unique<Derived>(); });
  }
};

}  // namespace excise
