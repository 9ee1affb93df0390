#include <grist/backends/cpu/row_products.hpp>

#include <grist/backends/cpu/bf16_targets.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/bf16_row_products.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <grist/backends/cpu/row_sums-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

/// Fetches a line of the cache: on Intel's processors into the second one, which waits for more lines at a time.
HWY_INLINE void fetch(const void* line) { __builtin_prefetch(line, 0, GRIST_BF16_AS_FLOATS ? 2 : 3); }

constexpr Index line = 64 / sizeof(bf16);
/// Whether the vector from number k on begins another line of the cache.
constexpr bool begins_line(Index k) { return lanes >= line || k % line == 0; }

/// T tokens' numbers follow each other vector by vector, zeros behind the last: a tile of them is one stream, and no
/// two of its lines fall on one place of the first cache, as rows a power of two apart do.
template <int T>
HWY_INLINE void pack_tile(const bf16* x, Index columns, bf16* to) {
  Index k = 0;
  for (; k + lanes <= columns; k += lanes)
    for (int t = 0; t < T; ++t) store(load(x + t * columns + k), to + k * T + t * lanes);
  if (k < columns)
    for (int t = 0; t < T; ++t) store(load_some(x + t * columns + k, columns - k), to + k * T + t * lanes);
}

/// to = the first `count` numbers of R rows, zeros behind them up to a whole vector.
template <int R, Index stride>
HWY_INLINE void copy_rows(const bf16* w, Index columns, Index count, UnsetRows<R, stride>& to) {
  Index k = 0;
  for (; k + lanes <= count; k += lanes)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store(load(w + r * columns + k), to.row(r) + k);
  if (k < count)
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store(load_some(w + r * columns + k, count - k), to.row(r) + k);
}

/// Lines to fetch with each vector of a tile, so that the tiles of all tokens together fetch as many rows.
constexpr int lines_of(int rows, Index tokens) {
  const auto tiles = static_cast<int>((tokens + token_tile - 1) / token_tile);
  return (rows + tiles - 1) / tiles;
}

constexpr Index longest = 2048;  // of rows that go whole: packed they fit 48 KB too
constexpr Index stretch_of(Index columns) { return columns <= longest ? columns : bf16_stretch; }

/// One or two tokens fetch what is so many bytes further on: the processor's own prefetching ends with a page.
constexpr Index bytes_ahead = GRIST_BF16_AS_FLOATS ? 16384 : 4096;

/// R rows by at most most_tokens tokens, which find a stretch of rows in the first cache; meanwhile the next R
/// rows come there, or rows further on where they are short.
template <int R>
HWY_INLINE void rows_by_some(const ProductRows& to, const bf16* w, Index columns) {
  const bool in_order = to.tokens <= 2;
  const Index next = R * columns * Index{sizeof(bf16)};
  const Index distance = !in_order ? next : R == 1 ? bytes_ahead : std::max(bytes_ahead, next);
  const char* ahead = reinterpret_cast<const char*>(w) + distance;
  const int lines = lines_of(R, to.tokens);
  const auto fetch_ahead = [&](Index k) HWY_ATTR {
    if (!begins_line(k)) return;
    for (int i = 0; i < lines; ++i, ahead += 64) fetch(ahead);
  };
  const Index most = to.tokens > token_tile ? stretch_of(columns) : columns;
  KeptSums<R> kept;
  for (Index k = 0; k < columns; k += most) {
    const Index count = std::min(most, columns - k), whole = count / lanes * lanes;
    for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
      const bf16* const x = to.x + t * to.x_stride + k;
      kept.template take_stretch<T>(k, count, columns, t, to, [&](Floats (&sums)[T][R]) HWY_ATTR {
        add_tile<T, R>(
            whole, [&](int i, Index c) HWY_ATTR { return load(x + i * to.x_stride + c); },
            [&](int r, Index c) HWY_ATTR { return load(w + r * columns + k + c); }, fetch_ahead, sums);
        const auto rest = [&](const bf16* from) HWY_ATTR { return load_some(from + whole, count - whole); };
        add_tile<T, R>(
            count - whole, [&](int i, Index) HWY_ATTR { return rest(x + i * to.x_stride); },
            [&](int r, Index) HWY_ATTR { return rest(w + r * columns + k); }, [](Index) {}, sums);
      });
    });
  }
}

