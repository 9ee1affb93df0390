// What vector code asks of a block of weights (core/blocks.hpp).
#pragma once

#include <grist/core/blocks.hpp>

#include <type_traits>

namespace grist::cpu {

/// Whether something is subtracted from scale times integer.
template <class Block>
inline constexpr bool has_least = requires(const Block& block) { block.least(0); };

/// Numbers in a row that share a scale.
template <class Block>
inline constexpr int scale_group = Block::elements == 32 || std::is_same_v<Block, IQ4_XS> ? 32 : Block::group;

}  // namespace grist::cpu
