// What a training step was like: as a line of JSON for programs, and how much of the machine it used.
#pragma once

#include <grist/model/spec.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

namespace grist::train {

/// Wall time of a step by what it was spent on, of one rank.
struct StepSeconds {
  double compute = 0;        // forward, backward and optimizer
  double communication = 0;  // waiting for other ranks' sums, of tp and dp
  double bubble = 0;         // waiting for other stages
  double data = 0;           // waiting for tokens
};

struct StepMetrics {
  Index step = 0;                   // from 1
  double loss = 0;                  // mean over the tokens that count, nats
  double learning_rate = 0;
  std::optional<double> router_loss{};  // where the routers' load-balancing loss is part of what is trained
  double gradient_norm = 0;         // before clipping
  double tokens_per_second = 0;
  std::optional<double> mfu;        // model FLOP utilization: model_flops() times tokens per second, of the peak
  std::uint64_t memory = 0;         // the most that a rank has held, bytes
  double seconds = 0;               // of the step
  StepSeconds spent;
};

/// Metrics as JSON lines. Every line is written when it is known: what ends the program leaves whole lines.
class MetricsFile {
public:
  /// Keeps the lines of steps up to `last_step`, where a run goes on (0: a new run), and drops those behind it and one
  /// that was cut off: no step has two lines. Throws InputError where the file cannot be written, or holds something
  /// else than metrics, which is left as it is.
  MetricsFile(std::filesystem::path file, Index last_step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// {"step", "loss", "lr", "grad_norm", "tokens_per_second", "mfu", "memory", "seconds": {"compute", "communication",
  /// "bubble", "data", "step"}}; a number that is not finite is null, as JSON has no other. Throws InputError where it
  /// cannot be written, as on a full disk; the next call writes it too.
  void write(const StepMetrics& metrics);
  /// {"step", "eval_loss"}: the loss on held-out text after a step.
  void write_evaluation(Index step, double loss);

private:
  void append(const std::string& line);

  std::filesystem::path file_;
  int descriptor_;
  std::string waiting_;  // to be written
};

/// Losses by step, ascending.
struct LossCurves {
  std::vector<std::pair<Index, double>> loss{}, held_out{};
};

/// Of a file of metrics, without those that are not finite; a last line that was cut off does not count. Throws
/// InputError: cannot be read, or holds something else.
LossCurves read_losses(const std::filesystem::path& file);

/// Floating-point operations of training on one token of a sequence of so many, forward and backward:
///   6 x the parameters that a token is multiplied with + sum over layers of 12 x heads x head_dim x keys
/// (Kaplan et al. 2020; Chowdhery et al. 2022, appendix B). Of experts the chosen ones count alone, a table that is
/// only looked up does not, the matrix of the logits does. `keys` is how many a query sees on average: half of
/// (sequence + 1) under the causal mask, less in a window; PaLM counted `sequence`. Recomputing does not count.
double model_flops(const ModelSpec& spec, Index sequence);

}  // namespace grist::train
