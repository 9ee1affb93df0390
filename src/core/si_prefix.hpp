// Numbers for people.
#pragma once

#include <cmath>
#include <format>
#include <string>
#include <utility>

namespace grist {

/// "41.2 GB/s", "12.3 us": three digits with a prefix of SI.
inline std::string with_prefix(double value, const char* unit) {
  constexpr std::pair<double, const char*> prefixes[] = {{1e15, "P"}, {1e12, "T"}, {1e9, "G"},   {1e6, "M"}, {1e3, "k"},
                                                         {1, ""},     {1e-3, "m"}, {1e-6, "u"}, {1e-9, "n"}};
  for (const auto& [size, prefix] : prefixes)
    if (std::abs(value) >= 0.9995 * size) return std::format("{:.3g} {}{}", value / size, prefix, unit);
  return std::format("{:.3g} {}", value, unit);
}

}  // namespace grist
