// How keys and values are stored in a cache: as plain numbers, or as int8 with a scale for each row.
#pragma once

#include <grist/core/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace grist {

/// int8: the key, or value, of a token and KV head is n * scale, with integers |n| <= 127 and a float scale = max|x| /
/// 127, so that each number is off by half a scale at most (1/254 of the row's largest).
enum class KvType { f32, bf16, f16, int8 };

constexpr KvType kv_type_of(DType type) {
  return type == DType::f32 ? KvType::f32 : type == DType::bf16 ? KvType::bf16 : KvType::f16;
}
constexpr std::string_view name_of(KvType type) {
  constexpr std::string_view names[] = {"f32", "bf16", "f16", "int8"};
  return names[static_cast<std::size_t>(type)];
}

/// Bytes of a number, and of a row of `head_dim` numbers with its scale.
constexpr std::int64_t element_bytes(KvType type) {
  return type == KvType::f32 ? 4 : type == KvType::int8 ? 1 : 2;
}
constexpr std::int64_t row_bytes(KvType type, std::int64_t head_dim) {
  return head_dim * element_bytes(type) + (type == KvType::int8 ? static_cast<std::int64_t>(sizeof(float)) : 0);
}

}  // namespace grist
