#include "models/formats/scheduler_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/progress.h"
#include "core/read_file.h"
#include "core/registry.h"
#include "models/formats/config_reader.h"

namespace excise {
namespace {

constexpr double kPi = 3.14159265358979323846;

struct SchedulerClass {
  const char* name;
  const char* class_name;  // diffusers'
};
constexpr SchedulerClass kClasses[] = {
    {"ddim", "DDIMScheduler"},
    {"ddpm", "DDPMScheduler"},
    {"dpmsolver", "DPMSolverMultistepScheduler"},
    {"euler", "EulerDiscreteScheduler"},
    {"euler_ancestral", "EulerAncestralDiscreteScheduler"},
    {"lms", "LMSDiscreteScheduler"},
    {"pndm", "PNDMScheduler"},
};

const SchedulerClass* FindClass(std::string_view name) {
  for (const SchedulerClass& entry : kClasses) {
    if (name == entry.name || name == entry.class_name) return &entry;
  }
  return nullptr;
}

// Every key of diffusers' samplers for text to image (0.42.1): a file may carry those of others,
// because one file serves them all.
constexpr const char* kKnownKeys[] = {"algorithm_type",
                                      "beta_end",
                                      "beta_schedule",
                                      "beta_start",
                                      "clip_sample",
                                      "clip_sample_range",
                                      "disable_corrector",
                                      "dynamic_thresholding_ratio",
                                      "euler_at_final",
                                      "final_sigmas_type",
                                      "flow_shift",
                                      "interpolation_type",
                                      "lambda_min_clipped",
                                      "lower_order_final",
                                      "predict_x0",
                                      "rescale_betas_zero_snr",
                                      "rho",
                                      "sample_max_value",
                                      "set_alpha_to_one",
                                      "shift_terminal",
                                      "sigma_data",
                                      "sigma_max",
                                      "sigma_min",
                                      "sigma_schedule",
                                      "skip_prk_steps",
                                      "solver_order",
                                      "solver_p",
                                      "solver_type",
                                      "thresholding",
                                      "time_shift_type",
                                      "timestep_type",
                                      "use_beta_sigmas",
                                      "use_dynamic_shifting",
                                      "use_exponential_sigmas",
                                      "use_flow_sigmas",
                                      "use_karras_sigmas",
                                      "use_lu_lambdas",
                                      "variance_type"};

double Positive(ConfigReader* reader, const std::string& key, double fallback) {
  const double value = reader->Real(key, fallback);
  if (!(value > 0) || !std::isfinite(value)) reader->Fail(key, "a positive number is expected");
  return value;
}

void ReadThresholds(ConfigReader* reader, SchedulerConfig* result) {
  result->thresholding = reader->Bool("thresholding", false);
  result->dynamic_thresholding_ratio = reader->Real("dynamic_thresholding_ratio", 0.995);
  result->sample_max_value = reader->Real("sample_max_value", 1.0);
  if (!(result->dynamic_thresholding_ratio >= 0 && result->dynamic_thresholding_ratio <= 1)) {
    reader->Fail("dynamic_thresholding_ratio", "a number in [0, 1] is expected");
  }
}

void ReadSigmaSchedule(ConfigReader* reader, SchedulerConfig* result) {
  const bool karras = reader->Bool("use_karras_sigmas", false);
  const bool exponential = reader->Bool("use_exponential_sigmas", false);
  if (karras && exponential) reader->Fail("use_karras_sigmas", "so is use_exponential_sigmas");
  if (karras) result->sigma_schedule = "karras";
  if (exponential) result->sigma_schedule = "exponential";
  reader->Only("use_beta_sigmas", false);
}

void ReadEuler(ConfigReader* reader, SchedulerConfig* result) {
  ReadSigmaSchedule(reader, result);
  result->final_sigmas_type = reader->Choice("final_sigmas_type", "zero", {"zero", "sigma_min"});
  if (reader->Has("sigma_min")) result->sigma_min = Positive(reader, "sigma_min", 0);
  if (reader->Has("sigma_max")) result->sigma_max = Positive(reader, "sigma_max", 0);
  reader->Only("interpolation_type", "linear");
  reader->Only("timestep_type", "discrete");
}

void ReadDpmSolver(ConfigReader* reader, SchedulerConfig* result) {
  ReadSigmaSchedule(reader, result);
  ReadThresholds(reader, result);
  result->final_sigmas_type = reader->Choice("final_sigmas_type", "zero", {"zero", "sigma_min"});
  result->solver_order = reader->Int("solver_order", 2);
  if (result->solver_order > 3) reader->Fail("solver_order", "1, 2 and 3 are supported");
  result->algorithm_type =
      reader->Choice("algorithm_type", "dpmsolver++", {"dpmsolver++", "sde-dpmsolver++", "deis"});
  // What diffusers makes of configurations of other multistep samplers.
  if (result->algorithm_type == "deis") result->algorithm_type = "dpmsolver++";
  result->solver_type =
      reader->Choice("solver_type", "midpoint", {"midpoint", "heun", "logrho", "bh1", "bh2"});
  if (result->solver_type != "heun") result->solver_type = "midpoint";
  result->lower_order_final = reader->Bool("lower_order_final", true);
  result->euler_at_final = reader->Bool("euler_at_final", false);
  result->lambda_min_clipped = reader->Real("lambda_min_clipped", result->lambda_min_clipped);
  for (const char* key : {"use_lu_lambdas", "use_flow_sigmas", "use_dynamic_shifting"}) {
    reader->Only(key, false);
  }
  reader->Only("variance_type", nullptr);
}

void ReadOwnKeys(ConfigReader* reader, SchedulerConfig* result) {
  const std::string& name = result->name;
  if (name == "ddim" || name == "pndm") {
    result->set_alpha_to_one = reader->Bool("set_alpha_to_one", name == "ddim");
  }
  if (name == "pndm") result->skip_prk_steps = reader->Bool("skip_prk_steps", false);
  if (name == "ddim" || name == "ddpm") {
    result->clip_sample = reader->Bool("clip_sample", true);
    result->clip_sample_range = Positive(reader, "clip_sample_range", 1.0);
    ReadThresholds(reader, result);
  }
  if (name == "ddpm") {
    // In diffusers "_log" changes how the fixed_small variance is computed, not its value, and
    // makes the fixed_large one the square root of a negative number.
    result->variance_type = reader->Choice("variance_type", "fixed_small",
                                           {"fixed_small", "fixed_small_log", "fixed_large"});
    if (result->variance_type == "fixed_small_log") result->variance_type = "fixed_small";
  }
  if (name == "lms") ReadSigmaSchedule(reader, result);
  if (name == "euler") ReadEuler(reader, result);
  if (name == "dpmsolver") ReadDpmSolver(reader, result);
  if (name != "pndm" && name != "lms") {
    result->rescale_betas_zero_snr = reader->Bool("rescale_betas_zero_snr", false);
  }
}

std::vector<std::string> Predictions(const std::string& scheduler) {
  if (scheduler == "pndm" || scheduler == "euler_ancestral") return {"epsilon", "v_prediction"};
  return {"epsilon", "v_prediction", "sample"};
}

std::vector<double> Betas(const SchedulerConfig& config) {
  const int64_t n = config.num_train_timesteps;
  const auto linear = [&](double from, double to, int64_t i) {
    return n == 1 ? from : from + (to - from) * static_cast<double>(i) / static_cast<double>(n - 1);
  };
  // Nichol and Dhariwal, ICML 2021, arXiv 2102.09672, equation 17.
  const auto cosine = [&](int64_t i) {
    const double time = (static_cast<double>(i) / static_cast<double>(n) + 0.008) / 1.008;
    return std::pow(std::cos(time * kPi / 2), 2);
  };
  std::vector<double> betas(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    double& beta = betas[static_cast<size_t>(i)];
    if (config.beta_schedule == "linear") {
      beta = linear(config.beta_start, config.beta_end, i);
    } else if (config.beta_schedule == "scaled_linear") {
      beta = std::pow(linear(std::sqrt(config.beta_start), std::sqrt(config.beta_end), i), 2);
    } else if (config.beta_schedule == "squaredcos_cap_v2") {
      beta = std::min(1 - cosine(i + 1) / cosine(i), 0.999);
    } else {
      throw Error(
          fmt::format("Scheduler: beta_schedule '{}' is not supported.", config.beta_schedule));
    }
  }
  return betas;
}

// Ascending from `first` to `last`, each half counted from its own end, as torch.linspace does.
std::vector<float> LinspaceSingle(double first, double last, int64_t n) {
  const auto from = static_cast<float>(first), to = static_cast<float>(last);
  const float step = n == 1 ? 0.0F : (to - from) / static_cast<float>(n - 1);
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(i < n / 2 ? from + step * static_cast<float>(i)
                               : to - step * static_cast<float>(n - 1 - i));
  }
  if (n == 1) values.front() = from;
  return values;
}

// Products of (1 - beta), accumulated in double precision, each rounded.
std::vector<float> Products(const std::vector<float>& betas) {
  std::vector<float> products;
  double product = 1;
  for (const float beta : betas) {
    product *= static_cast<double>(1 - beta);
    products.push_back(static_cast<float>(product));
  }
  return products;
}

// Algorithm 1 of arXiv 2305.08891: square roots of abar, shifted and scaled so that the last is 0.
std::vector<float> ZeroTerminalSnr(const std::vector<float>& alphas_cumprod) {
  std::vector<float> squares;
  const float first = std::sqrt(alphas_cumprod.front()), last = std::sqrt(alphas_cumprod.back());
  for (const float value : alphas_cumprod) {
    const float root = (std::sqrt(value) - last) * (first / (first - last));
    squares.push_back(root * root);
  }
  std::vector<float> betas = {1 - squares.front()};
  for (size_t i = 1; i < squares.size(); ++i) betas.push_back(1 - squares[i] / squares[i - 1]);
  return betas;
}

// The file's text with NaN, Infinity and -Infinity outside strings replaced by null.
std::string WithoutInfinities(const std::string& text) {
  std::string result;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    if (in_string && text[i] == '\\' && i + 1 < text.size()) {
      result.append(text, i, 2);
      i += 2;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    bool replaced = false;
    for (const std::string_view word : {"-Infinity", "Infinity", "NaN"}) {
      if (in_string || text.compare(i, word.size(), word) != 0) continue;
      result += "null";
      i += word.size();
      replaced = true;
      break;
    }
    if (!replaced) result += text[i++];
  }
  return result;
}

// scheduler_config.json, in which Python writes infinities: no JSON, so null here.
Json ReadWithInfinities(const std::filesystem::path& path) {
  const std::string text = ReadFile(path);
  const bool plain =
      text.find("Infinity") == std::string::npos && text.find("NaN") == std::string::npos;
  return plain ? ReadJsonFile(path) : ParseJson(WithoutInfinities(text), path.string());
}

}  // namespace

