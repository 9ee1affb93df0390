// Weights of any format for tests: blocks of varied bytes with moderate scales, and the numbers that they hold.
#pragma once

#include <grist/core/interleaved_rows.hpp>
#include <grist/core/weight.hpp>

#include <support/views.hpp>

#include <cstring>
#include <string>

namespace grist::test {

constexpr Format every_format[] = {Format::f32,  Format::f16,  Format::bf16, Format::q8_0,   Format::q4_0,
                                   Format::q4_1, Format::q5_0, Format::q5_1, Format::q2_k,   Format::q3_k,
                                   Format::q4_k, Format::q5_k, Format::q6_k, Format::iq4_nl, Format::iq4_xs};

/// Rows of a format in the memory that kernels work in, and their numbers as floats.
struct StoredRows {
  Format format;
  Index rows, columns;
  std::vector<float> numbers;
  Buffer<std::byte> memory;
  bool is_interleaved = false;

  StoredRows(Format format_, Index rows_, Index columns_, std::string_view name = "rows")
      : format(format_), rows(rows_), columns(columns_), numbers(static_cast<std::size_t>(rows * columns)) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(rows * row_bytes(format, columns)));
    with_format(format, [&]<class Block>(Block block) {
      const PhiloxStream stream{29, hash_name(name)};
      const auto values = normals(name, rows * columns / Block::elements * 2);
      for (std::size_t i = 0; i < bytes.size() / sizeof(Block); ++i) {
        if constexpr (Block::elements == 1) {
          block.number = static_cast<decltype(block.number)>(values[2 * i]);
        } else {
          auto* const raw = reinterpret_cast<std::byte*>(&block);
          for (std::size_t byte = 0; byte < sizeof(Block); ++byte)
            raw[byte] = static_cast<std::byte>(stream.at(i * 256 + byte).word[0]);
          block.d = f16(0.05F * values[2 * i]);
          if constexpr (requires { block.m; }) block.m = f16(0.3F * values[2 * i + 1]);
          if constexpr (requires { block.dmin; }) block.dmin = f16(0.05F * values[2 * i + 1]);
        }
        std::memcpy(bytes.data() + i * sizeof(Block), &block, sizeof(Block));
        block.decode(numbers.data() + i * Block::elements);
      }
    });
    memory = Buffer<std::byte>("rows", static_cast<Index>(bytes.size()));
    Kokkos::deep_copy(memory.view(), HostView<const std::byte>(bytes.data(), bytes.size()));
  }

  /// The same rows interleaved, for kernels of the host.
  [[nodiscard]] StoredRows interleaved() const {
    StoredRows result = *this;
    result.memory = Buffer<std::byte>("interleaved rows", memory.size());
    const Index bytes = row_bytes(format, columns);
    for (Index row = 0; row < rows; row += interleaved_rows)
      interleave(format, memory.data() + row * bytes, columns, result.memory.data() + row * bytes);
    result.is_interleaved = true;
    return result;
  }

  [[nodiscard]] Panel panel() const { return {format, rows, memory.data(), is_interleaved}; }
  /// Some of the rows.
  [[nodiscard]] Panel panel(Index first, Index count) const {
    return {format, count, memory.data() + first * row_bytes(format, columns), is_interleaved};
  }
  [[nodiscard]] Weight weight() const {
    Weight w(columns, 1);
    w.add(panel());
    return w;
  }
};

}  // namespace grist::test
