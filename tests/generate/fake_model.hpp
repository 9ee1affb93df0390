// A model without weights, to see what a scheduler does: its logits are a hash of all that the KV cache holds for a
// sequence. A row that is stale, lost, misplaced, or computed in another way than when the sequence is alone shows in
// every later token.
#pragma once

#include <grist/core/philox.hpp>
#include <grist/generate/cached_tokens.hpp>
#include <grist/model/model.hpp>

#include <support/views.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <vector>

namespace grist::test {

constexpr int fake_vocabulary = 61;

/// What the cache holds for a token: exact as floats.
struct FakeRow {
  float key;
  float value;
};

/// The key tells the token and its request's prompt; the value its position, and of a piece of many tokens also its
/// ends.
inline FakeRow fake_row(int id, int position, const Piece& piece) {
  Index ends = piece.few ? 1 : 7 + 1021 * Index{piece.begin} + 2039 * Index{piece.end};
  ends = (ends * 31 + position) % 8388593;
  return {static_cast<float>(id + 64 * (piece.prompt_length % 65536)), static_cast<float>(ends)};
}

/// Two layers, the second of which sees the last keys alone.
inline std::uint64_t fake_hash(std::span<const FakeRow> rows, std::span<const FakeRow> windowed) {
  std::uint64_t hash = 1;
  const auto add = [&](float value) { hash = (hash ^ static_cast<std::uint64_t>(value)) * 0x100000001b3ULL + 1; };
  for (const auto& layer : {rows, windowed}) {
    for (const auto& row : layer) {
      add(row.key);
      add(row.value);
    }
  }
  return hash;
}

inline float fake_logit(std::uint64_t hash, Index token) {
  return 4 * uniform(philox({{static_cast<std::uint32_t>(token), 0, 0, 0}}, hash).word[0]);
}

class FakeModel final : public Model {
public:
  static constexpr int window = 100;

  /// Its caches have exactly tokens / kv_page_rows pages, and window pages for so many sequences.
  FakeModel(const ProcessGrid& grid, const ModelLimits& limits, int window_sequences = 8,
            std::vector<int> end_tokens = {})
      : Model(spec_of_fake(), grid, limits, std::move(end_tokens)),
        window_sequences_(window_sequences),
        batch_({limits.batch_tokens, limits.batch_sequences, limits.kv_tokens}, fake_vocabulary,
               {AttentionConfig{}, AttentionConfig{.window = window}}),
        qkv_("qkv", 3 * limits.batch_tokens),
        logits_("logits", limits.logit_rows * fake_vocabulary) {}

  [[nodiscard]] bool same_bits_for_same_beginning() const override { return same_beginnings; }
  [[nodiscard]] std::unique_ptr<PagedKv> make_kv(Index tokens) const override {
    // A small cache has as many pages for the window as for all keys in any case.
    const int sequences = tokens < 12 * kv_page_rows ? 1 : window_sequences_;
    return std::make_unique<PagedKv>(
        KvType::f32, std::vector<KvLayer>{{1, 1, 0}, {1, 1, window}}, Range{0, 2},
        KvLimits{tokens - (sequences - 1) * (kv_page_rows - 1), sequences, limits_.batch_tokens});
  }
  [[nodiscard]] bool first_stage() const override { return grid_.pp().rank() == 0; }
  [[nodiscard]] bool last_stage() const override { return grid_.pp().rank() == grid_.pp().size() - 1; }
  [[nodiscard]] Range vocabulary() const override {
    const auto& tp = grid_.tp();
    return {fake_vocabulary * tp.rank() / tp.size(), fake_vocabulary * (tp.rank() + 1) / tp.size()};
  }

  void finish_loading() override {}
  View2<float> run(const Exec& exec, PagedKv* kv, const Inputs& inputs) override {
    batch_.assign(exec, inputs.items);
    std::vector<float> rows;
    passes.emplace_back();
    for (const auto& item : inputs.items) {
      const int length = static_cast<int>(item.ids.size());
      passes.back().push_back(length);
      for (int i = 0; i < length; ++i) {
        const auto row = row_of(item.ids[static_cast<std::size_t>(i)], item.position + i,
                                {item.position, item.position + length, item.few, item.prompt_length});
        rows.insert(rows.end(), {0, row.key, row.value});
      }
    }
    const auto qkv = qkv_.view(std::ssize(rows) / 3, 3);
    Kokkos::deep_copy(flat(qkv), HostView<const float>(rows.data(), rows.size()));
    for (const int layer : {0, 1}) kv->append(exec, layer, as_const(qkv), batch_);
    exec.fence();
    hashes_.clear();
    for (std::size_t i = 0; i < inputs.items.size(); ++i) {
      const auto& item = inputs.items[i];
      const int end = item.position + static_cast<int>(item.ids.size());
      for (int length = end - item.logits + 1; length <= end; ++length) {
        hashes_.push_back(fake_hash(rows_of(*kv, 0, static_cast<int>(i), 0, length),
                                    rows_of(*kv, 1, static_cast<int>(i), std::max(0, length - window), length)));
        if (!last_stage()) continue;
        std::vector<float> all;
        for (int token = 0; token < fake_vocabulary; ++token) all.push_back(fake_logit(hashes_.back(), token));
        computed[hashes_.back()] = all;
      }
    }
    return {};
  }

