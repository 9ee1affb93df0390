// What `grist bench` measures of training: its steps, and its checkpoints.
#pragma once

#include "bench_options.hpp"

#include <functional>

namespace grist::cli {

using TakeTest = std::function<void(const bench::Test&)>;

/// Throws UsageError where some number of sequences, or their length, cannot be trained on so many ranks.
void check_training(const BenchOptions& options, DType type, int ranks);
/// The same of --io.
void check_checkpoints(const BenchOptions& options, DType type, int ranks);

/// Steps of a model with random weights: each number of sequences with each length. Collective.
void bench_training(Runtime& runtime, const BenchOptions& options, DType type, const bench::Machine& machine,
                    const TakeTest& take);

/// A checkpoint of the model with its optimizer, written into the folder of --io, read back with its checksums,
/// removed. Collective.
void bench_checkpoints(Runtime& runtime, const BenchOptions& options, DType type, const bench::Machine& machine,
                       const TakeTest& take);

}  // namespace grist::cli
