#include <grist/train/learning_rate.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace grist::train {

double LearningRate::at(Index step) const {
  if (step < warmup) return peak * static_cast<double>(step) / static_cast<double>(warmup);
  const Index from = schedule == Schedule::wsd ? std::max(warmup, steps - decay) : warmup;
  const double length = static_cast<double>(std::max<Index>(1, steps - from));
  const double progress = std::clamp(static_cast<double>(step - from) / length, 0.0, 1.0);
  const auto between = [&](double share) { return std::lerp(least, peak, share); };
  switch (schedule) {
    case Schedule::constant:
      break;
    case Schedule::linear:
      return between(1 - progress);
    case Schedule::cosine:
      return between((1 + std::cos(std::numbers::pi * progress)) / 2);
    case Schedule::wsd:
      return between(1 - std::sqrt(progress));
  }
  return peak;
}

}  // namespace grist::train