  View2<float> logits(const Exec& exec, View1<const int>) override { return logits(exec); }
  View2<float> logits(const Exec&) override {
    if (!last_stage()) return {};
    const auto columns = vocabulary();
    std::vector<float> all;
    for (const std::uint64_t hash : hashes_)
      for (Index token = columns.begin; token < columns.end; ++token)
        all.push_back(token == broken_token && hash == broken_hash ? std::nanf("") : fake_logit(hash, token));
    const auto logits = logits_.view(std::ssize(hashes_), columns.size());
    Kokkos::deep_copy(flat(logits), HostView<const float>(all.data(), all.size()));
    return logits;
  }

  std::vector<float> score(const Exec& exec, PagedKv* kv, const BatchItem& item,
                           std::span<const int> targets) override {
    run(exec, kv, {.items = {&item, 1}});
    std::vector<float> nll;
    for (std::size_t i = 0; i < item.ids.size(); ++i) {
      const int length = item.position + static_cast<int>(i) + 1;
      const auto hash = fake_hash(rows_of(*kv, 0, 0, 0, length), {});
      nll.push_back(fake_logit(hash, targets[i]));
    }
    return nll;
  }

  /// What a prompt gives greedily when it is alone, made without a cache. `hashes` are what its tokens come of. Of the
  /// first `cached` tokens the conversation computed the keys and values as part of the piece `before`.
  [[nodiscard]] std::vector<int> continuation(const std::vector<int>& prompt, int count,
                                              std::vector<std::uint64_t>* hashes = nullptr, int cached = 0,
                                              const Piece& before = {}) const {
    auto ids = prompt;
    std::vector<FakeRow> rows;
    std::vector<int> added;
    const int length = static_cast<int>(prompt.size());
    for (int i = 0; i < cached; ++i) rows.push_back(row_of(ids[static_cast<std::size_t>(i)], i, before));
    while (static_cast<int>(added.size()) < count) {
      const int begin = static_cast<int>(rows.size()), end = std::min(begin + 512, static_cast<int>(ids.size()));
      for (int i = begin; i < end; ++i)
        rows.push_back(row_of(ids[static_cast<std::size_t>(i)], i, {begin, end, end - begin <= few_tokens, length}));
      if (end < static_cast<int>(ids.size())) continue;
      const std::size_t seen = std::min(rows.size(), static_cast<std::size_t>(window));
      const auto hash = fake_hash(rows, std::span(rows).last(seen));
      int best = 0;
      for (int token = 1; token < fake_vocabulary; ++token)
        if (fake_logit(hash, token) > fake_logit(hash, best)) best = token;
      added.push_back(best);
      ids.push_back(best);
      if (hashes != nullptr) hashes->push_back(hash);
    }
    return added;
  }

  std::vector<std::vector<int>> passes;  // the items' tokens in each
  std::map<std::uint64_t, std::vector<float>> computed;  // logits by what the cache held
  std::uint64_t broken_hash = 0;  // where the logit of broken_token is NaN
  Index broken_token = -1;
  bool same_beginnings = false;  // whether a piece's ends and the prompt's length leave a token's row as it is
  bool few_matters = true;       // then; whether few tokens make other rows than many

private:
  static ModelSpec spec_of_fake() {
    ModelSpec spec;
    spec.vocab_size = fake_vocabulary;
    return spec;
  }

  [[nodiscard]] FakeRow row_of(int id, int position, const Piece& piece) const {
    return fake_row(id, position, same_beginnings ? Piece{0, 0, few_matters && piece.few, 0} : piece);
  }

  static void copy_floats(const float* from, std::vector<float>& to) {
    Kokkos::deep_copy(HostView<float>(to.data(), to.size()), View1<const float>(from, to.size()));
  }

  /// Keys begin ... end - 1 of a sequence of the batch, read from the cache's pages.
  [[nodiscard]] std::vector<FakeRow> rows_of(const PagedKv& kv, int layer, int sequence, int begin, int end) const {
    const KvPages pages = kv.view(layer, batch_);
    const auto table = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, pages.pages);
    const auto first = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, pages.first);
    std::vector<float> keys(kv_page_rows * static_cast<std::size_t>(pages.row_stride)), values(keys.size());
    std::vector<FakeRow> rows;
    for (int key = begin; key < end; ++key) {
      if (const int page = key / kv_page_rows; key == begin || key % kv_page_rows == 0) {
        const Index at = table(first(sequence) + page) * pages.page_stride;
        copy_floats(static_cast<const float*>(pages.keys) + at, keys);
        copy_floats(static_cast<const float*>(pages.values) + at, values);
      }
      const auto at = static_cast<std::size_t>(key % kv_page_rows * pages.row_stride);
      rows.push_back({keys[at], values[at]});
    }
    return rows;
  }

  int window_sequences_;
  Batch batch_;
  Buffer<float> qkv_, logits_;
  std::vector<std::uint64_t> hashes_;
};

}  // namespace grist::test
