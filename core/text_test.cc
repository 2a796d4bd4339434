#include "core/text.h"

#include <openssl/evp.h>

#include <catch2/catch.hpp>

namespace excise {
namespace {

// Every character's value; a byte that is not UTF-8 is -1.
std::vector<int64_t> Walked(std::string_view text) {
  std::vector<int64_t> values;
  for (size_t i = 0; i < text.size();) {
    const CodePoint point = CodePointAt(text, i);
    values.push_back(point.length == 0 ? -1 : static_cast<int64_t>(point.value));
    i += point.length == 0 ? 1 : point.length;
  }
  return values;
}

std::string Encoded(char32_t value) {
  std::string text;
  AppendUtf8(value, &text);
  return text;
}

}  // namespace

TEST_CASE("beginnings and ends of a text, the empty one and the whole among them") {
  CHECK(StartsWith("text_model.weight", "text_model."));
  CHECK(StartsWith("text", "text"));
  CHECK(StartsWith("", ""));
  CHECK(StartsWith("text", ""));
  CHECK_FALSE(StartsWith("tex", "text"));
  CHECK_FALSE(StartsWith("a text", "text"));
  CHECK(EndsWith("out.png", ".png"));
  CHECK(EndsWith(".png", ".png"));
  CHECK(EndsWith("", ""));
  CHECK(EndsWith("out", ""));
  CHECK_FALSE(EndsWith("png", ".png"));
  CHECK_FALSE(EndsWith("out.png ", ".png"));
  CHECK(StartsWith(std::string_view("\0ab", 3), std::string_view("\0a", 2)));
}

TEST_CASE("lower case touches ASCII letters alone, trimming ASCII white space alone") {
  CHECK(LowerAscii("AZaz09@[`{ \xC3\x84") == "azaz09@[`{ \xC3\x84");
  CHECK(Trimmed(" \t\r\n\v\f a b \n") == "a b");
  CHECK(Trimmed(" \t ") == "");
  CHECK(Trimmed("") == "");
  CHECK(Trimmed("\xC2\xA0") == "\xC2\xA0");  // a no-break space stays whole
  CHECK(Joined({}) == "");
  CHECK(Joined({"a"}) == "a");
  CHECK(Joined({"", "b", ""}, " | ") == " | b | ");
}

TEST_CASE("a text's lines, with and without an end of the last one") {
  using Texts = std::vector<std::string>;
  CHECK(Lines("") == Texts{});
  CHECK(Lines("\n") == Texts{""});
  CHECK(Lines("a\n\nb") == Texts{"a", "", "b"});
  CHECK(Lines("a\nb\n") == Texts{"a", "b"});
  CHECK(Lines("a\r\nb\n\n") == Texts{"a\r", "b", ""});
}

// Unicode 15.0, table 3-7: well-formed sequences and their neighbours.
TEST_CASE("UTF-8: characters at the borders of every length") {
  CHECK(Walked("A\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF") ==
        std::vector<int64_t>{'A', 0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF});
  CHECK(Walked("\xF0\x90\x80\x80\xF4\x8F\xBF\xBF") == std::vector<int64_t>{0x10000, 0x10FFFF});
  CHECK(Walked(std::string_view("\0\x7F", 2)) == std::vector<int64_t>{0, 0x7F});
}

TEST_CASE("UTF-8: what is not well-formed is no character, and the walk ends") {
  for (const std::string_view bad :
       {"\x80", "\xBF", "\xC0\xAF", "\xC1\xBF", "\xE0\x80\xAF", "\xE0\x9F\xBF",  // overlong
        "\xF0\x80\x80\xAF", "\xF0\x8F\xBF\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",  // surrogates
        "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xFE",                  // beyond U+10FFFF
        "\xC3", "\xE2\x82", "\xF0\x9F\x98"}) {                                   // truncated
    INFO(bad);
    CHECK(Walked(bad) == std::vector<int64_t>(bad.size(), -1));
  }
  // The character after a truncated one is not eaten.
  CHECK(Walked("\xE2\x82x") == std::vector<int64_t>{-1, -1, 'x'});
  CHECK(Walked("\xC3\xC3\xA4") == std::vector<int64_t>{-1, 0xE4});
  // The view ends inside a character whose last byte stands behind it.
  CHECK(Walked(std::string_view("\xE2\x82\xAC").substr(0, 2)) == std::vector<int64_t>{-1, -1});
}

TEST_CASE("UTF-8: every code point is read back as it was written") {
  for (char32_t value = 0; value <= 0x10FFFF; ++value) {
    const std::string text = Encoded(value);
    const CodePoint point = CodePointAt(text, 0);
    const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    if (point.length != (surrogate ? 0 : text.size()) || (!surrogate && point.value != value)) {
      FAIL("U+" << std::hex << static_cast<uint32_t>(value));
    }
  }
  CHECK(Encoded(U'\u20AC') == "\xE2\x82\xAC");
}

TEST_CASE("a text is counted and cut by characters") {
  const std::string text = "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z";
  CHECK(TextWidth(text) == 5);
  CHECK(TextWidth("") == 0);
  CHECK(FirstCharacters(text, 0) == "");
  CHECK(FirstCharacters(text, 2) == "a\xC3\xA4");
  CHECK(FirstCharacters(text, 4) == "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(FirstCharacters(text, 5) == text);
  CHECK(FirstCharacters(text, 600) == text);
  CHECK(FirstCharacters("", 3) == "");
}

TEST_CASE("base64: the vectors of RFC 4648, and OpenSSL reads long ones back") {
  CHECK(Base64("") == "");
  CHECK(Base64("f") == "Zg==");
  CHECK(Base64("fo") == "Zm8=");
  CHECK(Base64("foo") == "Zm9v");
  CHECK(Base64("foob") == "Zm9vYg==");
  CHECK(Base64("fooba") == "Zm9vYmE=");
  CHECK(Base64("foobar") == "Zm9vYmFy");
  CHECK(Base64("\xFB\xFF\xFE") == "+//+");
  CHECK(Base64(std::string_view("\0\0", 2)) == "AAA=");
  for (const size_t size : {3071, 3072, 3073, 9217}) {  // around what is encoded at once
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 256);
    const std::string text = Base64(bytes);
    std::string back(text.size(), '\0');
    const int read = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(back.data()),
                                     reinterpret_cast<const unsigned char*>(text.data()),
                                     static_cast<int>(text.size()));
    REQUIRE(read == static_cast<int>((size + 2) / 3 * 3));
    CHECK(back.substr(0, size) == bytes);
  }
}

