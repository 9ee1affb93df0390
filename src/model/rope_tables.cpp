#include <grist/model/rope_tables.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace grist {
namespace {

std::vector<float> unscaled(double theta, Index rotary_dim, const std::string& file) {
  if (!(theta > 0)) throw InputError("{}: the base of RoPE is {}, expected more than 0", file, theta);
  if (rotary_dim < 2 || rotary_dim % 2 != 0)
    throw InputError("{}: RoPE turns pairs; {} elements of a head are none", file, rotary_dim);
  std::vector<float> frequencies(static_cast<std::size_t>(rotary_dim / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
    frequencies[i] = 1.0F / std::pow(static_cast<float>(theta), exponent);
  }
  return frequencies;
}

void check_factor(double factor, const std::string& file) {
  if (!(factor > 0) || !std::isfinite(factor))
    throw InputError("{}: the factor of RoPE is {}, expected more than 0", file, factor);
}

/// LLaMA-3.1: wavelengths over the old context are stretched by the factor, short ones kept, with a ramp between.
void scale_llama3(ConfigReader& scaling, std::vector<float>& frequencies) {
  const float factor = scaling.get<float>("factor");
  const float low = scaling.get<float>("low_freq_factor");
  const float high = scaling.get<float>("high_freq_factor");
  const auto old_context = static_cast<float>(scaling.positive("original_max_position_embeddings"));
  if (!(factor > 0) || !(high > low))
    throw InputError("{}: factor {} must be positive and high_freq_factor {} above low_freq_factor {}", scaling.file(),
                     factor, high, low);
  for (float& frequency : frequencies) {
    const float wavelength = 2 * std::numbers::pi_v<float> / frequency;
    if (wavelength > old_context / low) {
      frequency /= factor;
    } else if (wavelength >= old_context / high) {
      const float smooth = (old_context / wavelength - low) / (high - low);
      frequency = (1 - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

struct Yarn {
  double theta, factor, old_context, beta_fast = 32, beta_slow = 1;
  bool truncate = true;
};

/// YaRN (Peng et al. 2023): pairs that turn often keep their frequency, those that turn seldom are stretched by the
/// factor, with a ramp between.
void scale_yarn(const Yarn& yarn, std::vector<float>& frequencies) {
  const double dim = 2.0 * static_cast<double>(frequencies.size());
  const auto pair_that_turns = [&](double times) {
    return dim * std::log(yarn.old_context / (times * 2 * std::numbers::pi)) / (2 * std::log(yarn.theta));
  };
  double low = pair_that_turns(yarn.beta_fast), high = pair_that_turns(yarn.beta_slow);
  if (yarn.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const auto ramp = static_cast<float>(std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
    frequencies[i] = frequencies[i] / static_cast<float>(yarn.factor) * ramp + frequencies[i] * (1 - ramp);
  }
}

/// How much sharper attention has to be over a stretched context.
double yarn_scale(double factor, double mscale) { return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0; }

void read_yarn(ConfigReader& scaling, double theta, int max_positions, RopeTable& table) {
  scaling.set_default("original_max_position_embeddings", max_positions);
  const double old_context = scaling.positive("original_max_position_embeddings");
  const double factor = scaling.get_or<double>("factor", max_positions / old_context);
  check_factor(factor, scaling.file());
  const double mscale = scaling.get_or<double>("mscale", 0), all_dims = scaling.get_or<double>("mscale_all_dim", 0);
  const double scale =
      mscale != 0 && all_dims != 0 ? yarn_scale(factor, mscale) / yarn_scale(factor, all_dims) : yarn_scale(factor, 1);
  table.scale = static_cast<float>(scaling.get_or<double>("attention_factor", scale));
  scale_yarn({theta, factor, old_context, scaling.get_or<double>("beta_fast", 32),
              scaling.get_or<double>("beta_slow", 1), scaling.get_or<bool>("truncate", true)},
             table.inverse_frequencies);
}

std::vector<float> divided(std::vector<float> frequencies, const std::vector<float>& factors, const std::string& what) {
  if (factors.size() != frequencies.size())
    throw InputError("{} holds {} factors, expected {}", what, factors.size(), frequencies.size());
  for (std::size_t i = 0; i < factors.size(); ++i) frequencies[i] /= factors[i];
  return frequencies;
}

/// LongRoPE (Ding et al. 2024): every pair has a factor of its own, other ones in long sequences.
void scale_longrope(const std::vector<float>& short_factors, const std::vector<float>& long_factors, double factor,
                    int old_context, const std::string& file, RopeTable& table) {
  table.long_frequencies = divided(table.inverse_frequencies, long_factors, file + ": long_factor");
  table.inverse_frequencies = divided(table.inverse_frequencies, short_factors, file + ": short_factor");
  table.long_after = old_context;
  table.scale = factor <= 1
                    ? 1.0F
                    : static_cast<float>(std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(old_context))));
}

void read_longrope(ConfigReader& scaling, int max_positions, RopeTable& table) {
  const int old_context = scaling.positive("original_max_position_embeddings");
  const double factor = scaling.get_or<double>("factor", static_cast<double>(max_positions) / old_context);
  scale_longrope(scaling.get<std::vector<float>>("short_factor"), scaling.get<std::vector<float>>("long_factor"),
                 factor, old_context, scaling.file(), table);
  table.scale = static_cast<float>(scaling.get_or<double>("attention_factor", table.scale));
}

}  // namespace

RopeTable rope_table(ConfigReader* scaling, double theta, int head_dim, int max_positions, const std::string& file) {
  RopeTable table;
  if (scaling == nullptr) {
    table.inverse_frequencies = unscaled(theta, head_dim, file);
    return table;
  }
  theta = scaling->get_or<double>("rope_theta", theta);
  const double partial = scaling->get_or<double>("partial_rotary_factor", 1.0);
  if (!(partial > 0 && partial <= 1))
    throw InputError("{}: partial_rotary_factor is {}, expected more than 0 and at most 1", file, partial);
  table.inverse_frequencies = unscaled(theta, static_cast<Index>(head_dim * partial), file);
  const auto older_kind = scaling->get_or<std::string>("type", "default");
  const auto kind = scaling->get_or<std::string>("rope_type", older_kind);
  if (kind == "llama3") {
    scale_llama3(*scaling, table.inverse_frequencies);
  } else if (kind == "linear") {
    const auto factor = scaling->get<double>("factor");
    check_factor(factor, scaling->file());
    for (float& frequency : table.inverse_frequencies) frequency /= static_cast<float>(factor);
  } else if (kind == "dynamic") {
    table.theta = static_cast<float>(theta);
    table.factor = static_cast<float>(scaling->get<double>("factor"));
    check_factor(table.factor, scaling->file());
    scaling->ignore({"original_max_position_embeddings"});  // as the reference does
    table.long_after = max_positions;
  } else if (kind == "yarn") {
    read_yarn(*scaling, theta, max_positions, table);
  } else if (kind == "longrope" || kind == "su") {
    read_longrope(*scaling, max_positions, table);
  } else if (kind == "default") {
    scaling->ignore({"factor"});
  } else {
    throw InputError("{}: RoPE scaling '{}' is not known; known are default, linear, dynamic, yarn, longrope, llama3",
                     scaling->file(), kind);
  }
  scaling->finish();
  return table;
}

RopeTable rope_table(ConfigReader& config, int head_dim, int max_positions) {
  auto parameters = config.object("rope_parameters");
  auto older = config.object("rope_scaling");
  if (parameters && older && !(*parameters == *older))
    throw InputError("{}: rope_parameters and rope_scaling are both there and differ; one of them should go",
                     config.file());
  auto& scaling = parameters ? parameters : older;
  const auto theta = config.get_or<double>("rope_theta", 10000.0);
  // Phi-3's form: these stand beside the object.
  const auto partial = config.find<double>("partial_rotary_factor");
  const auto old_context = config.find<int>("original_max_position_embeddings");
  if (!scaling && (partial || old_context)) scaling = ConfigReader(nlohmann::json::object(), config.file());
  if (partial) scaling->set_default("partial_rotary_factor", *partial);
  if (old_context) {
    // Which of two counts differs between versions of transformers.
    if (scaling->has("original_max_position_embeddings"))
      scaling->expect_value("original_max_position_embeddings", *old_context);
    scaling->set_default("original_max_position_embeddings", *old_context);
  }
  if (scaling) scaling->ignore({"original_max_position_embeddings"});
  return rope_table(scaling ? &*scaling : nullptr, theta, head_dim, max_positions, config.file());
}

RopeTable rope_table(GgufReader& gguf, int head_dim, double theta) {
  theta = gguf.get_or<double>("rope.freq_base", theta);
  const auto rotary_dim = gguf.positive_or("rope.dimension_count", head_dim);
  RopeTable table;
  table.inverse_frequencies = unscaled(theta, rotary_dim, gguf.file());
  const double linear = gguf.get_or<double>("rope.scale_linear", 1);  // what old files have in place of scaling.type
  const double factor = gguf.get_or<double>("rope.scaling.factor", linear);
  const auto kind = gguf.get_or<std::string>("rope.scaling.type", factor != 1 ? "linear" : "none");
  const auto old_context = gguf.get_or<std::int64_t>("rope.scaling.original_context_length", 0);
  const auto attention_factor = static_cast<float>(gguf.get_or<double>("rope.scaling.attn_factor", 1));
  table.scale = attention_factor;  // whatever the scaling
  const auto factors_of = [&](const char* name) -> std::optional<std::vector<float>> {
    const auto* tensor = gguf.weights().find(name);
    if (tensor == nullptr) return std::nullopt;
    std::vector<float> factors(static_cast<std::size_t>(tensor->columns()));
    if (tensor->rows() != 1)
      throw InputError("{}: tensor '{}' has {} rows, expected one", gguf.file(), name, tensor->rows());
    gguf.weights().read(*tensor, {0, 1, 0, tensor->columns()}, factors.data());
    return factors;
  };
  if (kind == "linear") {
    check_factor(factor, gguf.file());
    for (float& frequency : table.inverse_frequencies) frequency /= static_cast<float>(factor);
  } else if (kind == "yarn") {
    check_factor(factor, gguf.file());
    const double context = old_context > 0 ? static_cast<double>(old_context) : gguf.positive("context_length");
    scale_yarn({theta, factor, context, gguf.get_or<double>("rope.scaling.yarn_beta_fast", 32),
                gguf.get_or<double>("rope.scaling.yarn_beta_slow", 1)}, table.inverse_frequencies);
    table.scale *= static_cast<float>(yarn_scale(factor, 1));
  } else if (kind != "none" && kind != "longrope") {
    throw InputError("{}: RoPE scaling '{}' is not known; known are none, linear, yarn, longrope", gguf.file(), kind);
  }
  if (const auto factors = factors_of("rope_freqs.weight"))
    table.inverse_frequencies =
        divided(table.inverse_frequencies, *factors, gguf.file() + ": tensor 'rope_freqs.weight'");
  const auto short_factors = factors_of("rope_factors_short.weight"),
             long_factors = factors_of("rope_factors_long.weight");
  if (short_factors && long_factors) {
    scale_longrope(*short_factors, *long_factors, 1, static_cast<int>(old_context), gguf.file(), table);
    table.scale = attention_factor;
  }
  gguf.ignore({"rope.scaling.finetuned"});
  return table;
}

}  // namespace grist
