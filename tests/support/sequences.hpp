// A model, a cache and some sequences, for tests that bring tokens by hand.
#pragma once

#include <grist/core/staging.hpp>
#include <grist/model/model.hpp>

#include <span>
#include <vector>

namespace grist::test {

/// A kernel, which nvcc takes as no private member.
struct NumberRows {
  View1<int> rows;
  Index first;
  KOKKOS_FUNCTION void operator()(Index i) const { rows(i) = static_cast<int>(first + i); }
};

class Sequences {
public:
  Sequences(Model& model, Index tokens_each, int count)
      : model_(model), kv_(model.make_kv(tokens_each * count)), sequences_(static_cast<std::size_t>(count)) {}

  /// The next tokens of a sequence.
  BatchItem next(std::size_t sequence, std::span<const int> ids, bool few, int prompt_length = 0) {
    auto& s = sequences_.at(sequence);
    const int position = s.length();
    if (!kv_->reserve(s, position + static_cast<int>(ids.size()))) throw std::runtime_error("no pages are free");
    return {ids, position, &s, few, prompt_length};
  }

  /// Runs items; logits after the last token of each [items, this rank's columns], on the host; empty before the last
  /// stage.
  std::vector<float> logits(const Exec& exec, std::span<const BatchItem> items) {
    model_.run(exec, kv_.get(), {.items = items});
    return on_host(exec, model_.logits(exec));
  }

  /// Runs the tokens of one item; logits after each of them.
  std::vector<float> all_logits(const Exec& exec, const BatchItem& item) {
    model_.run(exec, kv_.get(), {.items = {&item, 1}});
    std::vector<float> all;
    for (Index first = 0; first < std::ssize(item.ids); first += model_.limits().logit_rows) {
      const Index count = std::min(model_.limits().logit_rows, static_cast<Index>(std::ssize(item.ids)) - first);
      const Buffer<int> rows("rows", count);
      Kokkos::parallel_for("grist::test::rows", Indices<Exec>(exec, 0, count), NumberRows{rows.view(), first});
      const auto piece = on_host(exec, model_.logits(exec, as_const(rows.view())));
      all.insert(all.end(), piece.begin(), piece.end());
    }
    return all;
  }

  void release(std::size_t sequence) { kv_->release(sequences_.at(sequence)); }
  [[nodiscard]] PagedKv& kv() { return *kv_; }

private:
  static std::vector<float> on_host(const Exec& exec, View2<float> logits) {
    exec.fence("grist::test: logits");
    const auto copy = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, logits);
    return {copy.data(), copy.data() + copy.size()};
  }

  Model& model_;
  std::unique_ptr<PagedKv> kv_;
  std::vector<KvSequence> sequences_;
};

/// This rank's columns of rows of logits [rows, vocabulary].
inline std::vector<float> columns_of(std::span<const float> rows, std::size_t vocab_size, Range columns) {
  std::vector<float> part;
  for (std::size_t row = 0; row < rows.size() / vocab_size; ++row)
    part.insert(part.end(), rows.begin() + static_cast<std::ptrdiff_t>(row * vocab_size) + columns.begin,
                rows.begin() + static_cast<std::ptrdiff_t>(row * vocab_size) + columns.end);
  return part;
}

}  // namespace grist::test
