#include "core/escape.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdint>

#include "core/text.h"

namespace excise {
namespace {

bool IsHarmful(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f) ||  // C0, DEL, C1
         code == 0xad ||                                   // soft hyphen
         code == 0x61c || code == 0x200e || code == 0x200f || (code >= 0x202a && code <= 0x202e) ||
         (code >= 0x2066 && code <= 0x206f) ||  // bidi
         code == 0x180e || code == 0x200b || code == 0x200c || (code >= 0x2060 && code <= 0x2064) ||
         code == 0xfeff ||                      // invisible
         code == 0x2028 || code == 0x2029 ||    // line separators
         (code >= 0xfff9 && code <= 0xfffb) ||  // interlinear annotation
         (code >= 0xe0000 && code <= 0xe007f);  // tags ("ASCII smuggling")
}

std::string Visible(char32_t code) {
  if (code < 0x80) return fmt::format("\\x{:02x}", static_cast<uint32_t>(code));
  return fmt::format(code > 0xffff ? "\\U{:08x}" : "\\u{:04x}", static_cast<uint32_t>(code));
}

std::string MakeVisible(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = CodePointAt(text, i);
    if (point.length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<uint8_t>(text[i]));
      ++i;
      continue;
    }
    const char32_t code = point.value;
    if (!IsHarmful(code)) {
      out += text.substr(i, point.length);
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else {
      out += Visible(code);
    }
    i += point.length;
  }
  return out;
}

std::string Markdown(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const std::string_view rest = std::string_view(text).substr(i);
    if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '@') {
      out += "&#64;";  // neither a mention nor an e-mail address
    } else if (c == ':' && rest.substr(1, 1) != " ") {
      // Bare addresses become links, and :names: become pictures.
      out += "&#58;";
    } else if (c == '_' && i > 0 && isalnum(static_cast<unsigned char>(text[i - 1])) &&
               rest.size() > 1 && isalnum(static_cast<unsigned char>(rest[1]))) {
      out += c;  // inside a word it is no emphasis
    } else if (c == '.' && i >= 3 && tolower(text[i - 1]) == 'w' && tolower(text[i - 2]) == 'w' &&
               tolower(text[i - 3]) == 'w') {
      out += "&#46;";
    } else if (std::string_view("\\`*_{}[]|#~$!").find(c) != std::string_view::npos) {
      out += '\\';
      out += c;
    } else if (i == 0 && (c == '-' || c == '+' || c == '=')) {
      out += '\\';
      out += c;  // no list, no rule, no heading
    } else if (i == 0 && isdigit(static_cast<unsigned char>(c))) {
      // "1. x" and "1) x" would open a list; "1.5" does not.
      size_t digits = 0;
      while (digits < rest.size() && isdigit(static_cast<unsigned char>(rest[digits]))) ++digits;
      out += rest.substr(0, digits);
      i += digits - 1;
      const bool dot = digits < rest.size() && (rest[digits] == '.' || rest[digits] == ')');
      if (dot && (digits + 1 == rest.size() || rest[digits + 1] == ' ')) out += '\\';
    } else {
      out += c;
    }
  }
  return out;
}

// -?digits(.digits)?([eE][+-]?digits)?
bool IsPlainNumber(std::string_view text) {
  size_t i = 0;
  const auto digits = [&] {
    const size_t start = i;
    while (i < text.size() && text[i] >= '0' && text[i] <= '9') ++i;
    return i > start;
  };
  if (i < text.size() && text[i] == '-') ++i;
  if (!digits()) return false;
  if (i < text.size() && text[i] == '.') {
    ++i;
    if (!digits()) return false;
  }
  if (i < text.size() && (text[i] == 'e' || text[i] == 'E')) {
    ++i;
    if (i < text.size() && (text[i] == '+' || text[i] == '-')) ++i;
    if (!digits()) return false;
  }
  return i == text.size();
}

std::string Csv(const std::string& text) {
  std::string field = text;
  if (IsFormula(text)) field.insert(0, "'");
  const bool quote = field.find_first_of(",;\"'") != std::string::npos ||
                     (!field.empty() && (field.front() == ' ' || field.back() == ' '));
  if (!quote) return field;
  std::string out = "\"";
  for (char c : field) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + "\"";
}

