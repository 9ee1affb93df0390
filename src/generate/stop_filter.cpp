#include <grist/generate/stop_filter.hpp>

#include <algorithm>

namespace grist {

std::string StopFilter::put(std::string_view piece, bool shown) {
  if (stopped_) return {};
  held_ += piece;
  shown_.resize(held_.size(), shown);
  std::size_t cut = std::string::npos;
  for (const auto& stop : stops_) cut = std::min(cut, stop.empty() ? std::string::npos : held_.find(stop));
  if (cut != std::string::npos) {
    stopped_ = true;
    std::string before = take(cut);
    held_.clear();
    return before;
  }
  std::size_t keep = 0;  // the longest end of the text that is the beginning of a stop string
  for (const auto& stop : stops_) {
    for (std::size_t n = std::min(stop.size(), held_.size()); n > keep; --n) {
      if (held_.ends_with(std::string_view(stop).substr(0, n))) {
        keep = n;
        break;
      }
    }
  }
  return take(held_.size() - keep);
}

std::string StopFilter::take(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i)
    if (shown_[i]) text += held_[i];
  held_.erase(0, count);
  shown_.erase(shown_.begin(), shown_.begin() + static_cast<std::ptrdiff_t>(count));
  return text;
}

std::string StopFilter::finish() { return take(held_.size()); }

}  // namespace grist