TEST_CASE("suggestions are near or absent") {
  const std::vector<std::string> known = {"none", "uce", "esd", "negative_prompt", "tropical_fish"};
  CHECK(Suggest("ucee", known) == "uce");
  CHECK(Suggest("UCE", known) == "uce");
  CHECK(Suggest("eds", known) == "esd");  // a swap
  CHECK(Suggest("negativ_promt", known) == "negative_prompt");
  CHECK(Suggest("tropical", known) == "tropical_fish");
  CHECK(Suggest("fish", known) == "tropical_fish");
  CHECK(Suggest("salun", known) == "");
  CHECK(Suggest("", known) == "");
  CHECK(Suggest("x", {"y", "z"}) == "");
  CHECK(Suggest(std::string(1000000, 'u'), known) == "");
  CHECK(Suggest("uce", {std::string(1000000, 'u')}) == "");
  CHECK(Suggest("ab", {"ac", "aa"}) == "aa");  // ties by name
  CHECK(Suggest("uce", {}) == "");
}

TEST_CASE("at most a third of a name's letters may differ") {
  CHECK(Suggest("abcdxx", {"abcdef"}) == "abcdef");
  CHECK(Suggest("abcxxx", {"abcdef"}) == "");
  CHECK(Suggest("abx", {"abc"}) == "abc");
  CHECK(Suggest("axx", {"abc"}) == "");
}

TEST_CASE("a message names the nearest name, and all") {
  const std::vector<std::string> known = {"sgd", "adam", "adamw"};
  CHECK(DidYouMean("sdg", known) == " Did you mean 'sgd'?");
  CHECK(DidYouMean("lbfgs", known) == "");
  CHECK(DidYouMeanOrKnown("sdg", known) == " Did you mean 'sgd'? Known: sgd, adam, adamw.");
  CHECK(DidYouMeanOrKnown("lbfgs", known) == " Known: sgd, adam, adamw.");
  CHECK(IsOneOf("adam", known));
  CHECK_FALSE(IsOneOf("Adam", known));
  CHECK_FALSE(IsOneOf("", known));
}

}  // namespace excise