/// R rows by at most most_tokens packed tokens: so many that rows are best copied to lines of the cache first, for what
/// crosses a line is loaded at half the speed.
template <int R>
HWY_INLINE void rows_by_many(const ProductRows& to, const bf16* w, Index columns) {
  const bf16* ahead = w + R * columns;
  const int lines = lines_of(R, to.tokens);
  UnsetRows<R, longest + line> copied;  // not a power of two apart
  KeptSums<R> kept;
  const Index most = stretch_of(columns);
  for (Index k = 0; k < columns; k += most) {
    const Index count = std::min(most, columns - k);
    copy_rows(w + k, columns, count, copied);
    for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
      const bf16* const x = to.x + t * to.x_stride + k * T;
      kept.template take_stretch<T>(k, count, columns, t, to, [&](Floats (&sums)[T][R]) HWY_ATTR {
        add_tile<T, R>(
            count, [=](int i, Index c) HWY_ATTR { return load(x + c * T + i * lanes); },
            [&](int r, Index c) HWY_ATTR { return load(copied.row(r) + c); },
            [=](Index c) HWY_ATTR {
              if (!begins_line(c)) return;
              fetch(ahead + c);
              for (int i = 1; i < lines; ++i) fetch(ahead + i * count + c);
            },
            sums);
      });
      ahead += lines * count;
    });
  }
}

/// Of one or two tokens: in the order of memory, but where two products of float follow each other in a sum, four of
/// them have more sums on their way.
constexpr int rows_in_order = GRIST_BF16_AS_FLOATS ? 4 : 1;

}  // namespace

void pack_tokens_here(const bf16* x, Index columns, Index tokens, bf16* to) {
  for_tiles(tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
    pack_tile<T>(x + t * columns, columns, to + t * packed_columns(columns));
  });
}

/// One or two tokens take rows in the order of memory; more of them tiles of registers.
void multiply_bf16_rows_here(const bf16* w, Index columns, Index rows, const ProductRows& to) {
  const bool packed = packs_tokens(to.tokens, columns);
  Index row = 0;
  const auto take = [&]<int R>(std::integral_constant<int, R>) HWY_ATTR {
    for (; row + R <= rows; row += R) {
      const ProductRows there = to.from(0, row);
      const bf16* const first = w + row * columns;
      for_passes(there, [&](const ProductRows& pass) HWY_ATTR {
        if (packed)
          rows_by_many<R>(pass, first, columns);
        else
          rows_by_some<R>(pass, first, columns);
      });
    }
  };
  if (to.tokens > 2) {
    take(std::integral_constant<int, bf16_tile_rows>());
    take(std::integral_constant<int, 2>());
  } else {
    take(std::integral_constant<int, rows_in_order>());
  }
  take(std::integral_constant<int, 1>());
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist::cpu {

HWY_EXPORT(pack_tokens_here);
HWY_EXPORT(multiply_bf16_rows_here);

void pack_tokens(const bf16* x, Index columns, Index tokens, bf16* to) {
  HWY_DYNAMIC_DISPATCH(pack_tokens_here)(x, columns, tokens, to);
}

template <class Y>
void multiply_bf16_rows(const bf16* w, Index columns, Index rows, const TokenRows<bf16, Y>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_bf16_rows_here)(w, columns, rows, ProductRows(to));
}
template void multiply_bf16_rows(const bf16*, Index, Index, const TokenRows<bf16, float>&);
template void multiply_bf16_rows(const bf16*, Index, Index, const TokenRows<bf16, bf16>&);

}  // namespace grist::cpu
#endif
