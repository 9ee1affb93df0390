#include <grist/train/metrics.hpp>

#include <grist/core/errors.hpp>

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

namespace grist::train {
namespace {

namespace fs = std::filesystem;

/// take(step, line, its JSON) for each line; the last one may be cut off, and is left out then.
template <class Take>
void each_line(const fs::path& file, Take&& take) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError("{}: cannot be opened: {}", file.string(), std::strerror(errno));
  std::string line;
  for (Index number = 1; std::getline(in, line); ++number) {
    const auto value = nlohmann::json::parse(line, nullptr, false);
    if (value.is_object() && value.contains("step") && value["step"].is_number_integer())
      take(value["step"].get<Index>(), line, value);
    else if (!in.eof())
      throw InputError("{}: line {} is no line of metrics; choose another file", file.string(), number);
  }
}

/// The lines of steps up to `last_step`.
std::string kept_lines(const fs::path& file, Index last_step) {
  std::string kept;
  each_line(file, [&](Index step, const std::string& line, const nlohmann::json&) {
    if (step <= last_step) kept += line + '\n';
  });
  return kept;
}

/// Takes the file's place when it is whole.
void replace(const fs::path& file, const std::string& text) {
  const fs::path beside = file.string() + ".part";
  std::ofstream out(beside, std::ios::binary);
  out << text;
  if (!out.flush()) throw InputError("{}: cannot be written: {}", beside.string(), std::strerror(errno));
  std::error_code error;
  fs::rename(beside, file, error);
  if (error) throw InputError("{}: cannot be written: {}", file.string(), error.message());
}

/// Keys that a query of a sequence sees on average.
double mean_keys(const AttentionSpec& attention, Index sequence) {
  const auto s = static_cast<double>(sequence);
  const auto window =
      attention.window > 0 ? static_cast<double>(std::min<Index>(attention.window, sequence)) : s;
  if (!attention.causal) return window;
  // 1, 2, ..., window, window, ...
  return (window * (window + 1) / 2 + (s - window) * window) / s;
}

}  // namespace

MetricsFile::MetricsFile(fs::path file, Index last_step) : file_(std::move(file)) {
  if (fs::is_regular_file(file_)) replace(file_, kept_lines(file_, last_step));
  descriptor_ = open(file_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) throw InputError("{}: cannot be written: {}", file_.string(), std::strerror(errno));
}

MetricsFile::~MetricsFile() { close(descriptor_); }

void MetricsFile::write(const StepMetrics& metrics) {
  nlohmann::ordered_json line = {{"step", metrics.step},
                                 {"loss", metrics.loss},
                                 {"lr", metrics.learning_rate},
                                 {"grad_norm", metrics.gradient_norm},
                                 {"tokens_per_second", metrics.tokens_per_second}};
  if (metrics.router_loss) line["router_loss"] = *metrics.router_loss;
  if (metrics.mfu) line["mfu"] = *metrics.mfu;
  line["memory"] = metrics.memory;
  line["seconds"] = {{"step", metrics.seconds},
                     {"compute", metrics.spent.compute},
                     {"communication", metrics.spent.communication},
                     {"bubble", metrics.spent.bubble},
                     {"data", metrics.spent.data}};
  append(line.dump());
}

void MetricsFile::write_evaluation(Index step, double loss) {
  append(nlohmann::ordered_json{{"step", step}, {"eval_loss", loss}}.dump());
}

void MetricsFile::append(const std::string& line) {
  waiting_ += line + '\n';
  while (!waiting_.empty()) {
    const auto written = ::write(descriptor_, waiting_.data(), waiting_.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw InputError("{}: cannot be written: {}", file_.string(), std::strerror(errno));
    waiting_.erase(0, static_cast<std::size_t>(written));
  }
}

LossCurves read_losses(const fs::path& file) {
  LossCurves curves;
  each_line(file, [&](Index step, const std::string&, const nlohmann::json& line) {
    for (const auto& [key, curve] : {std::pair("loss", &curves.loss), std::pair("eval_loss", &curves.held_out)})
      if (const auto found = line.find(key); found != line.end() && found->is_number())
        curve->emplace_back(step, found->get<double>());
  });
  return curves;
}

double model_flops(const ModelSpec& spec, Index sequence) {
  Index multiplied = parameter_count(spec, true) - spec.learned_positions * spec.hidden_size;
  if (!spec.tied_embeddings) multiplied -= spec.vocab_size * spec.hidden_size;
  double flops = 6 * static_cast<double>(multiplied);
  for (const LayerSpec& layer : spec.layers)
    flops += 12 * static_cast<double>(layer.attention.q_width()) * mean_keys(layer.attention, sequence);
  return flops;
}

}  // namespace grist::train
