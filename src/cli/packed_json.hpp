// JSON as the bytes of a message between ranks.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace grist::cli {

/// MessagePack, which keeps doubles and any text as they are.
inline std::string packed(const nlohmann::json& value) {
  const auto bytes = nlohmann::json::to_msgpack(value);
  return {bytes.begin(), bytes.end()};
}

/// What packed() was given.
inline nlohmann::json unpacked(std::string_view bytes) { return nlohmann::json::from_msgpack(bytes); }

}  // namespace grist::cli
