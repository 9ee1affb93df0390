#include <grist/model/paged_kv.hpp>

#include <grist/core/errors.hpp>
#include <grist/model/batch.hpp>

#include <algorithm>
#include <atomic>

namespace grist {
namespace {

Index next_number() {
  static std::atomic<Index> last = 0;
  return ++last;
}

int pages_of(Index rows) { return static_cast<int>((rows + kv_page_rows - 1) / kv_page_rows); }

/// Pages of a pool that one sequence of `length` tokens has at most: a window's queries of one pass see so many
/// positions, at any place in their first page.
int pages_of_sequence(int window, Index length, Index batch_tokens) {
  if (window == 0) return pages_of(length);
  const Index seen = window - 1 + batch_tokens;
  return std::min(pages_of(length), pages_of(seen + kv_page_rows - 1));
}

int pages_of_pool(int window, const KvLimits& limits) {
  const int all = pages_of(limits.tokens + Index{limits.sequences - 1} * (kv_page_rows - 1));
  if (window == 0) return all;
  return std::min(all, limits.sequences * pages_of_sequence(window, limits.tokens, limits.batch_tokens));
}

/// The page with the first key that a query at `position` sees.
int first_needed(int window, int position) {
  return window > 0 && position >= window ? (position - window + 1) / kv_page_rows : 0;
}

/// Bytes of a layer's keys, which are those of its values too.
Index half_bytes(KvType type, const KvLayer& layer, int pages) {
  return Index{pages} * kv_page_rows * layer.kv_heads * row_bytes(type, layer.head_dim);
}

/// Elements of a page of one KV head, its scales counted as elements.
Index head_elements(KvType type, int head_dim) {
  return kv_page_rows * row_bytes(type, head_dim) / element_bytes(type);
}

/// Row `row` of a KV head's page = from [dim], by the vector lanes of a thread.
template <class K, class Member, class X>
KOKKOS_INLINE_FUNCTION void store_row(const Member& team, const X* from, Index dim, K* page, Index row) {
  Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, dim),
                       [&](Index c) { page[row * dim + c] = K(static_cast<float>(from[c])); });
}

template <class Member, class X>
KOKKOS_INLINE_FUNCTION void store_row(const Member& team, const X* from, Index dim, std::int8_t* page, Index row) {
  constexpr std::uint32_t infinity = 0x7f800000U, nan = 0x7fc00000U;
  std::uint32_t largest = 0;  // max |x| as bits, whose order is that of the numbers, NaN above all
  Kokkos::parallel_reduce(
      Kokkos::ThreadVectorRange(team, dim),
      [&](Index c, std::uint32_t& most) {
        const auto bits = Kokkos::bit_cast<std::uint32_t>(static_cast<float>(from[c])) & 0x7fffffffU;
        most = bits > most ? bits : most;
      },
      Kokkos::Max<std::uint32_t>(largest));
  const float scale = Kokkos::bit_cast<float>(largest < infinity ? largest : nan) / 127;
  Kokkos::parallel_for(Kokkos::ThreadVectorRange(team, dim), [&](Index c) {
    float n = scale > 0 ? static_cast<float>(from[c]) / scale : 0.0F;
    n = n > 127 ? 127.0F : n < -127 ? -127.0F : n;  // the scale of subnormal numbers is rounded
    // The low byte of 1.5 * 2^23 + n is n, to the nearest integer, ties to even.
    page[row * dim + c] = static_cast<std::int8_t>(Kokkos::bit_cast<std::uint32_t>(n + 12582912.0F) & 0xffU);
  });
  auto* const scales = reinterpret_cast<float*>(page + kv_page_rows * dim);
  Kokkos::single(Kokkos::PerThread(team), [&] { scales[row] = scale; });
}

template <class X, class K>
void write(const Exec& exec, KvType type, const KvLayer& layer, View2<const X> qkv, View1<const Index> rows,
           void* keys, void* values) {
  const Index dim = layer.head_dim, kv_heads = layer.kv_heads;
  const Index elements = head_elements(type, layer.head_dim);
  const Index first_k = static_cast<Index>(qkv.extent(1)) - 2 * kv_heads * dim;
  using Team = Kokkos::TeamPolicy<Exec>;
  Kokkos::parallel_for(
      "grist::paged_kv::append", Team(exec, static_cast<int>(rows.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank(), page = rows(t) / kv_page_rows, row = rows(t) % kv_page_rows;
        Kokkos::parallel_for(Kokkos::TeamThreadRange(team, kv_heads), [&](Index head) {
          const X* const k = &qkv(t, first_k + head * dim);
          const X* const v = k + kv_heads * dim;
          const Index at = (page * kv_heads + head) * elements;
          store_row(team, k, dim, static_cast<K*>(keys) + at, row);
          store_row(team, v, dim, static_cast<K*>(values) + at, row);
        });
      });
}

}  // namespace