std::vector<std::string> SchedulerNames() {
  std::vector<std::string> names;
  for (const SchedulerClass& entry : kClasses) names.emplace_back(entry.name);
  return names;
}

std::string CheckedSchedulerName(std::string_view name) {
  const SchedulerClass* found = FindClass(name);
  if (found == nullptr) ThrowUnknownName("scheduler", name, SchedulerNames());
  return found->name;
}

SchedulerConfig ParseSchedulerConfig(const Json& config, std::string_view origin) {
  ConfigReader reader(config, origin);
  std::vector<std::string> class_names;
  for (const SchedulerClass& entry : kClasses) class_names.emplace_back(entry.class_name);
  SchedulerConfig result;
  result.name = FindClass(reader.Choice("_class_name", "", class_names))->name;
  result.file = config;
  const bool by_sigma = result.name != "ddim" && result.name != "ddpm" && result.name != "pndm";
  result.num_train_timesteps = reader.Int("num_train_timesteps", 1000, 1, 100'000);
  result.steps_offset = reader.Int("steps_offset", 0, 0);
  result.beta_start = reader.Real("beta_start", 0.0001);
  result.beta_end = reader.Real("beta_end", 0.02);
  result.beta_schedule =
      reader.Choice("beta_schedule", "linear", {"linear", "scaled_linear", "squaredcos_cap_v2"});
  result.prediction_type = reader.Choice("prediction_type", "epsilon", Predictions(result.name));
  result.timestep_spacing = reader.Choice("timestep_spacing", by_sigma ? "linspace" : "leading",
                                          {"leading", "trailing", "linspace"});
  reader.Only("trained_betas", nullptr);
  ReadOwnKeys(&reader, &result);
  for (const char* key : kKnownKeys) reader.Ignore(key);
  reader.Finish();
  if (!(result.beta_start > 0 && result.beta_end < 1 && result.beta_start <= result.beta_end)) {
    reader.Fail("beta_start", "0 < beta_start <= beta_end < 1 is expected");
  }
  return result;
}

SchedulerConfig ReadSchedulerConfig(const std::filesystem::path& path) {
  const std::string origin = path.string();
  SchedulerConfig config = ParseSchedulerConfig(ReadWithInfinities(path), origin);
  if (config.steps_offset != 1) {
    LogWarning(fmt::format("{}: steps_offset is {}; 1 is used, as in diffusers' pipeline.", origin,
                           config.steps_offset));
    config.steps_offset = 1;
    if (config.file.contains("steps_offset")) config.file["steps_offset"] = 1;
  }
  if (config.clip_sample) {
    LogWarning(
        fmt::format("{}: clip_sample is true; false is used, as in diffusers' pipeline.", origin));
    config.clip_sample = false;
  }
  if (config.file.contains("clip_sample")) config.file["clip_sample"] = false;
  return config;
}

Json SchedulerConfigToJson(const SchedulerConfig& config) {
  const std::string& name = config.name;
  const SchedulerClass* found = FindClass(name);
  Json json{{"_class_name", found == nullptr ? name : found->class_name},
            {"beta_end", config.beta_end},
            {"beta_schedule", config.beta_schedule},
            {"beta_start", config.beta_start},
            {"clip_sample", config.clip_sample},
            {"num_train_timesteps", config.num_train_timesteps},
            {"prediction_type", config.prediction_type},
            {"set_alpha_to_one", config.set_alpha_to_one},
            {"skip_prk_steps", config.skip_prk_steps},
            {"steps_offset", config.steps_offset},
            {"timestep_spacing", config.timestep_spacing},
            {"trained_betas", nullptr}};
  if (config.rescale_betas_zero_snr) json["rescale_betas_zero_snr"] = true;
  if (name == "ddim" || name == "ddpm") json["clip_sample_range"] = config.clip_sample_range;
  if (config.thresholding) {
    json["thresholding"] = true;
    json["dynamic_thresholding_ratio"] = config.dynamic_thresholding_ratio;
    json["sample_max_value"] = config.sample_max_value;
  }
  if (name == "ddpm") json["variance_type"] = config.variance_type;
  if (config.sigma_schedule != "timesteps") json["use_" + config.sigma_schedule + "_sigmas"] = true;
  if (config.sigma_min > 0) json["sigma_min"] = config.sigma_min;
  if (config.sigma_max > 0) json["sigma_max"] = config.sigma_max;
  if (name == "euler" || name == "dpmsolver") json["final_sigmas_type"] = config.final_sigmas_type;
  if (name == "dpmsolver") {
    json["solver_order"] = config.solver_order;
    json["algorithm_type"] = config.algorithm_type;
    json["solver_type"] = config.solver_type;
    json["lower_order_final"] = config.lower_order_final;
    json["euler_at_final"] = config.euler_at_final;
    if (std::isfinite(config.lambda_min_clipped)) {
      json["lambda_min_clipped"] = config.lambda_min_clipped;
    }
  }
  return json;
}

SchedulerConfig WithScheduler(const SchedulerConfig& config, std::string_view name) {
  if (name.empty()) return config;
  const std::string checked = CheckedSchedulerName(name);
  Json file = config.file.is_null() ? SchedulerConfigToJson(config) : config.file;
  file["_class_name"] = FindClass(checked)->class_name;
  return ParseSchedulerConfig(file, fmt::format("scheduler_config.json for '{}'", checked));
}

std::vector<double> AlphasCumprod(const SchedulerConfig& config) {
  if (config.rescale_betas_zero_snr) return SinglePrecisionAlphasCumprod(config);
  std::vector<double> products = Betas(config);
  double product = 1;
  for (double& value : products) value = product *= 1 - value;
  return products;
}

std::vector<double> SinglePrecisionAlphasCumprod(const SchedulerConfig& config) {
  const int64_t n = config.num_train_timesteps;
  std::vector<float> betas;
  if (config.beta_schedule == "linear") {
    betas = LinspaceSingle(config.beta_start, config.beta_end, n);
  } else if (config.beta_schedule == "scaled_linear") {
    betas = LinspaceSingle(std::sqrt(config.beta_start), std::sqrt(config.beta_end), n);
    for (float& beta : betas) beta *= beta;
  } else {
    for (const double beta : Betas(config)) betas.push_back(static_cast<float>(beta));
  }
  if (config.rescale_betas_zero_snr) betas = ZeroTerminalSnr(Products(betas));
  const std::vector<float> products = Products(betas);
  return {products.begin(), products.end()};
}

}  // namespace excise
