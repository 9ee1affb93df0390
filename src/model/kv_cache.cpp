#include <grist/model/kv_cache.hpp>

namespace grist {

template <class T>
KvCache<T>::KvCache(int layers, int kv_heads, Index capacity, int head_dim)
    : kv_heads_(kv_heads),
      capacity_(capacity),
      head_dim_(head_dim),
      memory_("kv_cache", Index{2} * layers * kv_heads * capacity * head_dim) {}

template <class T>
void KvCache<T>::append(const Exec& exec, int layer, View2<const T> qkv, View1<const Index> rows) const {
  const auto k = keys(layer), v = values(layer);
  const Index width = kv_heads_ * head_dim_, first_k = static_cast<Index>(qkv.extent(1)) - 2 * width;
  const Index dim = head_dim_;
  Kokkos::parallel_for(
      "grist::kv_cache::append", Indices<Exec>(exec, 0, static_cast<Index>(rows.extent(0)) * width),
      KOKKOS_LAMBDA(Index item) {
        const Index t = item / width, c = item % width;
        k(c / dim, rows(t), c % dim) = qkv(t, first_k + c);
        v(c / dim, rows(t), c % dim) = qkv(t, first_k + width + c);
      });
}

template class KvCache<float>;
template class KvCache<bf16>;

}  // namespace grist
