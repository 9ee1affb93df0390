// Cuts a text stream at the first stop string, and holds back what may become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace grist {

class StopFilter {
public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Takes a piece, returns the text that is surely in front of every stop string.
  std::string put(std::string_view piece);
  /// The rest, once no more pieces come.
  std::string finish();
  /// A stop string has come; it and what follows it are gone.
  [[nodiscard]] bool stopped() const { return stopped_; }

private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace grist
