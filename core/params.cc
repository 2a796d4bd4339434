#include "core/params.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "core/error.h"
#include "core/escape.h"
#include "core/files.h"
#include "core/text.h"

namespace excise {
namespace {

constexpr const char* kPlugin = "plugin";

// RFC 6901.
std::string PointerTo(std::string_view key) {
  std::string out = "/";
  for (char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return Escape(out, Format::kTerminal);
}

std::string Shown(const Json& value) {
  return Escape(value.dump(-1, ' ', false, Json::error_handler_t::replace), Format::kTerminal);
}

// Visits twice: first it only checks, so that an error leaves the target as it was.
class Decoder : public ParamVisitor {
 public:
  Decoder(const Json& object, std::string_view origin, bool assign)
      : object_(object), origin_(origin), assign_(assign) {}

  const std::vector<std::string>& known() const { return known_; }

  void Flag(std::string_view name, bool* value, std::string_view) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    if (!given->is_boolean()) WrongType(name, *given, "true or false");
    if (assign_) *value = given->get<bool>();
  }

  void Integer(std::string_view name, int64_t* value, std::string_view,
               IntegerRange range) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    if (!given->is_number_integer()) WrongType(name, *given, "an integer");
    const bool too_large =
        given->is_number_unsigned() &&
        given->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    const int64_t number = too_large ? 0 : given->get<int64_t>();
    if (too_large || number < range.min || number > range.max) {
      Fail(name, fmt::format("{} is outside {} to {}.", Shown(*given), range.min, range.max));
    }
    if (assign_) *value = number;
  }

  void Number(std::string_view name, double* value, std::string_view, NumberRange range) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    if (!given->is_number()) WrongType(name, *given, "a number");
    const double number = given->get<double>() + 0.0;  // -0 becomes 0: one value, one key
    if (!std::isfinite(number) || number < range.min || number > range.max) {
      Fail(name, fmt::format("{} is outside {} to {}.", Shown(*given), range.min, range.max));
    }
    if (assign_) *value = number;
  }

  void Text(std::string_view name, std::string* value, std::string_view) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    if (!given->is_string()) WrongType(name, *given, "a string");
    if (assign_) *value = given->get<std::string>();
  }

  void Choice(std::string_view name, std::string* value, std::string_view,
              const std::vector<std::string>& allowed) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    if (!given->is_string()) WrongType(name, *given, "one of " + Joined(allowed));
    const std::string& word = given->get_ref<const std::string&>();
    if (!IsOneOf(word, allowed)) {
      Fail(name, fmt::format("{} is not one of {}.{}", Shown(*given), Joined(allowed),
                             DidYouMean(word, allowed)));
    }
    if (assign_) *value = word;
  }

  void Texts(std::string_view name, std::vector<std::string>* value, std::string_view) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    const bool strings =
        given->is_array() &&
        std::all_of(given->begin(), given->end(), [](const Json& j) { return j.is_string(); });
    if (!strings) WrongType(name, *given, "an array of strings");
    if (assign_) *value = given->get<std::vector<std::string>>();
  }

  void Path(std::string_view name, std::string* value, std::string_view) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    if (!given->is_string()) WrongType(name, *given, "the path of a file or folder");
    const std::string& text = given->get_ref<const std::string&>();
    std::string path = text.empty() ? "" : UserPath(text).lexically_normal().string();
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    std::error_code problem;
    const auto kind = std::filesystem::status(path, problem).type();
    if (!path.empty() && kind != std::filesystem::file_type::regular &&
        kind != std::filesystem::file_type::directory) {
      Fail(name,
           fmt::format("{}: there is no such file or folder that can be read. Check the path; "
                       "a relative one starts in the folder in which you typed the command.",
                       Escape(path, Format::kTerminal)));
    }
    if (assign_) *value = path;
  }

  void Parts(std::string_view name, std::vector<Part>* value, std::string_view,
             const PartMaker& make) override {
    const Json* given = Lookup(name);
    if (given == nullptr) return;
    const auto named = [](const Json& one) {
      return one.is_object() && one.contains(kPlugin) && one.at(kPlugin).is_string();
    };
    if (!given->is_array() || !std::all_of(given->begin(), given->end(), named)) {
      WrongType(name, *given, R"(an array of objects that name their "plugin")");
    }
    std::vector<Part> parts;
    for (Json settings : *given) {
      Part part{settings.at(kPlugin).get<std::string>(), nullptr};
      try {
        part.settings = make(part.plugin);
      } catch (const UsageError& error) {
        Fail(name, error.what());
      }
      settings.erase(kPlugin);
      DecodeParams(settings, *part.settings,
                   fmt::format("{}: {}/{}", origin_, PointerTo(name), parts.size()));
      parts.push_back(std::move(part));
    }
    if (assign_) *value = std::move(parts);
  }

 private:
  const Json* Lookup(std::string_view name) {
    known_.emplace_back(name);
    const auto it = object_.find(std::string(name));
    return it == object_.end() ? nullptr : &*it;
  }
  [[noreturn]] void Fail(std::string_view name, const std::string& what) const {
    throw UsageError(fmt::format("{}: {}: {}", origin_, PointerTo(name), what));
  }
  [[noreturn]] void WrongType(std::string_view name, const Json& given,
                              const std::string& wanted) const {
    Fail(name, fmt::format("expected {}, found {} ({}).", wanted, Shown(given), given.type_name()));
  }

  const Json& object_;
  std::string_view origin_;
  bool assign_;
  std::vector<std::string> known_;
};

