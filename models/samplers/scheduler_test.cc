#include "models/samplers/scheduler.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <fstream>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/random.h"
#include "models/tensors/noise.h"
#include "tests/testdata.h"

namespace excise {
namespace {

SchedulerConfig StableDiffusion(const std::string& name) {
  SchedulerConfig config;
  config.name = name;
  return config;
}

// The configuration of diffusers' scheduler tests.
SchedulerConfig TestConfig(const std::string& name) {
  Json file = SchedulerConfigToJson(StableDiffusion(name));
  file = Json{{"_class_name", file["_class_name"]}};
  SchedulerConfig config = ParseSchedulerConfig(file, "test");
  REQUIRE(config.beta_start == 0.0001);
  REQUIRE(config.beta_schedule == "linear");
  REQUIRE(config.clip_sample == (name != "pndm"));
  REQUIRE(config.skip_prk_steps == (name != "pndm"));  // read for PNDM alone
  return config;
}

at::Tensor Normal(at::IntArrayRef shape, const char* name, at::ScalarType dtype = at::kDouble) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  std::vector<float> values(static_cast<size_t>(n));
  Philox(StreamKey{7, name}).FillNormal(values.data(), values.size());
  return at::from_blob(values.data(), shape, at::kFloat).to(dtype, false, true);
}

// diffusers' dummy sample: 0 .. n-1 over n, laid out (3, 8, 8, 4), batch last.
at::Tensor DummySample(bool flipped) {
  const int64_t n = 4 * 3 * 8 * 8;
  at::Tensor values = at::arange(n, at::kFloat);
  if (flipped) values = (n - 1) - values;
  return (values / n).reshape({3, 8, 8, 4}).permute({3, 0, 1, 2}).contiguous();
}

// sum and mean of |sample| after a full loop with diffusers' dummy model.
std::pair<double, double> FullLoop(const SchedulerConfig& config, size_t first) {
  // diffusers' test of DDPM walks every timestep, with noise of torch's generator.
  const auto noise = [draw = TorchCpuNoise(0)](size_t, const at::Tensor& like) {
    return draw(like.sizes());
  };
  const auto sampler =
      config.name == "ddpm" ? MakeSampler(config, 1000, {0, noise}) : MakeSampler(config, 10);
  at::Tensor x = DummySample(false);
  if (first > 0) {
    x = AddNoise(config, x, DummySample(true),
                 at::tensor(static_cast<int64_t>(sampler->timesteps().at(first))));
  }
  for (size_t i = first; i < sampler->timesteps().size(); ++i) {
    const double t = sampler->timesteps()[i];
    x = sampler->Step(x * t / (t + 1), i, x);
  }
  return {x.abs().sum().item<double>(), x.abs().mean().item<double>()};
}

struct Golden {
  double sum = 0, sum_tolerance = 0, mean = 0, mean_tolerance = 0;
};

std::optional<Golden> FindGolden(const std::string& test_class, const std::string& test) {
  const auto path = SharedFile("goldens/scheduler_goldens.csv");
  if (!path) return std::nullopt;
  std::ifstream file(*path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.find("," + test_class + "," + test + ",") == std::string::npos) continue;
    Golden golden;
    const std::string expected = line.substr(line.rfind("sum="));
    REQUIRE(std::sscanf(expected.c_str(), "sum=%lf (tol %lf) | mean=%lf (tol %lf)", &golden.sum,
                        &golden.sum_tolerance, &golden.mean, &golden.mean_tolerance) == 4);
    return golden;
  }
  FAIL("no golden row for " << test_class << " " << test);
  return std::nullopt;
}

void CheckGolden(const SchedulerConfig& config, const std::string& test, size_t first = 0) {
  CAPTURE(config.name, test);
  const std::string prefix = config.name == "ddim"   ? "DDIM"
                             : config.name == "ddpm" ? "DDPM"
                                                     : "PNDM";
  const std::string test_class = prefix + "SchedulerTest";
  const std::optional<Golden> golden = FindGolden(test_class, test);
  if (!golden) {
    WARN("goldens/scheduler_goldens.csv is not here: set EXCISE_SHARED; nothing was compared");
    return;
  }
  const auto [sum, mean] = FullLoop(config, first);
  CHECK(std::abs(sum - golden->sum) < golden->sum_tolerance);
  CHECK(std::abs(mean - golden->mean) < golden->mean_tolerance);
}

}  // namespace

