// Cuts a text stream at the first stop string, and holds back what may become one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace grist {

class StopFilter {
public:
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Takes a piece, returns the text that is surely before every stop string.
  std::string put(std::string_view piece) { return put(piece, true); }
  /// A piece that is not shown, such as a special token's text, but may be part of a stop string.
  std::string put_hidden(std::string_view piece) { return put(piece, false); }
  /// The rest, once no more pieces come.
  std::string finish();
  /// A stop string has come; it and what follows it are gone.
  [[nodiscard]] bool stopped() const { return stopped_; }

private:
  std::string put(std::string_view piece, bool shown);
  /// Takes the first `count` bytes of what is held and returns those that are shown.
  std::string take(std::size_t count);

  std::vector<std::string> stops_;
  std::string held_;
  std::vector<bool> shown_;  // of each byte held
  bool stopped_ = false;
};

}  // namespace grist