std::vector<int> kv_pool_windows(std::span<const KvLayer> layers) {
  std::vector<int> windows;
  for (const auto& layer : layers)
    if (std::ranges::find(windows, layer.window) == windows.end()) windows.push_back(layer.window);
  return windows;
}

PagedKv::PagedKv(KvType type, std::vector<KvLayer> layers, Range held, const KvLimits& limits)
    : number_(next_number()), type_(type), held_(held), limits_(limits) {
  const auto windows = kv_pool_windows(layers);
  for (const int window : windows) {
    auto& pool = pools_.emplace_back(Pool{window, pages_of_pool(window, limits), {}, {}});
    pool.users.resize(static_cast<std::size_t>(pool.pages));
    for (int page = pool.pages - 1; page >= 0; --page) pool.free.push_back(page);
  }
  Index bytes = 0;
  for (Index i = 0; i < std::ssize(layers); ++i) {
    const auto& shape = layers[static_cast<std::size_t>(i)];
    const int pool = static_cast<int>(std::ranges::find(windows, shape.window) - windows.begin());
    const Index half = i >= held.begin && i < held.end ? half_bytes(type, shape, pages(pool)) : 0;
    layers_.push_back({shape, pool, bytes, bytes + half});
    bytes += 2 * half;
  }
  memory_ = Buffer<std::byte>("kv_cache", bytes);
}

std::uint64_t PagedKv::bytes(KvType type, std::span<const KvLayer> layers, Range held, const KvLimits& limits) {
  Index bytes = 0;
  for (Index i = held.begin; i < held.end; ++i) {
    const auto& layer = layers[static_cast<std::size_t>(i)];
    bytes += 2 * half_bytes(type, layer, pages_of_pool(layer.window, limits));
  }
  return static_cast<std::uint64_t>(bytes);
}

int PagedKv::take(Pool& pool) {
  const int page = pool.free.back();
  pool.free.pop_back();
  pool.users[static_cast<std::size_t>(page)] = 1;
  return page;
}

void PagedKv::give_back(Pool& pool, int page) {
  if (--pool.users[static_cast<std::size_t>(page)] == 0) pool.free.push_back(page);
}

bool PagedKv::reserve(KvSequence& sequence, int length) {
  if (length <= sequence.length_)
    throw ShapeError("paged_kv: {} positions are wanted, {} are there", length, sequence.length_);
  sequence.pools_.resize(pools_.size());
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    const auto& had = sequence.pools_[i];
    const int needed = first_needed(pools_[i].window, sequence.length_);
    const int given_back = std::clamp(needed - had.first, 0, static_cast<int>(had.pages.size()));
    const auto freed = std::count_if(had.pages.begin(), had.pages.begin() + given_back, [&](int page) {
      return pools_[i].users[static_cast<std::size_t>(page)] == 1;
    });
    const int wanted = pages_of(length) - had.first - static_cast<int>(had.pages.size());
    if (wanted > freed + std::ssize(pools_[i].free)) return false;
  }
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    auto& [first, pages] = sequence.pools_[i];
    const int needed = first_needed(pools_[i].window, sequence.length_);
    const int given_back = std::clamp(needed - first, 0, static_cast<int>(pages.size()));
    std::for_each(pages.begin(), pages.begin() + given_back, [&](int page) { give_back(pools_[i], page); });
    pages.erase(pages.begin(), pages.begin() + given_back);
    first += given_back;
    while (first + static_cast<int>(pages.size()) < pages_of(length)) pages.push_back(take(pools_[i]));
  }
  sequence.length_ = length;
  return true;
}

