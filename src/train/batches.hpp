// Which tokens a training step sees: a pure function of seed and step. Neither the layout of ranks nor the size of
// micro-batches enters, and nothing is kept, so that a run resumes anywhere, on any number of ranks, with the same
// data.
//
// Step s of a global batch of B sequences takes the samples s B ... s B + B - 1. With S tokens each, sample k is cut
// from a stream of all documents, at the tokens k S ... k S + S: inputs are the first S, targets the last S. At the end
// of the stream, where less than a sample is left, the next epoch begins.
//   sequential: the documents in their order, one text without borders.
//   shuffled  : the documents in an order that seed and epoch choose; they do not see each other (Sample::begins), and
//               none has to predict the beginning of the next.
#pragma once

#include <grist/core/view.hpp>
#include <grist/io/token_file.hpp>
#include <grist/train/permutation.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace grist::train {

enum class DataOrder { sequential, shuffled };

/// One sequence.
struct Sample {
  std::vector<int> ids{};      // [sequence]
  std::vector<int> targets{};  // [sequence]; -1 where no loss is taken: masked, or the next document begins there
  std::vector<int> begins{};   // positions at which attention and positions begin anew, ascending from 0
};

/// The samples of a rank in a step.
struct SampleRange {
  std::uint64_t first;
  Index count;
};

/// The contiguous share of data-parallel rank `dp_rank` of `dp` in a step of `batch` samples; shares differ by at
/// most 1.
SampleRange samples_of(std::uint64_t step, Index batch, int dp_rank, int dp);

/// Cuts samples from token files, one after the other. Calls from several threads are safe.
class BatchSource {
public:
  /// Throws UsageError for a sequence below 1; InputError where the files are of different tokenizers, or hold less
  /// than one sample.
  BatchSource(std::vector<io::TokenFile> files, Index sequence, DataOrder order, std::uint64_t seed);

  [[nodiscard]] std::uint64_t vocab_size() const { return files_.front().origin().vocab_size; }
  [[nodiscard]] std::uint64_t tokens() const { return first_tokens_.back(); }
  [[nodiscard]] std::uint64_t samples_per_epoch() const { return samples_; }
  /// No sample, of any epoch, has more documents that do not see each other.
  [[nodiscard]] int most_documents() const { return most_documents_; }
  /// Writes sample `number`, counted over all epochs. Throws InputError for an id that the vocabulary does not have.
  void sample(std::uint64_t number, Sample& sample) const;

private:
  /// The order of one epoch.
  struct Epoch {
    std::uint64_t number;
    Permutation order;                  // of the documents
    std::vector<std::uint64_t> begins;  // [documents + 1]: the token of the stream at which each begins
  };

  /// A piece of a file's tokens.
  struct Piece {
    const io::TokenFile* file;
    std::uint64_t first;
    std::uint64_t count;
  };

  [[nodiscard]] int count_documents() const;
  [[nodiscard]] std::shared_ptr<const Epoch> epoch(std::uint64_t number) const;
  [[nodiscard]] Epoch shuffle(std::uint64_t number) const;
  [[nodiscard]] Piece document(std::uint64_t number) const;
  /// The pieces that the tokens first ... first + count - 1 of an epoch's stream are.
  [[nodiscard]] std::vector<Piece> sequential_pieces(std::uint64_t first, std::uint64_t count) const;
  [[nodiscard]] std::vector<Piece> shuffled_pieces(const Epoch& epoch, std::uint64_t first, std::uint64_t count) const;

  std::vector<io::TokenFile> files_;
  std::vector<std::uint64_t> first_tokens_{0}, first_documents_{0};  // [files + 1]
  Index sequence_;
  DataOrder order_;
  std::uint64_t seed_;
  std::uint64_t samples_ = 0;
  int most_documents_ = 1;
  mutable std::mutex mutex_{};
  mutable std::shared_ptr<const Epoch> epoch_{};  // the one that was asked for last
};

}  // namespace grist::train
