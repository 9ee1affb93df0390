// Cells of CSV as RFC 4180 has them.
#pragma once

#include <string>
#include <string_view>

namespace grist {

/// In quotes; a quote within is doubled.
inline std::string csv_quoted(std::string_view text) {
  std::string all = "\"";
  for (const char c : text) {
    if (c == '"') all += c;
    all += c;
  }
  return all + "\"";
}

}  // namespace grist
