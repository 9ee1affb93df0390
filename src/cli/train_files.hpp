// What a training run leaves on disk: checkpoints, and at its end the model's folder.
#pragma once

#include "runtime.hpp"
#include "train_options.hpp"
#include "train_setup.hpp"

#include <grist/train/checkpoint.hpp>
#include <grist/train/trainer.hpp>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace grist::cli {

/// How far a run is.
struct TrainProgress {
  Index step = 0, tokens = 0;
  double save_seconds = 0;  // of the last save
};

/// Its methods are collective; what is given must outlive it.
class TrainFiles {
public:
  TrainFiles(Runtime& runtime, const TrainOptions& options, const TrainSetup& setup, const ProcessGrid& grid)
      : runtime_(runtime), options_(options), setup_(setup), grid_(grid) {}

  /// Makes the folders. Throws where one cannot be made, a new run's --save-hf holds a model, or hints for MPI-IO are
  /// none; not collective.
  static void prepare(const TrainOptions& options, bool root);
  /// Whether a model lies in the folder of --save-hf; throws UsageError where one does.
  static bool holds_folder(const TrainOptions& options);
  static void expect_free(const TrainOptions& options);

  /// Fills the trainer from the checkpoint that --resume names; begins at 0 where it names none, or auto finds none.
  /// Throws where it cannot be read, or was made with other data than the options say.
  TrainProgress resume(train::Trainer& trainer) const;

  /// Throws the same InputError on all ranks where it cannot be written: the last good one stays.
  std::filesystem::path save(const train::Trainer& trainer, const TrainProgress& progress) const;

  /// Removes the checkpoints that need not be kept. `say` is told what stood in the way, on the first rank.
  void prune(const std::function<void(const std::string& line)>& say) const;

  /// The trained model as a Hugging Face folder, beside it the tokenizer's files. `release` gives the trainer's memory
  /// back as soon as it is no longer read.
  void save_folder(const train::Trainer& trainer, const TrainProgress& progress,
                   const std::function<void()>& release) const;

private:
  void write(const std::filesystem::path& file, const train::Trainer& trainer, const std::vector<TensorGroup>& groups,
             const TrainProgress& progress) const;

  Runtime& runtime_;
  const TrainOptions& options_;
  const TrainSetup& setup_;
  const ProcessGrid& grid_;
};

}  // namespace grist::cli
