#include <grist/io/dequantize.hpp>

#include <grist/core/errors.hpp>
#include <grist/io/mapped_file.hpp>

#include <array>
#include <utility>

namespace grist::io {
namespace {

using u8 = std::uint8_t;
using i8 = std::int8_t;

/// A plain number is a block of one.
template <class T>
struct Plain {
  static constexpr int elements = 1;
  T value;
  void decode(float* x) const { x[0] = static_cast<float>(value); }
};

/// x = d q
struct Q8_0 {
  static constexpr int elements = 32;
  f16 d;
  i8 q[32];
  void decode(float* x) const {
    const float scale = d;
    for (int i = 0; i < 32; ++i) x[i] = scale * static_cast<float>(q[i]);
  }
};

/// x = d (q - 8), the first half of the block in the low nibbles
struct Q4_0 {
  static constexpr int elements = 32;
  f16 d;
  u8 q[16];
  void decode(float* x) const {
    const float scale = d;
    for (int i = 0; i < 16; ++i) x[i] = scale * static_cast<float>((q[i] & 15) - 8);
    for (int i = 0; i < 16; ++i) x[i + 16] = scale * static_cast<float>((q[i] >> 4) - 8);
  }
};

/// x = d q + m, nibbles as in Q4_0
struct Q4_1 {
  static constexpr int elements = 32;
  f16 d;
  f16 m;
  u8 q[16];
  void decode(float* x) const {
    const float scale = d;
    const float least = m;
    for (int i = 0; i < 16; ++i) x[i] = scale * static_cast<float>(q[i] & 15) + least;
    for (int i = 0; i < 16; ++i) x[i + 16] = scale * static_cast<float>(q[i] >> 4) + least;
  }
};

/// x = d s[j] q - dmin m[j] in group j of 32. The eight 6-bit s and m lie in 12 bytes: the first four of each in the low
/// bits of bytes 0..3 and 4..7; of the others the low nibbles in bytes 8..11 (s low, m high) and the upper two bits at
/// the top of bytes 0..3 (s) and 4..7 (m). Groups 2k and 2k + 1 are the low and high nibbles of bytes [32 k, 32 k + 32).
struct Q4_K {
  static constexpr int elements = 256;
  f16 d;
  f16 dmin;
  u8 sm[12];
  u8 q[128];
  [[nodiscard]] int s(int j) const { return j < 4 ? sm[j] & 63 : (sm[j + 4] & 15) | (sm[j - 4] >> 6) << 4; }
  [[nodiscard]] int m(int j) const { return j < 4 ? sm[j + 4] & 63 : sm[j + 4] >> 4 | (sm[j] >> 6) << 4; }
  void decode(float* x) const {
    for (int j = 0; j < 8; ++j, x += 32) {
      const float scale = static_cast<float>(d) * static_cast<float>(s(j));
      const float least = static_cast<float>(dmin) * static_cast<float>(m(j));
      const u8* nibbles = q + j / 2 * 32;
      const int shift = j % 2 * 4;
      for (int i = 0; i < 32; ++i) x[i] = scale * static_cast<float>(nibbles[i] >> shift & 15) - least;
    }
  }
};

/// x = d s[j] (q - 32) in group j of 16. Of each half of 128 numbers, number 32 k + i has its low four bits in
/// low[32 (k % 2) + i], the low nibble for k < 2 and the high one for the rest, and its upper two bits at 2 k of high[i].
struct Q6_K {
  static constexpr int elements = 256;
  u8 low[128];
  u8 high[64];
  i8 s[16];
  f16 d;
  void decode(float* x) const {
    for (int group = 0; group < 16; ++group, x += 16) {
      const float scale = static_cast<float>(d) * static_cast<float>(s[group]);
      const int half = group / 8;
      const int k = group % 8 / 2;
      const int start = group % 2 * 16;
      const u8* nibbles = low + half * 64 + k % 2 * 32 + start;
      const u8* pairs = high + half * 32 + start;
      for (int i = 0; i < 16; ++i) {
        const int q = (nibbles[i] >> k / 2 * 4 & 15) | (pairs[i] >> 2 * k & 3) << 4;
        x[i] = scale * static_cast<float>(q - 32);
      }
    }
  }
};

static_assert(sizeof(Q8_0) == 34 && sizeof(Q4_0) == 18 && sizeof(Q4_1) == 20 && sizeof(Q4_K) == 144 && sizeof(Q6_K) == 210);

/// Calls f with a block of the type.
template <class F>
auto with_block(FileType type, F f) {
  switch (type) {
    case FileType::f32: return f(Plain<float>{});
    case FileType::f16: return f(Plain<f16>{});
    case FileType::bf16: return f(Plain<bf16>{});
    case FileType::q8_0: return f(Q8_0{});
    case FileType::q4_0: return f(Q4_0{});
    case FileType::q4_1: return f(Q4_1{});
    case FileType::q4_k: return f(Q4_K{});
    case FileType::q6_k: return f(Q6_K{});
  }
  throw InternalError("io: unknown file type {}", static_cast<int>(type));
}

}  // namespace

BlockFormat format_of(FileType type) {
  return with_block(type, []<class Block>(Block) { return BlockFormat{Block::elements, sizeof(Block)}; });
}

void dequantize(FileType type, const std::byte* blocks, Index count, float* out) {
  with_block(type, [=]<class Block>(Block) {
    for (Index i = 0; i < count; ++i) load<Block>(blocks + i * Index{sizeof(Block)}).decode(out + i * Block::elements);
  });
}

}  // namespace grist::io
