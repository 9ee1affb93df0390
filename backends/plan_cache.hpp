// What a library decided for a shape, kept: deciding costs more than multiplying, and may come out differently next time.
#pragma once

#include <grist/backends/gemm.hpp>

#include <compare>
#include <map>
#include <memory>

namespace grist {

/// A product y [batches, tokens, out] = x [batches, tokens, in] w [batches, out, in]^T.
struct ProductShape {
  Index batches, tokens, in, out;
  DType x, w, y;

  ProductShape(const ConstMatrix& x_, const ConstMatrix& w_, const Matrix& y_)
      : batches(x_.batches), tokens(x_.rows), in(x_.columns), out(w_.rows), x(x_.type), w(w_.type), y(y_.type) {}
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