TEST_CASE("cumulative products of Stable Diffusion's schedule") {
  const std::vector<double> alphas = AlphasCumprod(StableDiffusion("ddim"));
  REQUIRE(alphas.size() == 1000);
  // Values of torch's float32 schedule; [501] is float64.
  CHECK(alphas[0] == Approx(.999149978).epsilon(1e-6));
  CHECK(alphas[1] == Approx(.998296022).epsilon(1e-6));
  CHECK(alphas[501] == Approx(.2749991).epsilon(1e-6));
  CHECK(alphas[981] == Approx(.00577549683).epsilon(1e-6));
  CHECK(alphas[999] == Approx(.00466009602).epsilon(1e-6));

  SchedulerConfig cosine = StableDiffusion("ddim");
  cosine.beta_schedule = "squaredcos_cap_v2";
  // The product telescopes to cos^2 ratios as long as no beta is capped.
  const auto bar = [](double t) { return std::pow(std::cos((t + .008) / 1.008 * M_PI / 2), 2); };
  CHECK(AlphasCumprod(cosine)[499] == Approx(bar(.5) / bar(0)).epsilon(1e-12));
  CHECK(AlphasCumprod(cosine)[999] ==
        Approx(AlphasCumprod(cosine)[998] * (1 - 0.999)).epsilon(1e-9));
}

TEST_CASE("timesteps") {
  using Steps = std::vector<double>;
  const SchedulerConfig ddim = StableDiffusion("ddim"), pndm = StableDiffusion("pndm");
  CHECK(MakeSampler(ddim, 4)->timesteps() == Steps{751, 501, 251, 1});
  CHECK(MakeSampler(ddim, 5)->timesteps() == Steps{801, 601, 401, 201, 1});
  CHECK(MakeSampler(ddim, 20)->timesteps().front() == 951);
  CHECK(MakeSampler(ddim, 25)->timesteps().front() == 961);
  CHECK(MakeSampler(ddim, 50)->timesteps().front() == 981);
  CHECK(MakeSampler(ddim, 50)->timesteps().back() == 1);
  CHECK(MakeSampler(pndm, 4)->timesteps() == Steps{751, 501, 501, 251, 1});
  const Steps fifty = MakeSampler(pndm, 50)->timesteps();
  CHECK(fifty.size() == 51);
  CHECK(Steps(fifty.begin(), fifty.begin() + 4) == Steps{981, 961, 961, 941});

  SchedulerConfig other = ddim;
  other.timestep_spacing = "trailing";
  CHECK(MakeSampler(other, 4)->timesteps() == Steps{999, 749, 499, 249});
  other.timestep_spacing = "linspace";
  CHECK(MakeSampler(other, 4)->timesteps() == Steps{999, 666, 333, 0});
  CHECK(MakeSampler(other, 1)->timesteps() == Steps{0});

  SchedulerConfig runge_kutta = pndm;
  runge_kutta.skip_prk_steps = false;
  runge_kutta.steps_offset = 0;
  const Steps expected{900, 850, 850, 800, 800, 750, 750, 700, 700, 650,
                       650, 600, 600, 500, 400, 300, 200, 100, 0};
  CHECK(MakeSampler(runge_kutta, 10)->timesteps() == expected);
}

