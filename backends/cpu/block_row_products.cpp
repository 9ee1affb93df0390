#include <grist/backends/cpu/row_products.hpp>

#include <grist/backends/cpu/bf16_targets.hpp>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/block_row_products.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <grist/backends/cpu/row_sums-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

constexpr bool multiplies_blocks = HWY_TARGET > HWY_AVX2;  // a smaller number is a newer processor

/// R rows by one token, decoded in registers.
template <int R, class Block>
HWY_INLINE void block_rows_by_one(const ProductRows& to, const Block* w, Index columns) {
  constexpr Index chunk_blocks = chunk / Block::elements;
  const Index row_blocks = columns / Block::elements;
  Floats sums[1][R];
  clear(sums);
  for (Index k = 0; k < columns; k += chunk) {
    const int runs = static_cast<int>(std::min<Index>(chunk, columns - k)) / run;
    const Block* blocks[R];
    Scales<Block> scales[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      blocks[r] = w + r * row_blocks + k / chunk * chunk_blocks;
      for (Index line = 0; line < chunk_blocks * Index{sizeof(Block)}; line += 64)
        hwy::Prefetch(reinterpret_cast<const char*>(blocks[r] + R * row_blocks) + line);
      scales[r].decode(blocks[r], runs);
    }
    const auto add = [&](int i) HWY_ATTR {
      Bf16s token[vectors];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) token[v] = load_as_in<Block>(to.x + k + i * run + v * lanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const Run weights = run_at(blocks[r], scales[r], i);
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v) sums[0][r] = add_products(token[v], weights.numbers[v], sums[0][r]);
      }
    };
    if (vectors == 1 && runs == chunk / run) {  // of several vectors, a run alone is code enough
#pragma GCC unroll 8
      for (int i = 0; i < chunk / run; ++i) add(i);
    } else {
      for (int i = 0; i < runs; ++i) add(i);
    }
  }
  write_sums(sums, to);
}

/// Calls f(run, number of its first weight) for the runs of `count` numbers of a row.
template <class Block, class F>
HWY_INLINE void decode(const Block* blocks, Index count, F&& f) {
  Scales<Block> scales;
  for (Index k = 0; k < count; k += chunk, blocks += chunk / Block::elements) {
    const int runs = static_cast<int>(std::min<Index>(chunk, count - k)) / run;
    scales.decode(blocks, runs);
    for (int i = 0; i < runs; ++i) f(run_at(blocks, scales, i), k + i * run);
  }
}

constexpr Index stretch = 1024;  // numbers of a row, decoded together: a tile of them fits the first cache

/// R rows by at most most_tokens tokens: each stretch is decoded once for all of them.
template <int R, class Block>
HWY_INLINE void block_rows(const ProductRows& to, const Block* w, Index columns) {
  const Index row_blocks = columns / Block::elements;
  KeptSums<R> kept;
  UnsetRows<R, stretch> decoded;
  for (Index k = 0; k < columns; k += stretch) {
    const Index count = std::min(stretch, columns - k);
    for (int r = 0; r < R; ++r) {
      const Block* const blocks = w + r * row_blocks + k / Block::elements;
      const Index row_bytes = count / Block::elements * Index{sizeof(Block)};
      for (Index line = 0; line < row_bytes; line += 64)  // the next R rows
        hwy::Prefetch(reinterpret_cast<const char*>(blocks + R * row_blocks) + line);
      decode(blocks, count, [&](const Run& weights, Index first) HWY_ATTR {
        for (int v = 0; v < vectors; ++v) store(weights.numbers[v], decoded.row(r) + first + v * lanes);
      });
    }
    for_tiles(to.tokens, [&]<int T>(std::integral_constant<int, T>, Index t) HWY_ATTR {
      const bf16* const x = to.x + t * to.x_stride + k;
      kept.template take_stretch<T>(k, count, columns, t, to, [&](Floats (&sums)[T][R]) HWY_ATTR {
        add_tile<T, R>(
            count, [&](int i, Index c) HWY_ATTR { return load_as_in<Block>(x + i * to.x_stride + c); },
            [&](int r, Index c) HWY_ATTR { return load(decoded.row(r) + c); }, [](Index) {}, sums);
      });
    });
  }
}

template <int R, class Block>
HWY_INLINE void block_rows_by_many(const ProductRows& to, const Block* w, Index columns) {
  for_passes(to, [&](const ProductRows& pass) HWY_ATTR { block_rows<R>(pass, w, columns); });
}

template <class Block>
void multiply(const Block* w, Index columns, Index rows, const ProductRows& to) {
  const Index row_blocks = columns / Block::elements;
  // One token's rows of many bytes take as long as memory does: in its order. Others hide their chains of sums in four.
  constexpr int few = sizeof(Block) > Block::elements ? 1 : 4;
  Index row = 0;
  if (to.tokens == 1) {
    for (; row + few <= rows; row += few) block_rows_by_one<few>(to.from(0, row), w + row * row_blocks, columns);
    for (; row < rows; ++row) block_rows_by_one<1>(to.from(0, row), w + row * row_blocks, columns);
  } else {
    for (; row + bf16_tile_rows <= rows; row += bf16_tile_rows)
      block_rows_by_many<bf16_tile_rows>(to.from(0, row), w + row * row_blocks, columns);
    for (; row < rows; ++row) block_rows_by_many<1>(to.from(0, row), w + row * row_blocks, columns);
  }
}
}  // namespace

bool multiplies_blocks_here() { return multiplies_blocks; }

void multiply_block_rows_here(Format format, const void* panel, Index columns, Index begin, Index rows,
                              const ProductRows& to) {
  with_format(format, [&]<class Block>(Block) {
    if constexpr (Block::elements > 1 && multiplies_blocks)
      multiply(static_cast<const Block*>(panel) + begin * (columns / Block::elements), columns, rows, to);
  });
}

void round_row_here(Format format, const void* panel, Index columns, Index row, bf16* to) {
  with_format(format, [&]<class Block>(Block) {
    if constexpr (Block::elements > 1)
      decode(static_cast<const Block*>(panel) + row * (columns / Block::elements), columns,
             [&](const Run& weights, Index first) HWY_ATTR { store_in_order<Block>(weights, to + first); });
  });
}

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist::cpu {

HWY_EXPORT(multiplies_blocks_here);
HWY_EXPORT(multiply_block_rows_here);
HWY_EXPORT(round_row_here);

bool has_block_row_products() { return HWY_DYNAMIC_DISPATCH(multiplies_blocks_here)(); }

template <class Y>
void multiply_block_rows(Format format, const void* panel, Index columns, Index begin, Index rows,
                         const TokenRows<bf16, Y>& to) {
  HWY_DYNAMIC_DISPATCH(multiply_block_rows_here)(format, panel, columns, begin, rows, ProductRows(to));
}
template void multiply_block_rows(Format, const void*, Index, Index, Index, const TokenRows<bf16, float>&);
template void multiply_block_rows(Format, const void*, Index, Index, Index, const TokenRows<bf16, bf16>&);

void round_row(Format format, const void* panel, Index columns, Index row, bf16* to) {
  HWY_DYNAMIC_DISPATCH(round_row_here)(format, panel, columns, row, to);
}

}  // namespace grist::cpu
#endif
