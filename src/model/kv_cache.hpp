// Keys and values of past tokens: for each layer two arrays [kv_heads, capacity, head_dim]. A sequence owns a contiguous
// range of rows, the same in all layers.
#pragma once

#include <grist/core/view.hpp>

#include <vector>

namespace grist {

template <class T>
class KvCache {
public:
  KvCache(int layers, int kv_heads, Index capacity, int head_dim);

  [[nodiscard]] View3<T> keys(int layer) const { return part(2 * layer); }
  [[nodiscard]] View3<T> values(int layer) const { return part(2 * layer + 1); }

  /// Copies k and v of new tokens, the last 2 * kv_heads heads of each row of qkv [tokens, width], into rows
  /// [tokens] of a layer. Enqueues on exec.
  void append(const Exec& exec, int layer, View2<const T> qkv, View1<const Index> rows) const;

  static std::uint64_t bytes_per_token(int layers, int kv_heads, int head_dim) {
    return std::uint64_t{2} * layers * kv_heads * head_dim * sizeof(T);
  }

private:
  [[nodiscard]] View3<T> part(int index) const {
    return View3<T>(memory_.data() + index * kv_heads_ * capacity_ * head_dim_, kv_heads_, capacity_, head_dim_);
  }

  Index kv_heads_;
  Index capacity_;
  Index head_dim_;
  Buffer<T> memory_;
};

}  // namespace grist
