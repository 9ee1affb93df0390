// A text or a list of any length from one rank to all.
#pragma once

#include <grist/comm/communicator.hpp>

#include <string>
#include <vector>

namespace grist {

/// The values of rank `root`, of which others need not know the number. Collective.
inline std::vector<int> broadcast_list(const Communicator& ranks, std::vector<int> values, int root) {
  Index size = std::ssize(values);
  ranks.broadcast(&size, 1, root);
  values.resize(static_cast<std::size_t>(size));
  ranks.broadcast(values.data(), size, root);
  return values;
}

/// The text of rank `root`. Collective.
inline std::string broadcast_text(const Communicator& ranks, const std::string& text, int root) {
  const auto letters = broadcast_list(ranks, {text.begin(), text.end()}, root);
  return {letters.begin(), letters.end()};
}

}  // namespace grist
