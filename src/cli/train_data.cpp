#include "train_data.hpp"

#include <grist/core/errors.hpp>
#include <grist/train/token_source.hpp>

namespace grist::cli {
namespace {

train::BatchSource source_of(const std::vector<std::string>& paths, const TrainOptions& options, Index sequence,
                             const text::Tokenizer* tokenizer) {
  std::vector<io::TokenFile> files;
  for (const auto& path : paths) files.push_back(train::token_source(path, tokenizer));
  const auto order = options.order == "shuffled" ? train::DataOrder::shuffled : train::DataOrder::sequential;
  return {std::move(files), sequence, order, options.seed};
}

}  // namespace

TrainData::TrainData(const std::vector<std::string>& files, const TrainOptions& options, Index sequence,
                     const text::Tokenizer* tokenizer, Index vocab_size)
    : source_(source_of(files, options, sequence, tokenizer)) {
  if (static_cast<Index>(source_.vocab_size()) > vocab_size)
    throw InputError("{}: its tokens are of a vocabulary of {}, the model has {}", files.front(), source_.vocab_size(),
                     vocab_size);
}

train::MicroBatch TrainData::micro_batch(std::uint64_t first, Index count) const {
  train::MicroBatch batch;
  train::Sample sample;
  for (Index i = 0; i < count; ++i) {
    source_.sample(first + static_cast<std::uint64_t>(i), sample);
    const int offset = static_cast<int>(batch.ids.size());
    for (const int begin : sample.begins) batch.begins.push_back(offset + begin);
    batch.ids.insert(batch.ids.end(), sample.ids.begin(), sample.ids.end());
    batch.targets.insert(batch.targets.end(), sample.targets.begin(), sample.targets.end());
  }
  return batch;
}

}  // namespace grist::cli
