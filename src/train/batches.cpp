#include <grist/train/batches.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>

namespace grist::train {
namespace {

/// The place among ascending beginnings, the last of which is the end, in which a position lies; an empty one holds
/// none.
std::size_t place_of(std::uint64_t position, const std::vector<std::uint64_t>& begins) {
  return static_cast<std::size_t>(std::ranges::upper_bound(begins, position) - begins.begin()) - 1;
}

}  // namespace

SampleRange samples_of(std::uint64_t step, Index batch, int dp_rank, int dp) {
  const Index first = batch * dp_rank / dp;
  return {step * static_cast<std::uint64_t>(batch) + static_cast<std::uint64_t>(first),
          batch * (dp_rank + 1) / dp - first};
}

BatchSource::BatchSource(std::vector<io::TokenFile> files, Index sequence, DataOrder order, std::uint64_t seed)
    : files_(std::move(files)), sequence_(sequence), order_(order), seed_(seed) {
  if (files_.empty()) throw UsageError("training needs data");
  if (sequence < 1) throw UsageError("a sequence has {} tokens, expected at least 1", sequence);
  for (const io::TokenFile& file : files_) {
    const io::TokenOrigin &first = files_.front().origin(), &other = file.origin();
    if (first.vocab_size != other.vocab_size || first.fingerprint != other.fingerprint)
      throw InputError("{}: has tokens of another tokenizer than {}", file.name(), files_.front().name());
    first_tokens_.push_back(first_tokens_.back() + file.tokens());
    first_documents_.push_back(first_documents_.back() + file.documents());
  }
  const auto length = static_cast<std::uint64_t>(sequence);
  if (tokens() <= length) {
    throw InputError("{}{}: {} tokens, expected at least {} for one sequence", files_.front().name(),
                     files_.size() > 1 ? " and others" : "", tokens(), length + 1);
  }
  samples_ = (tokens() - 1) / length;
  if (order_ == DataOrder::shuffled) most_documents_ = count_documents();
}

/// The shortest documents may come one after the other, between the end of one and the beginning of another.
int BatchSource::count_documents() const {
  const auto length = static_cast<std::uint64_t>(sequence_);
  std::vector<std::uint64_t> documents(length + 1);  // of each length
  for (const io::TokenFile& file : files_) {
    for (std::uint64_t d = 0; d < file.documents(); ++d) {
      const auto tokens = file.document_begin(d + 1) - file.document_begin(d);
      if (tokens <= length) ++documents[tokens];
    }
  }
  std::uint64_t left = length - 1, fit = 2;
  for (std::uint64_t tokens = 1; tokens <= left; ++tokens) {
    const std::uint64_t taken = std::min(documents[tokens], left / tokens);
    left -= taken * tokens;
    fit += taken;
  }
  return static_cast<int>(std::min(fit, length));
}

void BatchSource::sample(std::uint64_t number, Sample& sample) const {
  const auto length = static_cast<std::uint64_t>(sequence_);
  const std::uint64_t first = number % samples_ * length;
  const bool shuffled = order_ == DataOrder::shuffled;
  const auto pieces =
      shuffled ? shuffled_pieces(*epoch(number / samples_), first, length + 1) : sequential_pieces(first, length + 1);

  std::vector<int> ids(length + 1);
  sample.targets.assign(length, -1);
  sample.begins.assign(1, 0);
  std::uint64_t at = 0;
  for (const auto& [file, from, count] : pieces) {
    file->read(from, std::span(ids).subspan(at, count));
    const bool border = shuffled && at > 0;
    if (border && at < length) sample.begins.push_back(static_cast<int>(at));
    for (std::uint64_t i = 0; i < count; ++i) {
      const bool predicted = at + i > 0 && !(border && i == 0);
      if (predicted && file->trained(from + i)) sample.targets[at + i - 1] = ids[at + i];
    }
    at += count;
  }
  sample.ids.assign(ids.begin(), ids.end() - 1);
}

std::vector<BatchSource::Piece> BatchSource::sequential_pieces(std::uint64_t first, std::uint64_t count) const {
  std::vector<Piece> pieces;
  for (std::size_t f = place_of(first, first_tokens_); count > 0; ++f) {
    const std::uint64_t from = first - first_tokens_[f];
    const std::uint64_t here = std::min(count, files_[f].tokens() - from);
    if (here > 0) pieces.push_back({&files_[f], from, here});
    first += here;
    count -= here;
  }
  return pieces;
}

std::vector<BatchSource::Piece> BatchSource::shuffled_pieces(const Epoch& epoch, std::uint64_t first,
                                                             std::uint64_t count) const {
  std::vector<Piece> pieces;
  for (std::size_t d = place_of(first, epoch.begins); count > 0; ++d) {
    const auto [file, begin, length] = document(epoch.order(d));
    const std::uint64_t from = first - epoch.begins[d];
    const std::uint64_t here = std::min(count, length - from);
    if (here > 0) pieces.push_back({file, begin + from, here});
    first += here;
    count -= here;
  }
  return pieces;
}

BatchSource::Piece BatchSource::document(std::uint64_t number) const {
  const std::size_t f = place_of(number, first_documents_);
  const std::uint64_t inside = number - first_documents_[f];
  const std::uint64_t begin = files_[f].document_begin(inside);
  return {&files_[f], begin, files_[f].document_begin(inside + 1) - begin};
}

std::shared_ptr<const BatchSource::Epoch> BatchSource::epoch(std::uint64_t number) const {
  const std::scoped_lock lock(mutex_);
  if (!epoch_ || epoch_->number != number) epoch_ = std::make_shared<const Epoch>(shuffle(number));
  return epoch_;
}

BatchSource::Epoch BatchSource::shuffle(std::uint64_t number) const {
  const std::uint64_t documents = first_documents_.back();
  const PhiloxBlock words = PhiloxStream{seed_, hash_name("order of documents")}.at(number);
  const std::uint64_t key = words.word[0] | static_cast<std::uint64_t>(words.word[1]) << 32;
  Epoch epoch{.number = number, .order = Permutation(documents, key), .begins = {0}};
  epoch.begins.reserve(documents + 1);
  for (std::uint64_t d = 0; d < documents; ++d)
    epoch.begins.push_back(epoch.begins.back() + document(epoch.order(d)).count);
  return epoch;
}

}  // namespace grist::train
