// The options of `grist train`: one list that the command line, the file of --options, --print-config and the checks
// share.
#pragma once

#include <grist/comm/process_grid.hpp>
#include <grist/train/learning_rate.hpp>
#include <grist/train/optimizer.hpp>
#include <grist/train/pipeline.hpp>
#include <grist/train/stage.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace grist::cli {

/// As given. Empty strings, lists and optionals were not given; the functions say what then holds.
struct TrainOptions {
  std::string model, config, tokenizer;
  std::vector<std::string> data;
  std::string order = "shuffled";
  std::int64_t steps = 1000, batch = 8, micro_batch = 0, sequence = 0;
  std::uint64_t seed = 0;

  std::string optimizer = "adamw", schedule = "cosine";
  double lr = 3e-4;
  std::optional<double> min_lr;
  std::optional<std::int64_t> warmup, decay;
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1, clip = 1;
  std::int64_t max_skipped = 10;
  std::optional<double> router_aux_loss;

  std::string dtype = "f32", recompute = "none";
  int dp = 0, pp = 1, tp = 1;
  std::string pipeline = "1f1b";
  std::optional<int> chunks;
  int zero = 0;
  bool sequence_parallel = false, check_replicas = false;
  std::string gemm = "auto";

  std::string eval_data;
  std::optional<std::int64_t> eval_every;
  std::string metrics, trace;
  std::int64_t log_every = 10;

  std::string checkpoint, resume, max_walltime, save_hf;
  std::int64_t save_every = 0, keep = 2, keep_every = 0;
  std::vector<std::string> io_hints;

  std::string options_file;
  bool print_config = false;

  /// Adds all options to the verb.
  void add_to(CLI::App& app);
  /// To be called once `app` has parsed the command line: reads --options, whose values give way to those of the
  /// command line, and checks what needs no other file and no rank, unless they are only to be printed. `with_data`:
  /// there must be some to train on. Throws InputError naming file, line and key, or UsageError.
  void complete(CLI::App& app, bool with_data = true);
  /// TOML that --options reads back to the same options; those that were not given are comments.
  [[nodiscard]] std::string to_toml() const;

  /// dp as given, or what pp and tp leave of the ranks. Throws UsageError where the layout is not that of so many
  /// ranks, or the batch cannot be shared by it.
  [[nodiscard]] Layout layout(int ranks) const;
  /// Sequences of a micro-batch: as given; else all that a rank has of a step, with a pipeline one.
  [[nodiscard]] std::int64_t micro_batch_of(const Layout& layout) const;
  /// Micro-batches of a step on each rank.
  [[nodiscard]] std::int64_t micro_batches(const Layout& layout) const;

  [[nodiscard]] train::LearningRate learning_rate() const;
  [[nodiscard]] train::OptimizerConfig optimizer_config() const;
  [[nodiscard]] train::Pipeline pipeline_kind() const;
  [[nodiscard]] train::Recompute recompute_kind() const;
  /// Chunks of layers on each rank: 1 where the pipeline is not interleaved.
  [[nodiscard]] int chunks_per_rank() const;
  /// --io-hint as Hdf5File::create takes them: "key=value;key=value".
  [[nodiscard]] std::string mpi_io_hints() const;
  /// Empty without --max-walltime.
  [[nodiscard]] std::optional<std::chrono::seconds> walltime() const;
};

/// "HH:MM:SS", or "D-HH:MM:SS" as Slurm writes it; hours may pass 24. Throws UsageError.
std::chrono::seconds parse_walltime(const std::string& text);

}  // namespace grist::cli
