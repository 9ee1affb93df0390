// Rows of keys and values as a cache stores them: in a type of plain numbers, or as std::int8_t with scales.
#pragma once

#include <support/views.hpp>

#include <grist/backends/attention.hpp>

#include <cstring>

namespace grist::test {

template <class K>
constexpr KvType kv_type = kv_type_of(dtype_of<K>);
template <>
inline constexpr KvType kv_type<std::int8_t> = KvType::int8;

/// NaN where a number is.
inline float largest_of(std::span<const float> row) {
  float largest = 0;
  for (const float value : row)
    if (!std::isnan(largest) && !(std::abs(value) <= largest)) largest = std::abs(value);
  return largest;
}

/// Rows of `dim` numbers as K stores them. Of int8 a row's scale is exact in bf16 and its largest number 127 of them:
/// then each number is exact in float, and quantizing the row again gives the same.
template <class K>
std::vector<float> stored_rows(std::vector<float> values, int dim) {
  if constexpr (!std::is_same_v<K, std::int8_t>) {
    return stored<K>(std::move(values));
  } else {
    for (std::span<float> rest = values; !rest.empty(); rest = rest.subspan(static_cast<std::size_t>(dim))) {
      const auto row = rest.first(static_cast<std::size_t>(dim));
      const auto bits = Kokkos::bit_cast<std::uint32_t>(largest_of(row) / 127) & 0xffff0000U;
      const float scale = Kokkos::bit_cast<float>(bits);
      for (float& value : row) value = std::clamp(std::nearbyint(value / scale), -127.0F, 127.0F) * scale;
    }
    return values;
  }
}

/// Pages of one KV head each, of kv_page_rows rows, as they lie in a cache: of int8 the integers, then the scales.
template <class K>
Buffer<K> pages_on_device(const std::vector<float>& rows, int dim) {
  if constexpr (!std::is_same_v<K, std::int8_t>) {
    return on_device<K>(rows);
  } else {
    std::vector<std::int8_t> elements;
    std::vector<float> scales;
    for (std::span<const float> rest = rows; !rest.empty(); rest = rest.subspan(static_cast<std::size_t>(dim))) {
      const auto row = rest.first(static_cast<std::size_t>(dim));
      scales.push_back(largest_of(row) / 127);
      for (const float value : row)
        elements.push_back(scales.back() > 0 ? static_cast<std::int8_t>(std::nearbyint(value / scales.back())) : 0);
      if (scales.size() < kv_page_rows) continue;
      elements.resize(elements.size() + kv_page_rows * sizeof(float));
      std::memcpy(&*elements.end() - kv_page_rows * sizeof(float), scales.data(), kv_page_rows * sizeof(float));
      scales.clear();
    }
    return on_device<K>(elements);
  }
}

}  // namespace grist::test
