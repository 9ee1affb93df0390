#include <grist/train/step_line.hpp>

#include <algorithm>
#include <cmath>
#include <format>

namespace grist::train {
namespace {

/// 3.0e-4, as people write it.
std::string short_power(double value) {
  if (!(value > 0) || !std::isfinite(value)) return std::format("{}", value);
  int exponent = static_cast<int>(std::floor(std::log10(value)));
  double mantissa = std::round(value / std::pow(10.0, exponent) * 10) / 10;
  if (mantissa >= 10) mantissa /= 10, ++exponent;
  return std::format("{:.1f}e{}", mantissa, exponent);
}

std::string rate_text(double tokens_per_second) {
  if (tokens_per_second >= 1e6) return std::format("{:.1f} Mtok/s", tokens_per_second / 1e6);
  if (tokens_per_second >= 1e3) return std::format("{:.1f} ktok/s", tokens_per_second / 1e3);
  return std::format("{:.0f} tok/s", tokens_per_second);
}

std::string bar(Index done, Index total) {
  constexpr Index width = 20;
  const Index full = total > 0 ? std::clamp<Index>(done * width / total, 0, width) : 0;
  return '[' + std::string(static_cast<std::size_t>(full), '#') +
         std::string(static_cast<std::size_t>(width - full), '.') + "] ";
}

}  // namespace

std::string duration_text(double seconds) {
  const auto whole = static_cast<Index>(std::llround(std::max(0.0, seconds)));
  const Index minutes = (whole + 30) / 60, hours = minutes / 60;
  if (whole < 60) return std::format("{} s", whole);
  if (hours == 0) return std::format("{} min", minutes);
  if (hours < 24) return std::format("{} h {} min", hours, minutes % 60);
  return std::format("{} d {} h", hours / 24, hours % 24);
}

std::string step_line(const StepMetrics& metrics, Index steps, double seconds_left) {
  const double ms = 1000 * metrics.seconds;
  std::string line = std::format("step {}/{} | loss {:.3f} | norm {:.2f} | lr {} | {} | {}", metrics.step, steps,
                                 metrics.loss, metrics.gradient_norm, short_power(metrics.learning_rate),
                                 ms < 10000 ? std::format("{:.0f} ms", ms) : std::format("{:.1f} s", metrics.seconds),
                                 rate_text(metrics.tokens_per_second));
  if (seconds_left >= 0 && metrics.step < steps) line += " | " + duration_text(seconds_left) + " left";
  return line;
}

StepDisplay::StepDisplay(std::FILE* out, bool live, Index first_step, Index steps, Index log_every)
    : out_(out), live_(live), first_step_(first_step), steps_(steps), log_every_(std::max<Index>(1, log_every)) {}

StepDisplay::~StepDisplay() {
  if (!shown_.empty()) std::fputc('\n', out_);  // the last line stays
  std::fflush(out_);
}

void StepDisplay::show(const StepMetrics& metrics) {
  // The first step of a run is slower than all others: it is forgotten.
  const Index done = metrics.step - first_step_;
  seconds_per_step_ = done <= 2 ? metrics.seconds : 0.9 * seconds_per_step_ + 0.1 * metrics.seconds;
  const std::string line =
      step_line(metrics, steps_, seconds_per_step_ * static_cast<double>(steps_ - metrics.step));
  if (live_) {
    clear();
    shown_ = bar(metrics.step, steps_) + line;
    std::fputs(shown_.c_str(), out_);
  } else if (done == 1 || metrics.step % log_every_ == 0 || metrics.step == steps_) {
    std::fprintf(out_, "%s\n", line.c_str());
  }
  std::fflush(out_);
}

void StepDisplay::say(const std::string& line) {
  clear();
  std::fprintf(out_, "%s\n", line.c_str());
  if (!shown_.empty()) std::fputs(shown_.c_str(), out_);
  std::fflush(out_);
}

void StepDisplay::clear() {
  if (live_ && !shown_.empty()) std::fputs("\r\033[K", out_);
}

}  // namespace grist::train
