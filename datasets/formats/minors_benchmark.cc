// The filter that every prompt of a user's file goes through: prompts a second on one core. At
// least 100,000 are promised for plain ones.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "datasets/formats/minors.h"

namespace excise {
namespace {

void Filter(benchmark::State& state, const std::vector<std::string>& prompts) {
  for (auto _ : state) {
    for (const std::string& prompt : prompts) benchmark::DoNotOptimize(MentionsMinor(prompt));
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(prompts.size()));
}

void BM_PlainPrompts(benchmark::State& state) {
  Filter(state, {"A bicycle replica with a clock as the front wheel.",
                 "A black Honda motorcycle parked in front of a garage.",
                 "a photo of a poodle in the snow, 85mm, f/1.8, best quality, highly detailed",
                 "an oil painting of an old lighthouse in a storm, by J. M. W. Turner", "a lion",
                 "two men play chess under a tree in the park while others watch them"});
}

// Those that tell a number of years are searched for an age.
void BM_PromptsWithAges(benchmark::State& state) {
  Filter(state, {"a 25 year old whisky on a shelf of an old bar in the year 1999",
                 "a high school building at dusk, aged bricks, 12 years ago"});
}

void BM_PromptsBeyondAscii(benchmark::State& state) {
  Filter(state, {"un café crème à la terrasse d'un bistrot près de la gare",
                 "собака на снегу у старого дома", "一只狗在雪地里", "𝓪 𝓬𝓪𝓽 🐱 on a sofa"});
}

BENCHMARK(BM_PlainPrompts);
BENCHMARK(BM_PromptsWithAges);
BENCHMARK(BM_PromptsBeyondAscii);

}  // namespace
}  // namespace excise