class Encoder : public ParamVisitor {
 public:
  explicit Encoder(PathForm paths) : paths_(paths) {}
  void Path(std::string_view name, std::string* value, std::string_view) override {
    if (paths_ == PathForm::kLeftOut) return;
    const bool whole = paths_ == PathForm::kWhole;
    Put(name, whole ? *value : std::filesystem::path(*value).filename().string());
  }
  void Flag(std::string_view name, bool* value, std::string_view) override { Put(name, *value); }
  void Integer(std::string_view name, int64_t* value, std::string_view, IntegerRange) override {
    Put(name, *value);
  }
  void Number(std::string_view name, double* value, std::string_view, NumberRange) override {
    Put(name, *value + 0.0);
  }
  void Text(std::string_view name, std::string* value, std::string_view) override {
    Put(name, *value);
  }
  void Choice(std::string_view name, std::string* value, std::string_view,
              const std::vector<std::string>& allowed) override {
    if (!IsOneOf(*value, allowed)) {
      throw Error(
          fmt::format("Parameter '{}' has the default '{}', which is not one of {}. Correct "
                      "its Fields().",
                      name, *value, Joined(allowed)));
    }
    Put(name, *value);
  }
  void Texts(std::string_view name, std::vector<std::string>* value, std::string_view) override {
    Put(name, *value);
  }
  void Parts(std::string_view name, std::vector<Part>* value, std::string_view,
             const PartMaker&) override {
    Json list = Json::array();
    for (const Part& part : *value) {
      list.push_back(EncodeParams(*part.settings, paths_));
      list.back()[kPlugin] = part.plugin;
    }
    Put(name, list);
  }
  Json Take() { return std::move(object_); }

 private:
  void Put(std::string_view name, Json value) {
    if (!object_.emplace(std::string(name), std::move(value)).second) {
      throw Error(fmt::format("Fields() names the parameter '{}' twice. Rename one.", name));
    }
  }
  const PathForm paths_;
  Json object_ = Json::object();
};

class PathCollector : public ParamVisitor {
 public:
  void Flag(std::string_view, bool*, std::string_view) override {}
  void Integer(std::string_view, int64_t*, std::string_view, IntegerRange) override {}
  void Number(std::string_view, double*, std::string_view, NumberRange) override {}
  void Text(std::string_view, std::string*, std::string_view) override {}
  void Choice(std::string_view, std::string*, std::string_view,
              const std::vector<std::string>&) override {}
  void Texts(std::string_view, std::vector<std::string>*, std::string_view) override {}
  void Path(std::string_view name, std::string* value, std::string_view) override {
    if (!value->empty()) paths_[std::string(name)] = *value;
  }
  void Parts(std::string_view name, std::vector<Part>* value, std::string_view,
             const PartMaker&) override {
    for (size_t i = 0; i < value->size(); ++i) {
      for (const auto& [field, path] : PathsOf(*(*value)[i].settings)) {
        paths_[fmt::format("{}/{}/{}", name, i, field)] = path;
      }
    }
  }
  std::map<std::string, std::string> Take() { return std::move(paths_); }

