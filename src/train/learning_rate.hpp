// The learning rate as a pure function of the step: a linear warm-up from 0 to the peak over `warmup` steps, then
//   constant: the peak
//   linear  : down to `least` at the last step
//   cosine  : least + (peak - least) (1 + cos(pi p)) / 2, p from 0 to 1 (Loshchilov and Hutter 2017)
//   wsd     : the peak, and over the last `decay` steps least + (peak - least) (1 - sqrt(p)) (Hägele et al. 2024)
// The values are those of transformers' schedulers, whose wsd however warms up from `least`.
#pragma once

#include <grist/core/view.hpp>

namespace grist::train {

struct LearningRate {
  enum class Schedule { constant, linear, cosine, wsd };
  Schedule schedule = Schedule::constant;
  double peak = 0;
  double least = 0;  // constant has no use for it
  Index warmup = 0;
  Index steps = 0;  // the last step of the run
  Index decay = 0;  // of wsd alone

  /// `step` counts from 1: the first step of a warm-up trains with peak / warmup, and the last step with `least`.
  /// Behind the last step the rate stays.
  [[nodiscard]] double at(Index step) const;
};

}  // namespace grist::train
