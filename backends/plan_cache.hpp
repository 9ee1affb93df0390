// What a library decided for a shape, kept: deciding costs more than multiplying, and may come out differently next
// time.
#pragma once

#include <grist/backends/gemm.hpp>

#include <compare>
#include <map>
#include <memory>

namespace grist {

/// A product's shape and types, as a key: C [rows, columns] = op(A) op(B) + beta C, `inner` being what is summed over.
struct ProductShape {
  Index batches, rows, columns, inner;
  Op op_a, op_b;
  float beta;
  DType a, b, c;
  Index a_stride, b_stride, c_stride;                    // of rows
  Index a_batch_stride, b_batch_stride, c_batch_stride;  // 0 of a single matrix

  explicit ProductShape(const Product& p)
      : batches(p.c.batches),
        rows(p.rows()),
        columns(p.columns()),
        inner(p.inner()),
        op_a(p.op_a),
        op_b(p.op_b),
        beta(p.beta),
        a(p.a.type),
        b(p.b.type),
        c(p.c.type),
        a_stride(p.a.row_stride),
        b_stride(p.b.row_stride),
        c_stride(p.c.row_stride),
        a_batch_stride(batches > 1 ? p.a.batch_stride : 0),
        b_batch_stride(batches > 1 ? p.b.batch_stride : 0),
        c_batch_stride(batches > 1 ? p.c.batch_stride : 0) {}
  auto operator<=>(const ProductShape&) const = default;
};

/// Plans by key. A null plan says that there is none, and is kept too. At most `most` plans are held, in a process that
/// lives for days: then all are forgotten.
template <class Key, class Plan>
class PlanCache {
public:
  explicit PlanCache(std::size_t most = 1024) : most_(most) {}

  /// The plan of a key, by `make` where there is none yet; valid until the next call.
  template <class Make>
  const Plan* find_or_make(const Key& key, Make&& make) {
    if (const auto found = plans_.find(key); found != plans_.end()) return found->second.get();
    if (plans_.size() >= most_) plans_.clear();
    return plans_.emplace(key, make()).first->second.get();
  }

private:
  std::size_t most_;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace grist