TEST_CASE("step counts that a schedule cannot give are refused") {
  for (const char* name : {"ddim", "pndm"}) {
    const SchedulerConfig config = StableDiffusion(name);
    CHECK_THROWS_AS(MakeSampler(config, 0), UsageError);
    CHECK_THROWS_AS(MakeSampler(config, 1001), UsageError);
    CHECK_THROWS_AS(MakeSampler(config, 1000), UsageError);  // 999 + steps_offset
    CHECK_NOTHROW(MakeSampler(config, 1));
  }
  for (const char* name : {"euler", "lms", "dpmsolver"}) {
    const SchedulerConfig config = StableDiffusion(name);
    CHECK_THROWS_AS(MakeSampler(config, 0), UsageError);
    CHECK_THROWS_AS(MakeSampler(config, 1001), UsageError);
    CHECK_THROWS_AS(MakeSampler(config, 1000), UsageError);
  }
  SchedulerConfig runge_kutta = StableDiffusion("pndm");
  runge_kutta.skip_prk_steps = false;
  CHECK_THROWS_AS(MakeSampler(runge_kutta, 3), UsageError);
  CHECK_THROWS_WITH(MakeSampler(StableDiffusion("eulr"), 10), Catch::Contains("'euler'"));
  CHECK_THROWS_AS(MakeSampler(StableDiffusion("heun"), 10), UsageError);
  CHECK_THROWS_WITH(MakeSampler(StableDiffusion("pndm"), 10, {0.5, {}}), Catch::Contains("eta"));
  CHECK_THROWS_WITH(MakeSampler(StableDiffusion("ddim"), 10, {1.5, {}}), Catch::Contains("[0, 1]"));
  // Noise is never drawn from nowhere.
  for (const char* name : {"ddpm", "euler_ancestral"}) {
    CHECK_THROWS_WITH(MakeSampler(StableDiffusion(name), 10), Catch::Contains("adds noise"));
  }
  CHECK_THROWS_WITH(MakeSampler(StableDiffusion("ddim"), 10, {0.5, {}}),
                    Catch::Contains("adds noise"));
}

TEST_CASE("one DDIM step by hand") {
  const SchedulerConfig config = StableDiffusion("ddim");
  const auto sampler = MakeSampler(config, 50);
  const double abar = AlphasCumprod(config)[981], previous = AlphasCumprod(config)[961];
  const double x = 0.7, epsilon = -0.3;
  const double x0 = (x - std::sqrt(1 - abar) * epsilon) / std::sqrt(abar);
  const double expected = std::sqrt(previous) * x0 + std::sqrt(1 - previous) * epsilon;
  const auto full = [](double value) { return at::full({1, 1, 1, 1}, value, at::kDouble); };
  CHECK(sampler->Step(full(epsilon), 0, full(x)).item<double>() == Approx(expected).epsilon(1e-12));

  // The last step lands on abar[0] (set_alpha_to_one false), or on 1, which is x0 itself.
  const double last = AlphasCumprod(config)[1], first = AlphasCumprod(config)[0];
  const double last_x0 = (x - std::sqrt(1 - last) * epsilon) / std::sqrt(last);
  CHECK(sampler->Step(full(epsilon), 49, full(x)).item<double>() ==
        Approx(std::sqrt(first) * last_x0 + std::sqrt(1 - first) * epsilon).epsilon(1e-12));
  SchedulerConfig to_one = config;
  to_one.set_alpha_to_one = true;
  CHECK(MakeSampler(to_one, 50)->Step(full(epsilon), 49, full(x)).item<double>() ==
        Approx(last_x0).epsilon(1e-12));
}

TEST_CASE("a sampler that always sees the true noise returns the picture") {
  // Averages of v at different timesteps are not v, so PNDM is exact for epsilon only.
  const std::pair<const char*, const char*> cases[] = {
      {"ddim", "epsilon"}, {"ddim", "v_prediction"}, {"ddim", "sample"}, {"pndm", "epsilon"}};
  for (const auto& [name, type] : cases) {
    for (const bool skip_prk_steps : {true, false}) {
      SchedulerConfig config = StableDiffusion(name);
      config.prediction_type = type;
      config.set_alpha_to_one = true;
      config.skip_prk_steps = skip_prk_steps;
      const auto sampler = MakeSampler(config, 10);
      const at::Tensor x0 = Normal({2, 4, 2, 2}, "x0"), noise = Normal({2, 4, 2, 2}, "noise");
      at::Tensor x = AddNoise(config, x0, noise,
                              at::tensor(static_cast<int64_t>(sampler->timesteps().front())));
      for (size_t i = 0; i < sampler->timesteps().size(); ++i) {
        const at::Tensor t = at::tensor(static_cast<int64_t>(sampler->timesteps()[i]));
        const at::Tensor seen = AddNoise(config, x0, noise, t);
        x = sampler->Step(FromEpsilon(config, noise, seen, t), i, x);
      }
      CAPTURE(name, type, skip_prk_steps);
      CHECK((x - x0).norm().item<double>() < 1e-9 * x0.norm().item<double>());
    }
  }
}

