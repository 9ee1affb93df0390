#include <grist/generate/stop_filter.hpp>

#include <algorithm>
#include <utility>

namespace grist {

std::string StopFilter::put(std::string_view piece) {
  if (stopped_) return {};
  held_ += piece;
  std::size_t cut = std::string::npos;
  for (const auto& stop : stops_) cut = std::min(cut, stop.empty() ? std::string::npos : held_.find(stop));
  if (cut != std::string::npos) {
    stopped_ = true;
    held_.resize(cut);
    return std::exchange(held_, {});
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
  std::string sure = held_.substr(0, held_.size() - keep);
  held_.erase(0, sure.size());
  return sure;
}

std::string StopFilter::finish() { return std::exchange(held_, {}); }

}  // namespace grist
