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
template <int locality>
HWY_INLINE void fetch(const void* line) {
  __builtin_prefetch(line, 0, GRIST_BF16_AS_FLOATS ? 2 : locality);
}
constexpr int read_once = 0, read_again = 3;  // localities: a line that is read once leaves the first cache first

constexpr Index line = 64 / sizeof(bf16);
/// Whether the vector from number k on begins another line of the cache.
constexpr bool begins_line(Index k) { return lanes >= line || k % line == 0; }

/// T tokens' numbers follow each other vector by vector, zeros behind the last: a tile of them is one stream, and no
/// two of its lines fall on one place of the first cache, as rows a power of two apart do.
template <int T>
HWY_INLINE void pack_tile_of(const bf16* x, Index columns, bf16* to) {
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

/// Rows of which a tile fetches a line with each vector, so that three tiles or more together fetch R.
template <int R>
constexpr int most_lines = (R + 2) / 3;
template <int R>
constexpr Index lines_of(Index tokens) {
  const Index tiles = (tokens + token_tile - 1) / token_tile;
  return std::min<Index>((R + tiles - 1) / tiles, most_lines<R>);
}

/// With vector k a line of each of so many rows or stretches of them, `columns` apart.
template <int rows>
HWY_INLINE void fetch_rows(const bf16* from, Index columns, Index k) {
  if (!begins_line(k)) return;
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) fetch<read_again>(from + r * columns);
}

constexpr Index longest = 2048;  // of rows that go whole: packed they fit 48 KB too
constexpr Index stretch_of(Index columns) { return columns <= longest ? columns : bf16_stretch; }

/// Few tokens fetch what comes so many bytes later: the processor's own prefetching ends with a page.
constexpr Index bytes_ahead = GRIST_BF16_AS_FLOATS ? 16384 : 8192;

/// Products of T tokens and R rows of `columns` numbers; x(t, k) and row(r, k) are the addresses of their numbers from
/// k on; ahead(k) is called before each vector.
template <int T, int R, class Token, class Row, class Ahead>
HWY_INLINE void write_tile(const ProductRows& to, Index columns, Token&& x, Row&& row, Ahead&& ahead) {
  const Index whole = columns / lanes * lanes, left = columns - whole;
  Floats sums[T][R];
  clear(sums);
  add_tile<T, R>(
      whole, [&](int t, Index k) HWY_ATTR { return load(x(t, k)); },
      [&](int r, Index k) HWY_ATTR { return load(row(r, k)); }, ahead, sums);
  add_tile<T, R>(
      left, [&](int t, Index) HWY_ATTR { return load_some(x(t, whole), left); },
      [&](int r, Index) HWY_ATTR { return load_some(row(r, whole), left); }, [](Index) {}, sums);
  write_sums(sums, to);
}

/// R rows by T tokens; meanwhile each row's numbers further on come to the first cache, near its end the next rows'.
template <int T, int R>
HWY_INLINE void rows_by_few(const ProductRows& to, bool packed, const bf16* w, Index columns) {
  const Index token = packed ? lanes : to.x_stride, number = packed ? T : 1;
  constexpr Index far = bytes_ahead / Index{sizeof(bf16)} / R;
  const Index distance = R == 1 ? far : std::min(far, columns);
  const auto row = [=](int r, Index k) HWY_ATTR { return w + r * columns + k; };
  write_tile<T, R>(
      to, columns, [=, x = to.x](int t, Index k) HWY_ATTR { return x + t * token + k * number; }, row,
      [=](Index k) HWY_ATTR {
        if (!begins_line(k)) return;
        const Index next = k + distance < columns ? k + distance : k + distance + (R - 1) * columns;
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) fetch<read_once>(row(r, next));
      });
}

/// R short rows by at most most_tokens tokens, which find them in the first cache; meanwhile the next come there.
template <int R, int lines>
HWY_INLINE void short_rows_by_many(const ProductRows& to, const bf16* w, Index columns) {
  const bf16* ahead = w + R * columns;
  for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
    write_tile<T, R>(
        to.from(t, 0), columns, [x = to.x + t * to.x_stride, stride = to.x_stride](int i, Index k)
                                    HWY_ATTR { return x + i * stride + k; },
        [=](int r, Index k) HWY_ATTR { return w + r * columns + k; },
        [=](Index k) HWY_ATTR { fetch_rows<lines>(ahead + k, columns, k); });
    ahead += lines * columns;
  });
}