bool PagedKv::share(KvSequence& sequence, const KvSequence& other, int length) {
  if (sequence.length_ != 0 || length % kv_page_rows != 0 || length > other.length_)
    throw ShapeError("paged_kv: {} positions of {} cannot become those of a sequence of {}", length, other.length_,
                     sequence.length_);
  for (std::size_t i = 0; i < pools_.size(); ++i)
    if (other.pools_[i].first > first_needed(pools_[i].window, length)) return false;
  sequence.pools_.resize(pools_.size());
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    const auto& [first, pages] = other.pools_[i];
    sequence.pools_[i] = {first, {pages.begin(), pages.begin() + pages_of(length) - first}};
    for (const int page : sequence.pools_[i].pages) ++pools_[i].users[static_cast<std::size_t>(page)];
  }
  sequence.length_ = length;
  return true;
}

int PagedKv::truncate(KvSequence& sequence, int length) {
  if (length >= sequence.length_) return sequence.length_;
  // Another sequence reads what would be written over.
  for (std::size_t i = 0; i < pools_.size() && length % kv_page_rows != 0; ++i) {
    const auto& [first, pages] = sequence.pools_[i];
    const int last = length / kv_page_rows - first;
    if (last >= 0 && last < std::ssize(pages) &&
        pools_[i].users[static_cast<std::size_t>(pages[static_cast<std::size_t>(last)])] > 1)
      length -= length % kv_page_rows;
  }
  bool lost = length <= 0;
  for (std::size_t i = 0; i < pools_.size(); ++i)
    lost = lost || sequence.pools_[i].first > first_needed(pools_[i].window, length);
  if (lost) {
    release(sequence);
    return 0;
  }
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    auto& [first, pages] = sequence.pools_[i];
    for (; first + static_cast<int>(pages.size()) > pages_of(length); pages.pop_back())
      give_back(pools_[i], pages.back());
  }
  return sequence.length_ = length;
}

void PagedKv::release(KvSequence& sequence) {
  for (std::size_t i = 0; i < sequence.pools_.size(); ++i) {
    const auto& pages = sequence.pools_[i].pages;
    std::for_each(pages.rbegin(), pages.rend(), [&](int page) { give_back(pools_[i], page); });
  }
  sequence = KvSequence();
}

bool PagedKv::fits(int length) const {
  return std::ranges::all_of(pools_, [&](const Pool& pool) {
    return pages_of_sequence(pool.window, length, limits_.batch_tokens) <= pool.pages;
  });
}

const PagedKv::Layer& PagedKv::held(int layer) const {
  if (layer < held_.begin || layer >= held_.end)
    throw ShapeError("paged_kv: layer {} is wanted, this stage holds {} to {}", layer, held_.begin, held_.end - 1);
  return layers_[static_cast<std::size_t>(layer)];
}

template <class X>
void PagedKv::append(const Exec& exec, int layer, View2<const X> qkv, const Batch& batch) const {
  const auto& [shape, pool, keys, values] = held(layer);
  const auto rows = batch.cache_rows(pool);
  if (rows.extent(0) != qkv.extent(0) || static_cast<Index>(qkv.extent(1)) < Index{2} * shape.kv_heads * shape.head_dim)
    throw ShapeError("paged_kv: qkv [{}, {}] does not hold k and v of {} KV heads of {} for {} tokens", qkv.extent(0),
                     qkv.extent(1), shape.kv_heads, shape.head_dim, rows.extent(0));
  const auto write_as = [&]<class K>(K) {
    write<X, K>(exec, type_, shape, qkv, rows, memory_.data() + keys, memory_.data() + values);
  };
  switch (type_) {
    case KvType::f32:
      return write_as(float());
    case KvType::bf16:
      return write_as(bf16());
    case KvType::f16:
      return write_as(f16());
    case KvType::int8:
      return write_as(std::int8_t());
  }
}

KvPages PagedKv::view(int layer, const Batch& batch) const {
  const auto& [shape, pool, keys, values] = held(layer);
  const Index head = head_elements(type_, shape.head_dim);
  return {.type = type_,
          .keys = memory_.data() + keys,
          .values = memory_.data() + values,
          .row_stride = shape.head_dim,
          .head_stride = head,
          .page_stride = head * shape.kv_heads,
          .pages = batch.pages(pool),
          .first = batch.first_pages(pool)};
}

template void PagedKv::append(const Exec&, int, View2<const float>, const Batch&) const;
template void PagedKv::append(const Exec&, int, View2<const bf16>, const Batch&) const;

}  // namespace grist
