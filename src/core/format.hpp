// The number formats of files and of weights in memory, each with its block. Activations have a DType, weights a
// Format. To add one: its enumerator, its block in blocks.hpp, its line in with_format; its name in a file format in
// src/io.
#pragma once

#include <grist/core/blocks.hpp>
#include <grist/core/errors.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace grist {

enum class Format { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs };

/// Calls f(Block()), where Block is the type of the format's blocks: `elements`, value(i), decode(float* [elements]).
template <class F>
constexpr auto with_format(Format format, F&& f) {
  switch (format) {
    case Format::f32:
      return f(PlainBlock<float>());
    case Format::f16:
      return f(PlainBlock<f16>());
    case Format::bf16:
      return f(PlainBlock<bf16>());
    case Format::q8_0:
      return f(Q8_0());
    case Format::q4_0:
      return f(Q4_0());
    case Format::q4_1:
      return f(Q4_1());
    case Format::q5_0:
      return f(Q5_0());
    case Format::q5_1:
      return f(Q5_1());
    case Format::q2_k:
      return f(Q2_K());
    case Format::q3_k:
      return f(Q3_K());
    case Format::q4_k:
      return f(Q4_K());
    case Format::q5_k:
      return f(Q5_K());
    case Format::q6_k:
      return f(Q6_K());
    case Format::iq4_nl:
      return f(IQ4_NL());
    case Format::iq4_xs:
      return f(IQ4_XS());
  }
  throw InternalError("unknown number format {}", static_cast<int>(format));
}

constexpr std::string_view name_of(Format format) {
  constexpr std::string_view names[] = {"f32",  "f16",  "bf16", "q8_0", "q4_0", "q4_1",   "q5_0",  "q5_1",
                                        "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"};
  return names[static_cast<std::size_t>(format)];
}

/// The unit that a row is stored in: rows are whole blocks.
struct BlockSize {
  std::int64_t elements;
  std::int64_t bytes;
};
constexpr BlockSize block_of(Format format) {
  return with_format(format, []<class Block>(Block) { return BlockSize{Block::elements, sizeof(Block)}; });
}

/// Bytes of `columns` numbers of a row, a multiple of block_of(format).elements.
constexpr std::int64_t row_bytes(Format format, std::int64_t columns) {
  const auto [elements, bytes] = block_of(format);
  return columns / elements * bytes;
}

constexpr Format format_of(DType type) {
  return type == DType::f32 ? Format::f32 : type == DType::bf16 ? Format::bf16 : Format::f16;
}
/// The type that activations of the same numbers have; nothing where the format has blocks.
constexpr std::optional<DType> plain_dtype(Format format) {
  switch (format) {
    case Format::f32:
      return DType::f32;
    case Format::f16:
      return DType::f16;
    case Format::bf16:
      return DType::bf16;
    default:
      return std::nullopt;
  }
}

static_assert(block_of(Format::q8_0).bytes == 34 && block_of(Format::q4_0).bytes == 18 &&
              block_of(Format::q4_1).bytes == 20 && block_of(Format::q5_0).bytes == 22 &&
              block_of(Format::q5_1).bytes == 24 && block_of(Format::q2_k).bytes == 84 &&
              block_of(Format::q3_k).bytes == 110 && block_of(Format::q4_k).bytes == 144 &&
              block_of(Format::q5_k).bytes == 176 && block_of(Format::q6_k).bytes == 210 &&
              block_of(Format::iq4_nl).bytes == 18 && block_of(Format::iq4_xs).bytes == 136);

}  // namespace grist
