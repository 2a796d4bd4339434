#include "core/registry.h"

#include <catch2/catch.hpp>
#include <string>

namespace excise {
namespace {

using Catch::Contains;

struct Shape {
  static constexpr const char* kKind = "shape";
  virtual ~Shape() = default;
  virtual int Corners() const = 0;
};
struct Square : Shape {
  int Corners() const override { return 4; }
};
struct Triangle : Shape {
  int Corners() const override { return 3; }
};
const Registration<Shape, Square> square("shapes/square.cc");
const Registration<Shape, Triangle> triangle("/any/where/triangle.cc");
const Registration<Shape, Triangle> here;

struct Colour {
  static constexpr const char* kKind = "colour";
};

TEST_CASE("plug-ins are found by the stem of their file", "[registry]") {
  auto& registry = Registry<Shape>::Get();
  CHECK(registry.Names() == std::vector<std::string>{"registry_test", "square", "triangle"});
  CHECK(registry.Make("square")->Corners() == 4);
  CHECK(registry.Make("triangle")->Corners() == 3);
  CHECK(registry.Make("square") != registry.Make("square"));
  CHECK(registry.Contains("square"));
  CHECK(!registry.Contains("circle"));
  CHECK(registry.File("square") == "shapes/square.cc");
}

TEST_CASE("an unknown name is answered with a suggestion and the list", "[registry]") {
  CHECK_THROWS_AS(Registry<Shape>::Get().Make("sqare"), UsageError);
  CHECK_THROWS_WITH(Registry<Shape>::Get().Make("sqare"),
                    "Unknown shape 'sqare'. Did you mean 'square'? Registered: registry_test, "
                    "square, triangle.");
  CHECK_THROWS_WITH(ThrowUnknownName("method", "ucee", {"none", "uce", "esd"}),
                    "Unknown method 'ucee'. Did you mean 'uce'? Registered: esd, none, uce.");
  CHECK_THROWS_WITH(ThrowUnknownName("method", "hypernetwork", {"uce"}),
                    "Unknown method 'hypernetwork'. Registered: uce.");
  CHECK_THROWS_WITH(Registry<Colour>::Get().Make("red"), Contains("No colour is registered"));
  CHECK_THROWS_WITH(ThrowUnknownName("method", "\x1b[2J", {"uce"}), Contains("\\x1b[2J"));
}

TEST_CASE("two files with one name are reported, and the first stays", "[registry]") {
  const size_t before = RegistrationProblems().size();
  const Registration<Shape, Triangle> second("other/square.cc");
  REQUIRE(RegistrationProblems().size() == before + 1);
  CHECK_THAT(RegistrationProblems().back(), Contains("shape 'square'") &&
                                                Contains("shapes/square.cc") &&
                                                Contains("other/square.cc"));
  CHECK(Registry<Shape>::Get().Make("square")->Corners() == 4);
  RegistrationProblems().pop_back();
}

TEST_CASE("file stems", "[registry]") {
  CHECK(FileStem("methods/uce.cc") == "uce");
  CHECK(FileStem("uce.cc") == "uce");
  CHECK(FileStem("/a.b/uce") == "uce");
  CHECK(FileStem("a/uce.v2.cc") == "uce.v2");
  CHECK(FileStem("") == "");
}

}  // namespace
}  // namespace excise
