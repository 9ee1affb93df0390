// What options, files and ranks make of a training run, before anything large is in memory: for the run itself, and for
// `grist info --train`.
#pragma once

#include "train_options.hpp"

#include <grist/model/family.hpp>
#include <grist/text/tokenizer.hpp>
#include <grist/train/trainer_memory.hpp>

#include <cstdint>
#include <memory>
#include <string>

namespace grist::cli {

struct TrainSetup {
  Layout layout;
  ModelFiles files;
  std::string model_config;                    // config.json as it is kept in checkpoints; empty where there is none
  std::unique_ptr<text::Tokenizer> tokenizer;  // null where neither option nor model names one
  Index sequence = 0;
  train::TrainerOptions trainer;  // with as many documents in a sample as are usual; the data know better
};

/// `weights`: opens those of --model, which then are no copy but mapped files. Throws UsageError, InputError.
TrainSetup setup_of(const TrainOptions& options, int ranks, bool weights);

/// The folder or file that names the tokenizer; empty where nothing does.
std::string tokenizer_of(const TrainOptions& options);

/// What a rank of the layout takes, tp varying fastest.
train::TrainerMemory memory_of(const TrainOptions& options, const TrainSetup& setup, int rank);

}  // namespace grist::cli