TEST_CASE("conversions between predictions invert each other") {
  const at::Tensor x0 = Normal({3, 4, 2, 2}, "x0"), noise = Normal({3, 4, 2, 2}, "noise");
  const at::Tensor times = at::tensor({1, 500, 999}, at::kLong);
  for (const char* type : {"epsilon", "v_prediction", "sample"}) {
    SchedulerConfig config = StableDiffusion("ddim");
    config.prediction_type = type;
    const at::Tensor x = AddNoise(config, x0, noise, times);
    CHECK(at::allclose(EpsilonToX0(config, noise, x, times), x0, 1e-9, 1e-9));
    const at::Tensor raw = FromEpsilon(config, noise, x, times);
    CHECK(at::allclose(ToEpsilon(config, raw, x, times), noise, 1e-9, 1e-9));
    if (std::string(type) == "sample") CHECK(at::allclose(raw, x0, 1e-9, 1e-9));
    if (std::string(type) == "v_prediction") {
      const double abar = AlphasCumprod(config)[500];
      const at::Tensor v = std::sqrt(abar) * noise[1] - std::sqrt(1 - abar) * x0[1];
      CHECK(at::allclose(raw[1], v, 1e-9, 1e-9));
    }
  }
  CHECK_THROWS_AS(AddNoise(StableDiffusion("ddim"), x0, noise, at::tensor(int64_t{1000})), Error);
}

TEST_CASE("DDIM reproduces diffusers' full loops") {
  SchedulerConfig config = TestConfig("ddim");
  CheckGolden(config, "test_full_loop_no_noise");
  CheckGolden(config, "test_full_loop_with_noise", 8);
  config.prediction_type = "v_prediction";
  CheckGolden(config, "test_full_loop_with_v_prediction");
  config = TestConfig("ddim");
  config.beta_start = 0.01;
  CheckGolden(config, "test_full_loop_with_set_alpha_to_one");
  config.set_alpha_to_one = false;
  CheckGolden(config, "test_full_loop_with_no_set_alpha_to_one");
}

TEST_CASE("PNDM reproduces diffusers' full loops") {
  SchedulerConfig config = TestConfig("pndm");
  CheckGolden(config, "test_full_loop_no_noise");
  config.prediction_type = "v_prediction";
  CheckGolden(config, "test_full_loop_with_v_prediction");
  config = TestConfig("pndm");
  config.beta_start = 0.01;
  config.set_alpha_to_one = true;
  CheckGolden(config, "test_full_loop_with_set_alpha_to_one");
  config.set_alpha_to_one = false;
  CheckGolden(config, "test_full_loop_with_no_set_alpha_to_one");
}

TEST_CASE("diffusers' published DDPM loops") {
  SchedulerConfig config = TestConfig("ddpm");
  CheckGolden(config, "test_full_loop_no_noise");
  CheckGolden(config, "test_full_loop_with_noise", 998);
  config.prediction_type = "v_prediction";
  CheckGolden(config, "test_full_loop_with_v_prediction");
}

