// A progress line on a terminal, nothing on a pipe.
#pragma once

#include <cstdint>
#include <string>

namespace grist::cli {

bool on_terminal(int descriptor);

class ProgressLine {
public:
  /// Silent unless `active` and stderr is a terminal.
  ProgressLine(std::string title, bool active);
  ~ProgressLine();
  /// With a `detail` behind it, which changes more often than the bar.
  void show(std::uint64_t done, std::uint64_t total, const std::string& detail = {});

private:
  std::string title_;
  bool active_;
  int shown_ = -1;  // percent
};

}  // namespace grist::cli
