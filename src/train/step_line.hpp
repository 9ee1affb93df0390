// What a person sees of a training step.
#pragma once

#include <grist/train/metrics.hpp>

#include <cstdio>
#include <string>

namespace grist::train {

/// "step 120/2000 | loss 3.412 | norm 0.91 | lr 3.0e-4 | 412 ms | 9.9 ktok/s | 1 h 2 min left"; the time is left out
/// after the last step, and where `seconds_left` is negative: not known yet.
std::string step_line(const StepMetrics& metrics, Index steps, double seconds_left);

/// "45 s", "12 min", "1 h 2 min", "3 d 4 h".
std::string duration_text(double seconds);

/// The lines of a run: on a terminal one that is written over with a bar before it, in a log one for every
/// `log_every` steps and for the last one.
class StepDisplay {
public:
  /// `live`: `out` is a terminal. `first_step`: the step before the first one of this run (0, or where a run goes on).
  StepDisplay(std::FILE* out, bool live, Index first_step, Index steps, Index log_every);
  ~StepDisplay();
  StepDisplay(const StepDisplay&) = delete;
  StepDisplay& operator=(const StepDisplay&) = delete;

  void show(const StepMetrics& metrics);
  /// A line that stays: an evaluation, a checkpoint, a warning.
  void say(const std::string& line);

private:
  void clear();

  std::FILE* out_;
  bool live_;
  Index first_step_, steps_, log_every_;
  double seconds_per_step_ = 0;  // of late
  std::string shown_;            // on the terminal now
};

}  // namespace grist::train
