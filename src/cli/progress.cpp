#include "progress.hpp"

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace grist::cli {

bool on_terminal(int descriptor) { return isatty(descriptor) == 1; }

ProgressLine::ProgressLine(std::string title, bool active)
    : title_(std::move(title)), active_(active && on_terminal(STDERR_FILENO)) {}

ProgressLine::~ProgressLine() {
  if (shown_ >= 0) std::fprintf(stderr, "\r\033[K");  // leaves the terminal as it was
}

void ProgressLine::show(std::uint64_t done, std::uint64_t total, const std::string& detail) {
  if (!active_ || total == 0) return;
  const int percent = static_cast<int>(100 * done / total);
  if (percent == shown_ && detail.empty()) return;
  shown_ = percent;
  constexpr int width = 32;
  std::string bar(static_cast<std::size_t>(percent * width / 100), '#');
  bar.resize(width, '.');
  std::fprintf(stderr, "\r%s [%s] %3d %%%s%s\033[K", title_.c_str(), bar.c_str(), percent, detail.empty() ? "" : " ",
               detail.c_str());
  std::fflush(stderr);
}

}  // namespace grist::cli
