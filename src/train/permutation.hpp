// A pseudo-random order without a table.
#pragma once

#include <grist/core/philox.hpp>

#include <bit>
#include <cstdint>

namespace grist::train {

/// A permutation of [0, size) that a key chooses: a Feistel network with Philox (Luby and Rackoff 1988) on
/// the next power of four, walked until it comes back into the range (Black and Rogaway 2002).
class Permutation {
public:
  Permutation(std::uint64_t size, std::uint64_t key)
      : size_(size), key_(key), half_bits_((std::bit_width(size > 1 ? size - 1 : 1U) + 1) / 2) {}

  [[nodiscard]] std::uint64_t operator()(std::uint64_t index) const {
    do index = encrypt(index);
    while (index >= size_);
    return index;
  }

private:
  [[nodiscard]] std::uint64_t encrypt(std::uint64_t index) const {
    const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
    std::uint64_t left = index >> half_bits_, right = index & mask;
    for (std::uint32_t round = 0; round < rounds; ++round) {
      const std::uint32_t word = philox({{static_cast<std::uint32_t>(right), round, 0, 0}}, key_).word[0];
      const std::uint64_t next = left ^ (word & mask);
      left = right;
      right = next;
    }
    return left << half_bits_ | right;
  }

  static constexpr std::uint32_t rounds = 10;  // with four, some orders of few documents are much more frequent

  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

}  // namespace grist::train