TEST_CASE("spacings and prediction types against diffusers 0.42.1") {
  // sum |x| and x.flatten()[100] after the dummy model's full loop in float64, on the schedule of
  // Stable Diffusion; diffusers' coefficients are float32, hence the tolerance.
  struct Case {
    const char *name, *spacing, *beta_schedule, *prediction_type;
    int64_t steps;
    double clip_range, sum, value;
  };
  const Case cases[] = {
      {"pndm", "leading", "scaled_linear", "epsilon", 10, 0, 201.386446, 0.273503963},
      {"pndm", "leading", "scaled_linear", "v_prediction", 10, 0, 81.2891703, 0.110399238},
      {"pndm", "leading", "scaled_linear", "epsilon", 1, 0, 381.335799, 0.517894102},
      {"pndm", "trailing", "scaled_linear", "epsilon", 7, 0, 197.437675, 0.268141117},
      {"pndm", "linspace", "scaled_linear", "epsilon", 7, 0, 234.878835, 0.318990149},
      {"ddim", "trailing", "scaled_linear", "epsilon", 7, 0, 174.0362, 0.236359455},
      {"ddim", "linspace", "scaled_linear", "epsilon", 7, 0, 215.455987, 0.292611878},
      {"ddim", "leading", "squaredcos_cap_v2", "epsilon", 10, 0, 181.658095, 0.246710788},
      {"ddim", "leading", "scaled_linear", "sample", 10, 0, 537.572651, 0.730080169},
      {"ddim", "leading", "scaled_linear", "epsilon", 10, 0.25, 143.018412, 0.24888393},
  };
  for (const Case& expected : cases) {
    SchedulerConfig config = StableDiffusion(expected.name);
    config.timestep_spacing = expected.spacing;
    config.beta_schedule = expected.beta_schedule;
    config.prediction_type = expected.prediction_type;
    config.clip_sample = expected.clip_range > 0;
    config.clip_sample_range = expected.clip_range;
    CAPTURE(expected.name, expected.spacing, expected.beta_schedule, expected.prediction_type);
    const auto sampler = MakeSampler(config, expected.steps);
    at::Tensor x = DummySample(false).to(at::kDouble);
    for (size_t i = 0; i < sampler->timesteps().size(); ++i) {
      const double t = sampler->timesteps()[i];
      x = sampler->Step(x * t / (t + 1), i, x);
    }
    CHECK(x.abs().sum().item<double>() == Approx(expected.sum).epsilon(1e-5));
    CHECK(x.flatten()[100].item<double>() == Approx(expected.value).epsilon(1e-5));
  }
}

TEST_CASE("PNDM refuses steps out of order") {
  const auto sampler = MakeSampler(StableDiffusion("pndm"), 10);
  const at::Tensor x = DummySample(false);
  CHECK_NOTHROW(sampler->Step(x, 0, x));
  CHECK_THROWS_WITH(sampler->Step(x, 0, x), Catch::Contains("new sampler for every batch"));
}

TEST_CASE("scheduler_config.json round trip") {
  for (const std::string& name : SchedulerNames()) {
    SchedulerConfig config = StableDiffusion(name);
    config.beta_end = 0.0125;
    config.steps_offset = 3;
    config.prediction_type = "v_prediction";
    config.timestep_spacing = "trailing";
    config.rescale_betas_zero_snr = name == "dpmsolver";
    config.solver_order = 3;
    config.lambda_min_clipped = -5.1;
    config.final_sigmas_type = name == "euler" ? "sigma_min" : "zero";
    config.variance_type = "fixed_large";
    const Json json = SchedulerConfigToJson(config);
    const SchedulerConfig again = ParseSchedulerConfig(json, "round trip");
    CAPTURE(json.dump());
    CHECK(SchedulerConfigToJson(again) == json);
    CHECK(again.name == name);
    CHECK(again.beta_end == 0.0125);
    if (name == "dpmsolver") CHECK(again.lambda_min_clipped == -5.1);
  }
}

