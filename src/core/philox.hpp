// Counter-based random numbers (Philox-4x32-10, Salmon et al., SC 2011): a number is a function of key and counter,
// so that it depends neither on the layout of ranks and threads nor on what was drawn before.
#pragma once

#include <Kokkos_Core.hpp>

#include <cstdint>
#include <string_view>

namespace grist {

struct PhiloxBlock {
  std::uint32_t word[4];
};

KOKKOS_INLINE_FUNCTION PhiloxBlock philox(PhiloxBlock counter, std::uint64_t key) {
  std::uint32_t key0 = static_cast<std::uint32_t>(key);
  std::uint32_t key1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = 0xD2511F53ULL * counter.word[0];
    const std::uint64_t product1 = 0xCD9E8D57ULL * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(product1),
                static_cast<std::uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(product0)}};
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  return counter;
}

/// Key of an independent stream: one per seed and purpose or tensor name.
struct PhiloxStream {
  std::uint64_t key;
  std::uint64_t id;

  /// The four words at a 64-bit index of the stream.
  KOKKOS_INLINE_FUNCTION PhiloxBlock at(std::uint64_t index) const {
    return philox({{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                    static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(id >> 32)}},
                  key);
  }
};

/// FNV-1a, to make a stream's id from a name.
constexpr std::uint64_t hash_name(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

/// Uniform in (0, 1): never 0, so that its logarithm is finite, and never 1. With 23 bits the sum is exact.
KOKKOS_INLINE_FUNCTION float uniform(std::uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5F) * 0x1p-23F;
}

struct NormalPair {
  float first;
  float second;
};

/// Two independent standard normals from two words (Box and Muller 1958).
KOKKOS_INLINE_FUNCTION NormalPair normal_pair(std::uint32_t word0, std::uint32_t word1) {
  const float radius = Kokkos::sqrt(-2.0F * Kokkos::log(uniform(word0)));
  const float angle = 6.283185307179586F * uniform(word1);
  return {radius * Kokkos::cos(angle), radius * Kokkos::sin(angle)};
}

}  // namespace grist