/// R rows by at most most_tokens packed tokens: so many that rows are best copied to lines of the cache first, for what
/// crosses a line is loaded at half the speed.
template <int R, int lines>
HWY_INLINE void long_rows_by_many(const ProductRows& to, const bf16* w, Index columns) {
  const bf16* ahead = w + R * columns;
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
            [=](Index c) HWY_ATTR { fetch_rows<lines>(ahead + c, count, c); }, sums);
      });
      ahead += lines * count;
    });
  }
}

/// R rows by more tokens than take one tile.
template <int R>
HWY_INLINE void rows_by_many(const ProductRows& to, bool packed, const bf16* w, Index columns) {
  for_passes(to, [&](const ProductRows& pass) HWY_ATTR {
    with_constant<most_lines<R>>(lines_of<R>(pass.tokens), [&]<int lines>(std::integral_constant<int, lines>) HWY_ATTR {
      if (packed)
        long_rows_by_many<R, lines>(pass, w, columns);
      else
        short_rows_by_many<R, lines>(pass, w, columns);
    });
  });
}

/// Rows that few tokens take together: one or two tokens in the order of memory, but where two products of float follow
/// each other in a sum, four rows have more sums on their way; others as many as eight tokens have registers for.
constexpr int rows_of(int tokens) { return tokens > 2 ? bf16_tile_rows / 2 : GRIST_BF16_AS_FLOATS ? 4 : 1; }

}  // namespace

void pack_tile_here(const bf16* x, Index columns, Index tokens, bf16* to) {
  with_constant<most_in_one_tile>(
      tokens, [&]<int T>(std::integral_constant<int, T>) HWY_ATTR { pack_tile_of<T>(x, columns, to); });
}

void multiply_bf16_rows_here(const bf16* w, Index columns, Index rows, const ProductRows& to) {
  const bool packed = packs_tokens(to.tokens, columns);
  Index row = 0;
  const auto take = [&]<int R>(std::integral_constant<int, R> together, auto&& multiply) HWY_ATTR {
    for (; row + R <= rows; row += R) multiply(together, to.from(0, row), w + row * columns);
  };
  const auto by_few = [&]<int T>(std::integral_constant<int, T>) HWY_ATTR {
    const auto multiply = [&]<int R>(std::integral_constant<int, R>, const ProductRows& there, const bf16* first)
                              HWY_ATTR { rows_by_few<T, R>(there, packed, first, columns); };
    take(std::integral_constant<int, rows_of(T)>(), multiply);
    take(std::integral_constant<int, 1>(), multiply);
  };
  const auto by_many = [&]<int R>(std::integral_constant<int, R>, const ProductRows& there, const bf16* first)
                           HWY_ATTR { rows_by_many<R>(there, packed, first, columns); };
  if (to.tokens <= most_in_one_tile) return with_constant<most_in_one_tile>(to.tokens, by_few);
  take(std::integral_constant<int, bf16_tile_rows>(), by_many);
  take(std::integral_constant<int, 2>(), by_many);
  take(std::integral_constant<int, 1>(), by_many);
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist::cpu {

HWY_EXPORT(pack_tile_here);
HWY_EXPORT(multiply_bf16_rows_here);

void pack_tile(const bf16* x, Index columns, Index tokens, bf16* to) {
  HWY_DYNAMIC_DISPATCH(pack_tile_here)(x, columns, tokens, to);
}

template <class Y>
void multiply_bf16_rows(const bf16* w, Index columns, Index rows, const TokenRows<bf16, Y>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_bf16_rows_here)(w, columns, rows, ProductRows(to));
}
template void multiply_bf16_rows(const bf16*, Index, Index, const TokenRows<bf16, float>&);
template void multiply_bf16_rows(const bf16*, Index, Index, const TokenRows<bf16, bf16>&);

}  // namespace grist::cpu
#endif