TEST_CASE("what scheduler_config.json asks for and is not supported is refused by name") {
  const auto refuses = [](const char* name, const char* key, const Json& value) {
    Json json = SchedulerConfigToJson(StableDiffusion(name));
    json[key] = value;
    CAPTURE(name, key, value.dump());
    CHECK_THROWS_WITH(ParseSchedulerConfig(json, "s.json"), Catch::Contains("s.json") &&
                                                                Catch::Contains(key) &&
                                                                Catch::Contains(value.dump()));
    // Another sampler's key is no reason to refuse: one file serves them all.
    const bool shared = json.contains(key) && std::string(key) != "_class_name";
    const std::set<std::string> own = {"use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas",
                                       "solver_order",    "solver_type",    "algorithm_type"};
    if (!shared || own.count(key) == 0) return;
    json["_class_name"] = "PNDMScheduler";
    CHECK_NOTHROW(ParseSchedulerConfig(json, "s.json"));
  };
  for (const char* other :
       {"HeunDiscreteScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
        "KDPM2DiscreteScheduler", "FlowMatchEulerDiscreteScheduler", "EulerScheduler"}) {
    refuses("ddim", "_class_name", other);
  }
  for (const std::string& name : SchedulerNames()) {
    refuses(name.c_str(), "trained_betas", Json::array({0.1}));
    refuses(name.c_str(), "beta_schedule", "sigmoid");
    refuses(name.c_str(), "prediction_type", "flow_prediction");
    refuses(name.c_str(), "timestep_spacing", "karras");
    refuses(name.c_str(), "num_train_timesteps", 0);
    refuses(name.c_str(), "solver_ordr", 2);
    refuses(name.c_str(), "beta_start", -1.0);
  }
  refuses("pndm", "prediction_type", "sample");
  refuses("euler_ancestral", "prediction_type", "sample");
  refuses("ddim", "dynamic_thresholding_ratio", 1.5);
  refuses("ddpm", "variance_type", "learned_range");
  refuses("ddpm", "variance_type", "fixed_large_log");
  refuses("dpmsolver", "variance_type", "learned");
  for (const char* name : {"euler", "lms", "dpmsolver"}) refuses(name, "use_beta_sigmas", true);
  refuses("euler", "interpolation_type", "log_linear");
  refuses("euler", "timestep_type", "continuous");
  refuses("euler", "sigma_max", -1.0);
  refuses("dpmsolver", "algorithm_type", "dpmsolver");
  refuses("dpmsolver", "solver_type", "rk4");
  refuses("dpmsolver", "solver_order", 4);
  refuses("dpmsolver", "use_lu_lambdas", true);
  refuses("dpmsolver", "use_flow_sigmas", true);
  refuses("dpmsolver", "use_dynamic_shifting", true);
}

TEST_CASE("Python's infinities in scheduler_config.json are read; other bad JSON is not") {
  const auto path = TestFolder("scheduler") / "scheduler_config.json";
  const auto read = [&](const std::string& text) {
    std::ofstream(path) << text;
    return ReadSchedulerConfig(path);
  };
  const std::string head = R"({"_class_name": "DPMSolverMultistepScheduler", "steps_offset": 1, )";
  CHECK(std::isinf(read(head + R"("lambda_min_clipped": -Infinity})").lambda_min_clipped));
  CHECK(read(head + R"("lambda_min_clipped": -5.1})").lambda_min_clipped == -5.1);
  CHECK(read(head + R"("_note": "a \"NaN\" stays", "sigma_max": Infinity})").file["_note"] ==
        "a \"NaN\" stays");
  CHECK_THROWS_AS(read(head + R"("lambda_min_clipped": --Infinity})"), Error);
  CHECK_THROWS_AS(read(head), Error);
  CHECK_THROWS_WITH(ReadSchedulerConfig(path.parent_path() / "none.json"),
                    Catch::Contains("none.json"));
}

TEST_CASE("another sampler is configured from the same file, with its own class's defaults") {
  // As on the hub for Stable Diffusion 1.4: it says nothing about timestep_spacing.
  const SchedulerConfig pndm = ParseSchedulerConfig(Json{{"_class_name", "PNDMScheduler"},
                                                         {"beta_schedule", "scaled_linear"},
                                                         {"steps_offset", 1},
                                                         {"skip_prk_steps", true},
                                                         {"clip_sample", false}},
                                                    "sd14");
  CHECK(pndm.timestep_spacing == "leading");
  const SchedulerConfig euler = WithScheduler(pndm, "euler");
  CHECK(euler.name == "euler");
  CHECK(euler.timestep_spacing == "linspace");
  CHECK(euler.steps_offset == 1);
  CHECK(WithScheduler(pndm, "EulerDiscreteScheduler").name == "euler");
  CHECK_FALSE(WithScheduler(pndm, "ddim").clip_sample);  // the file says so
  CHECK(WithScheduler(pndm, "ddim").set_alpha_to_one);   // DDIM's default
  CHECK(WithScheduler(euler, "pndm").skip_prk_steps);
  CHECK(WithScheduler(pndm, "").name == "pndm");
  CHECK_THROWS_WITH(WithScheduler(pndm, "eular"), Catch::Contains("Did you mean 'euler'?"));
}

}  // namespace excise
