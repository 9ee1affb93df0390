// The data of a training run: token files or texts, cut into micro-batches.
#pragma once

#include "train_options.hpp"

#include <grist/text/tokenizer.hpp>
#include <grist/train/batches.hpp>
#include <grist/train/stage.hpp>

#include <string>
#include <vector>

namespace grist::cli {

class TrainData {
public:
  /// Texts are read by `tokenizer`, which may be null where there are none. Throws InputError: files that cannot be
  /// read, of another tokenizer, of more words than the model has, or of less than one sample.
  TrainData(const std::vector<std::string>& files, const TrainOptions& options, Index sequence,
            const text::Tokenizer* tokenizer, Index vocab_size);

  [[nodiscard]] Index samples_per_epoch() const { return static_cast<Index>(source_.samples_per_epoch()); }
  [[nodiscard]] int most_documents() const { return source_.most_documents(); }
  /// Samples first ... first + count - 1 as one micro-batch.
  [[nodiscard]] train::MicroBatch micro_batch(std::uint64_t first, Index count) const;

private:
  train::BatchSource source_;
};

}  // namespace grist::cli
