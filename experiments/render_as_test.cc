#include "experiments/render_as.h"

#include <catch2/catch.hpp>
#include <map>

#include "core/files.h"
#include "core/read_file.h"
#include "experiments/page/page_figures.h"
#include "experiments/results/read_results.h"
#include "tests/testdata.h"

namespace excise {

TEST_CASE("every committed table is printed again from its JSON, byte for byte") {
  for (const std::string name :
       {"table1/table1", "table1/table1_full", "table1/table1_adaptive",
        "table1/table1_adaptive_all", "table2/table2", "table3/table3", "table4/table4"}) {
    const std::filesystem::path file = RepoFile("results/" + name + ".json");
    const Results results = LoadResults(file);
    const Document document = DescribeTable(results);
    for (const std::string format : {"md", "tex", "csv", "json"}) {
      std::filesystem::path beside = file;
      INFO(name << "." << format);
      CHECK(RenderAs(format, document, results, {}) == ReadFile(beside.replace_extension(format)));
    }
  }
  const Results results = LoadResults(RepoFile("results/table4/table4.json"));
  const std::map<std::string, std::string> plots = PlotFiles(results);
  CHECK(plots.size() == 2);
  for (const auto& [name, figure] : plots) {
    INFO(name);
    CHECK(figure == ReadFile(RepoFile("results/table4/table4_front" + name + ".svg")));
  }
}

}  // namespace excise
