// Maps by text that are asked with views.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace grist::text {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

template <class T>
using StringMap = std::unordered_map<std::string, T, StringHash, std::equal_to<>>;

}  // namespace grist::text