 private:
  std::map<std::string, std::string> paths_;
};

class Describer : public ParamVisitor {
 public:
  void Flag(std::string_view name, bool* value, std::string_view help) override {
    Line(name, fmt::format("flag, default {}", *value), help);
  }
  void Integer(std::string_view name, int64_t* value, std::string_view help,
               IntegerRange range) override {
    std::string about = fmt::format("integer, default {}", *value);
    const bool low = range.min != std::numeric_limits<int64_t>::min();
    const bool high = range.max != std::numeric_limits<int64_t>::max();
    if (low && high) about += fmt::format(", {} to {}", range.min, range.max);
    if (low && !high) about += fmt::format(", >= {}", range.min);
    if (!low && high) about += fmt::format(", <= {}", range.max);
    Line(name, about, help);
  }
  void Number(std::string_view name, double* value, std::string_view help,
              NumberRange range) override {
    std::string about = fmt::format("number, default {}", *value);
    const bool low = std::isfinite(range.min), high = std::isfinite(range.max);
    if (low && high) about += fmt::format(", {} to {}", range.min, range.max);
    if (low && !high) about += fmt::format(", >= {}", range.min);
    if (!low && high) about += fmt::format(", <= {}", range.max);
    Line(name, about, help);
  }
  void Text(std::string_view name, std::string* value, std::string_view help) override {
    Line(name, fmt::format("text, default {}", Shown(*value)), help);
  }
  void Choice(std::string_view name, std::string* value, std::string_view help,
              const std::vector<std::string>& allowed) override {
    std::string words;
    for (const std::string& word : allowed) words += (words.empty() ? "" : "|") + word;
    Line(name, fmt::format("{}, default {}", words, *value), help);
  }
  void Texts(std::string_view name, std::vector<std::string>* value,
             std::string_view help) override {
    Line(name, fmt::format("list of texts, default {}", Shown(*value)), help);
  }
  void Path(std::string_view name, std::string*, std::string_view help) override {
    Line(name, "file or folder, default none", help);
  }
  void Parts(std::string_view name, std::vector<Part>*, std::string_view help,
             const PartMaker&) override {
    Line(name, "list of plug-ins with their parameters, default none", help);
  }
  std::string Take() { return std::move(text_); }

 private:
  void Line(std::string_view name, const std::string& about, std::string_view help) {
    text_ += fmt::format("{} ({}): {}\n", name, about, help);
  }
  std::string text_;
};

}  // namespace

void DecodeParams(const Json& object, Parameterised& target, std::string_view origin) {
  if (!object.is_object()) {
    throw UsageError(fmt::format("{}: parameters must be a JSON object, found {} ({}).", origin,
                                 Shown(object), object.type_name()));
  }
  Decoder check(object, origin, /*assign=*/false);
  target.Fields(check);
  for (const auto& [key, value] : object.items()) {
    const auto& known = check.known();
    if (IsOneOf(key, known)) continue;
    throw UsageError(fmt::format(
        "{}: {}: unknown parameter.{}", origin, PointerTo(key),
        known.empty() ? " There are no parameters here." : DidYouMeanOrKnown(key, known)));
  }
  Decoder assign(object, origin, /*assign=*/true);
  target.Fields(assign);
}

Json EncodeParams(Parameterised& source, PathForm paths) {
  Encoder encoder(paths);
  source.Fields(encoder);
  return encoder.Take();
}

std::map<std::string, std::string> PathsOf(Parameterised& source) {
  PathCollector collector;
  source.Fields(collector);
  return collector.Take();
}

std::string MissingSetting(Parameterised& source) {
  const std::vector<std::string> fields = source.needs_one_of();
  if (fields.empty()) return "";
  const Json params = EncodeParams(source);
  for (const std::string& field : fields) {
    if (!params.at(field).empty() && params.at(field) != "") return "";
  }
  return fmt::format(
      fields.size() == 1 ? "its parameter '{}' is not set" : "none of its parameters {} is set",
      Joined(fields));
}

std::string DescribeParams(Parameterised& source) {
  Describer describer;
  source.Fields(describer);
  return describer.Take();
}

}  // namespace excise
