// Products of rows of blocks with tokens whose numbers are rounded to 8 bits: bytes are multiplied where bf16 or floats
// were, and any number of tokens goes through one kernel. For processors with AVX2 or AVX-512, fastest with VNNI
// (AVX3_DL of Highway: from Ice Lake and Zen 4 on); all of them give the same bits.
#pragma once

#include <grist/core/weight.hpp>

namespace grist::cpu {

/// 32 numbers of a token, a line of the cache: number i is about scale * numbers[i]. With scale = max |x| / 127 each is
/// off by scale / 2 at most (llama.cpp rounds the same way: quantize_row_q8_0).
struct alignas(64) Int8Run {
  static constexpr int elements = 32;
  std::int8_t numbers[elements];
  float scale;
  float sums[3];           // of scale * numbers: of all, of the first half, of the second
  std::int32_t starts[3];  // -128 times the sums of numbers, of the same: codes of weights are up to 128 too high
};
static_assert(sizeof(Int8Run) == 64);

constexpr Index most_int8_tokens = 128;  // of a call: their runs fit the second cache, their sums the first

/// At most so many tokens, and where their products go: token t has `runs` from x + t * runs on; y_stride in elements.
template <class Y>
struct Int8Tokens {
  const Int8Run* x;
  Y* y;
  Index tokens, runs, y_stride;
};

/// Whether this processor has them, for every format of blocks.
bool has_int8_products();

/// Whether it has AMX for bf16, by which libraries multiply many tokens faster still.
bool has_bf16_tiles();

/// Rounds 32 numbers for each run. What is not finite makes its whole run so; below 1e-30 all 32 are zeros.
void round_to_int8(const bf16* x, Index runs, Int8Run* to);

/// y [tokens, r] = x times row `begin` + r of a panel for each r < `rows`. Each sum is over the groups of the row in
/// order, of the exact sum of integers in float times both scales: it depends on the row and the token alone. Of an
/// interleaved panel `begin` and `rows` are multiples of interleaved_rows.
template <class Y>
void multiply_rows_in_int8(const Panel& panel, Index begin, Index rows, const Int8Tokens<Y>& to);

}  // namespace grist::cpu
