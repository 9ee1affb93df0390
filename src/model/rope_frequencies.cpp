#include <grist/model/rope_frequencies.hpp>

#include <grist/core/errors.hpp>

#include <cmath>
#include <numbers>

namespace grist {
namespace {

std::vector<float> unscaled(double theta, int head_dim, const std::string& file) {
  if (!(theta > 0)) throw InputError("{}: the base of RoPE is {}, expected more than 0", file, theta);
  std::vector<float> frequencies(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    frequencies[i] = 1.0F / std::pow(static_cast<float>(theta), exponent);
  }
  return frequencies;
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

}  // namespace

std::vector<float> rope_frequencies(ConfigReader& config, int head_dim) {
  auto parameters = config.object("rope_parameters");
  auto scaling = parameters ? std::move(parameters) : config.object("rope_scaling");
  const double old_theta = config.get_or<double>("rope_theta", 10000.0);
  if (!scaling) return unscaled(old_theta, head_dim, config.file());
  auto frequencies = unscaled(scaling->get_or<double>("rope_theta", old_theta), head_dim, config.file());
  const auto older_kind = scaling->get_or<std::string>("type", "default");
  const auto kind = scaling->get_or<std::string>("rope_type", older_kind);
  if (kind == "llama3") {
    scale_llama3(*scaling, frequencies);
  } else if (kind == "linear") {
    const float factor = scaling->get<float>("factor");
    for (float& frequency : frequencies) frequency /= factor;
  } else if (kind != "default") {
    throw InputError("{}: RoPE scaling '{}' is not known; known are default, linear, llama3", scaling->file(), kind);
  }
  scaling->finish();
  return frequencies;
}

std::vector<float> rope_frequencies(GgufReader& gguf, int head_dim) {
  auto frequencies = unscaled(gguf.get_or<double>("rope.freq_base", 10000.0), head_dim, gguf.file());
  gguf.expect("rope.dimension_count", head_dim);
  const auto kind = gguf.get_or<std::string>("rope.scaling.type", "none");
  if (kind == "linear") {
    const auto factor = static_cast<float>(gguf.get<double>("rope.scaling.factor"));
    for (float& frequency : frequencies) frequency /= factor;
  } else if (kind != "none") {
    throw InputError("{}: RoPE scaling '{}' is not known; known are none, linear and factors in rope_freqs.weight",
                     gguf.file(), kind);
  }
  if (const auto* factors = gguf.weights().find("rope_freqs.weight")) {
    if (factors->rows() != 1 || factors->columns() != head_dim / 2)
      throw InputError("{}: tensor 'rope_freqs.weight' holds {} factors, expected {}", gguf.file(),
                       factors->rows() * factors->columns(), head_dim / 2);
    std::vector<float> factor(frequencies.size());
    gguf.weights().read(*factors, {0, 1, 0, head_dim / 2}, factor.data());
    for (std::size_t i = 0; i < factor.size(); ++i) frequencies[i] /= factor[i];
  }
  gguf.ignore({"rope.scaling.original_context_length", "rope.scaling.finetuned"});
  return frequencies;
}

}  // namespace grist