// What pdflatex sets with its oldest fonts (OT1) and textcomp.
bool IsInLatexFonts(char32_t code) {
  constexpr struct {
    char32_t first, last;
  } kRanges[] = {{0x00, 0x7f},     {0xa1, 0xaa},     {0xac, 0xba},     {0xbc, 0xcf},
                 {0xd1, 0xdd},     {0xdf, 0xef},     {0xf1, 0xfd},     {0xff, 0x103},
                 {0x106, 0x10f},   {0x112, 0x117},   {0x11a, 0x125},   {0x128, 0x12d},
                 {0x130, 0x137},   {0x139, 0x13e},   {0x141, 0x148},   {0x14c, 0x165},
                 {0x168, 0x171},   {0x174, 0x17e},   {0x2013, 0x2014}, {0x2018, 0x2019},
                 {0x201c, 0x201d}, {0x2020, 0x2022}, {0x2026, 0x2026}, {0x2030, 0x2030},
                 {0x20ac, 0x20ac}, {0x2122, 0x2122}, {0x2190, 0x2193}};
  for (const auto& range : kRanges) {
    if (code >= range.first && code <= range.last) return true;
  }
  return false;
}

// `text` is valid UTF-8.
std::string WithinLatexFonts(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = CodePointAt(text, i);
    out += IsInLatexFonts(point.value) ? text.substr(i, point.length) : Visible(point.value);
    i += point.length;
  }
  return out;
}

std::string Latex(const std::string& text) {
  std::string out;
  char before = '\0';
  for (char c : WithinLatexFonts(text)) {
    // No ligatures: "--" is two hyphens.
    if (c == before && (c == '-' || c == '\'' || c == ',')) out += "{}";
    before = c;
    switch (c) {
      case '\\':
        out += "\\textbackslash{}";
        break;
      case '~':
        out += "\\textasciitilde{}";
        break;
      case '^':
        out += "\\textasciicircum{}";
        break;
      case '<':
        out += "\\textless{}";
        break;
      case '>':
        out += "\\textgreater{}";
        break;
      case '|':
        out += "\\textbar{}";
        break;
      case '"':
        out += "\\char34{}";
        break;
      case '`':
        out += "\\textasciigrave{}";
        break;
      case '{':
      case '}':
      case '$':
      case '&':
      case '#':
      case '_':
      case '%':
        out += '\\';
        out += c;
        break;
      // After a row's "\\" these would be read as its arguments.
      case '[':
      case ']':
      case '*':
        out += '{';
        out += c;
        out += '}';
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string Html(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace

std::string Escape(std::string_view text, Format format) {
  const std::string visible = MakeVisible(text);
  switch (format) {
    case Format::kTerminal:
      return visible;
    case Format::kMarkdown:
      return Markdown(visible);
    case Format::kCsv:
      return Csv(visible);
    case Format::kLatex:
      return Latex(visible);
    case Format::kHtml:
      return Html(visible);
  }
  return visible;
}

std::string EscapeLines(std::string_view text, Layout layout) {
  std::string out;
  for (size_t start = 0; start <= text.size();) {
    size_t end = std::min(text.find('\n', start), text.size());
    const auto stays = [&] {
      return layout == Layout::kReport || text.substr(end + 1, 1) == " " || end + 1 == text.size();
    };
    while (end < text.size() && !stays()) end = std::min(text.find('\n', end + 1), text.size());
    out += Escape(text.substr(start, end - start), Format::kTerminal);
    if (end < text.size()) out += '\n';
    start = end + 1;
  }
  return out;
}

std::string Shortened(std::string_view text, size_t most) {
  std::string_view kept = FirstCharacters(text, most);
  if (kept.size() == text.size()) {
    if (text.size() <= 4 * most) return std::string(text);
    kept = text.substr(0, 4 * most);  // continuation bytes of nothing
  }
  return fmt::format("{}... ({} bytes)", kept, text.size());
}

bool IsFormula(std::string_view text) {
  std::string_view head = text;
  head.remove_prefix(std::min(head.find_first_not_of(" \t\r\n"), head.size()));
  bool formula = !head.empty() && std::string_view("=+-@").find(head[0]) != std::string_view::npos;
  for (const char* wide : {"\uff1d", "\uff0b", "\uff0d", "\uff20"}) {
    formula = formula || StartsWith(head, wide);  // full-width forms run in some locales
  }
  return formula && !IsPlainNumber(text);
}

}  // namespace excise
