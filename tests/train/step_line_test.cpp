// The line of a step, in a log and on a terminal.
#include <grist/train/step_line.hpp>

#include <gmock/gmock.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>

namespace {

using namespace grist;
using namespace grist::train;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

StepMetrics metrics_at(Index step) {
  return {.step = step, .loss = 3.4123, .learning_rate = 3e-4, .gradient_norm = 0.912, .tokens_per_second = 9940,
          .seconds = 0.4119};
}

TEST(StepLine, SaysItAll) {
  EXPECT_EQ(step_line(metrics_at(120), 2000, 3720),
            "step 120/2000 | loss 3.412 | norm 0.91 | lr 3.0e-4 | 412 ms | 9.9 ktok/s | 1 h 2 min left");
  EXPECT_EQ(step_line(metrics_at(2000), 2000, 0),
            "step 2000/2000 | loss 3.412 | norm 0.91 | lr 3.0e-4 | 412 ms | 9.9 ktok/s");
}

TEST(StepLine, FitsSmallAndLargeNumbers) {
  StepMetrics metrics = metrics_at(1);
  metrics.learning_rate = 9.96e-6;
  metrics.tokens_per_second = 12.4;
  metrics.seconds = 83.25;
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(step_line(metrics, 9, -1), "step 1/9 | loss nan | norm 0.91 | lr 1.0e-5 | 83.2 s | 12 tok/s");
  metrics.learning_rate = 0;
  metrics.tokens_per_second = 2.25e6;
  EXPECT_THAT(step_line(metrics, 9, -1), HasSubstr("| lr 0 | 83.2 s | 2.2 Mtok/s"));
}

TEST(Duration, IsSaidInTwoUnits) {
  EXPECT_EQ(duration_text(0.4), "0 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(90), "2 min");
  EXPECT_EQ(duration_text(3599), "1 h 0 min");
  EXPECT_EQ(duration_text(3 * 86400 + 4 * 3600), "3 d 4 h");
}

/// What is written to a file by f.
std::string written(const std::function<void(std::FILE*)>& f) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* out = open_memstream(&text, &size);
  f(out);
  std::fclose(out);
  std::string result(text, size);
  std::free(text);
  return result;
}

Index lines(const std::string& text) { return std::ranges::count(text, '\n'); }

TEST(StepDisplay, InALogHasTheFirstTheLastAndEveryTenthStep) {
  const std::string log = written([](std::FILE* out) {
    StepDisplay display(out, false, 0, 25, 10);
    for (Index step = 1; step <= 25; ++step) display.show(metrics_at(step));
  });
  EXPECT_EQ(lines(log), 4);
  for (const char* step : {"step 1/25", "step 10/25", "step 20/25", "step 25/25"}) EXPECT_THAT(log, HasSubstr(step));
  EXPECT_THAT(log, Not(HasSubstr("\r")));
}

TEST(StepDisplay, OnATerminalIsOneLineThatMessagesDoNotSpoil) {
  const std::string terminal = written([](std::FILE* out) {
    StepDisplay display(out, true, 0, 4, 1);
    for (Index step = 1; step <= 3; ++step) display.show(metrics_at(step));
    display.say("saved");
    display.show(metrics_at(4));
  });
  EXPECT_EQ(lines(terminal), 2);
  EXPECT_THAT(terminal, StartsWith("[#####...............] step 1/4"));
  EXPECT_THAT(terminal, HasSubstr("\r\033[Ksaved\n[###############.....] step 3/4"));
  EXPECT_THAT(terminal, HasSubstr("\r\033[K[####################] step 4/4"));
  EXPECT_EQ(terminal.back(), '\n');
}

TEST(StepDisplay, ForgetsTheSlowFirstStep) {
  const std::string log = written([](std::FILE* out) {
    StepDisplay display(out, false, 100, 200, 1);
    StepMetrics slow = metrics_at(101);
    slow.seconds = 1000;
    display.show(slow);
    StepMetrics metrics = metrics_at(102);
    metrics.seconds = 0.5;
    display.show(metrics);
  });
  EXPECT_THAT(log, HasSubstr("49 s left"));
}

}  // namespace
