#include "core/json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/escape.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/text.h"

template class nlohmann::basic_json<>;

namespace excise {
namespace {

constexpr size_t kMaxDepth = 64;
// So many values take a twentieth of a second; a signal waits no longer.
constexpr size_t kValuesBetweenChecks = size_t{1} << 18;

// Reads bytes and tells the handler how far the lexer has come. The lexer looks no further than the
// token in hand, so at a key event this is the byte after the key's closing quote.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;
  CountingIterator(const char* at, const char** furthest) : at_(at), furthest_(furthest) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    ++at_;
    *furthest_ = at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator old = *this;
    ++*this;
    return old;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  const char** furthest_;
};

// Builds the value itself, because the library's own builder keeps the last of two equal keys.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, std::string_view origin, const char* const* furthest)
      : text_(text), origin_(origin), furthest_(furthest) {}
  Json Take() { return std::move(root_); }

  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t&) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // JSON text has none
  bool start_object(size_t) override { return Open(Json::object()); }
  bool start_array(size_t) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& value) override {
    Json& object = *open_.back();
    if (object.contains(value)) {
      Fail(Here(), fmt::format("the key \"{}\" stands twice in one object. Remove one of them.",
                               Escape(value, Format::kTerminal)));
    }
    slot_ = &object[value];
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    // "[json.exception...] parse error at line 3, column 5: reason": the place is printed once.
    if (const size_t bracket = what.find("] "); bracket != std::string::npos) {
      what.erase(0, bracket + 2);
    }
    if (StartsWith(what, "parse error at")) {
      if (const size_t colon = what.find(": "); colon != std::string::npos)
        what.erase(0, colon + 2);
    }
    Fail(position == 0 ? 0 : position - 1, Escape(what, Format::kTerminal));
  }

 private:
  size_t Here() const { return static_cast<size_t>(*furthest_ - text_.data()); }

  [[noreturn]] void Fail(size_t offset, const std::string& reason) const {
    offset = std::min(offset, text_.size());
    size_t line = 1, column = 1;
    for (size_t i = 0; i < offset; ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n';
    }
    throw Error(
        fmt::format("{}: line {}, column {}: not valid JSON: {}", origin_, line, column, reason));
  }

  Json* Place(Json value) {
    if (++values_ % kValuesBetweenChecks == 0 && InterruptRequested()) throw Interrupted{};
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (open_.back()->is_array()) {
      open_.back()->push_back(std::move(value));
      return &open_.back()->back();
    }
    *slot_ = std::move(value);
    return slot_;
  }
  bool Add(Json value) {
    Place(std::move(value));
    return true;
  }
  // An array may move its elements when it grows, but never while one of them is open.
  bool Open(Json empty) {
    if (open_.size() >= kMaxDepth) {
      Fail(Here(), fmt::format("nested deeper than {} levels.", kMaxDepth));
    }
    open_.push_back(Place(std::move(empty)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }

  std::string_view text_;
  std::string_view origin_;
  const char* const* furthest_;
  Json root_;
  std::vector<Json*> open_;
  Json* slot_ = nullptr;
  size_t values_ = 0;
};

void RefuseNonFinite(const Json& value, const std::string& pointer) {
  if (value.is_number_float() && !std::isfinite(value.get<double>())) {
    throw Error(fmt::format(
        "JSON cannot hold the number {} at '{}'. A score or parameter became NaN or infinite "
        "before it was written; store null with a reason instead.",
        value.get<double>(), pointer));
  }
  if (value.is_object()) {
    for (const auto& [key, child] : value.items()) RefuseNonFinite(child, pointer + "/" + key);
  } else if (value.is_array()) {
    for (size_t i = 0; i < value.size(); ++i) {
      RefuseNonFinite(value[i], pointer + "/" + std::to_string(i));
    }
  }
}

}  // namespace

Json ParseJson(std::string_view text, std::string_view origin) {
  const char* furthest = text.data();
  Builder builder(text, origin, &furthest);
  const bool whole = Json::sax_parse(CountingIterator(text.data(), &furthest),
                                     CountingIterator(text.data() + text.size(), &furthest),
                                     &builder, nlohmann::detail::input_format_t::json,
                                     /*strict=*/true, /*ignore_comments=*/false);
  if (!whole) throw Error(fmt::format("{}: not valid JSON.", origin));
  return builder.Take();
}

Json ReadJsonFile(const std::filesystem::path& path) {
  const std::string bytes = ReadFile(path);
  if (bytes.empty()) {
    throw Error(
        fmt::format("{} is empty: a copy or download was probably cut short.", path.string()));
  }
  return ParseJson(bytes, path.string());
}

std::string CanonicalJson(const Json& value) {
  RefuseNonFinite(value, "");
  try {
    return value.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::strict);
  } catch (const Json::exception& error) {
    throw Error(fmt::format("A string cannot be written as JSON, because it is not UTF-8: {}",
                            Escape(error.what(), Format::kTerminal)));
  }
}

}  // namespace excise
