// Signals as a question, not as the end of the program.
#pragma once

#include <grist/core/errors.hpp>

#include <csignal>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

namespace grist::cli {

/// Exit code of what a signal stopped with its work kept: the same command continues it (EX_TEMPFAIL of sysexits.h).
constexpr ExitCode ended_by_signal{75};

/// By which users, schedulers and terminals that are closed end a program.
constexpr std::initializer_list<int> ending_signals{SIGTERM, SIGINT, SIGUSR1, SIGUSR2, SIGHUP};

/// While it lives, these signals are kept in mind; a second SIGINT, before clear(), ends the program as usual. Others
/// may come as often as they like: a scheduler warns first and asks again at the end. SIGHUP stays ignored where it is
/// (nohup). Calls that wait for input return when one comes, unless `flags` are SA_RESTART.
class Interrupt {
public:
  explicit Interrupt(std::initializer_list<int> signals = {SIGINT}, int flags = 0);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  [[nodiscard]] static bool came();
  /// Throws an Error of code 75 that says during what a signal came, if one did.
  static void check(std::string_view during);
  static void clear();

private:
  std::vector<std::pair<int, struct sigaction>> before_{};
};

}  // namespace grist::cli
