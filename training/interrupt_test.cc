// An interrupted training: a process of its own, because a signal cannot be taken back.
#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>

#include "core/progress.h"
#include "tests/testdata.h"
#include "training/trainer.h"

namespace excise {
namespace {

TrainResult Run(const std::filesystem::path& checkpoint, int64_t signal_at, int signal) {
  StateDict net;
  net.Set("p", at::zeros({3}));
  TrainSpec spec;
  spec.steps = 5;
  spec.optimizer.lr = 0.1;
  spec.checkpoint = checkpoint;  // checkpoint_every 0: only the interrupt writes
  return Train(net, {"p"}, spec, [=](const StateDict& w, int64_t step, int64_t) {
    if (step == signal_at) raise(signal);
    return (w.Get("p") - static_cast<double>(step + 1)).square().sum();
  });
}

TEST_CASE("SIGINT and SIGTERM finish the step, checkpoint and leave; the next run goes on") {
  // Both children come before the first backward pass here: autograd refuses to run in a fork of a
  // process that has used it.
  const int signals[] = {SIGINT, SIGTERM};
  const std::filesystem::path folder = TestFolder("interrupt");
  for (const int signal : signals) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      InstallInterruptHandlers();
      int code = 1;
      try {
        Run(folder / std::to_string(signal), 2, signal);
      } catch (const Interrupted&) {
        code = InterruptExitCode();
      } catch (...) {
        code = 2;
      }
      _exit(code);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + signal);
  }
  const TrainResult whole = Run({}, -1, 0);
  for (const int signal : signals) {
    const std::filesystem::path file = folder / std::to_string(signal);
    REQUIRE(std::filesystem::exists(file));
    // Steps 0 to 2 are done: going on never comes to step 2 again.
    const TrainResult resumed = Run(file, 2, SIGKILL);
    CHECK(resumed.weights.Get("p").equal(whole.weights.Get("p")));
    CHECK(resumed.losses == whole.losses);
  }
}

}  // namespace
}  // namespace excise
