// Ctrl-C as a question of the user's, not as the end of the program.
#pragma once

#include <csignal>

namespace grist::cli {

/// While it lives, the first SIGINT is kept in mind and a second one, before clear(), ends the program as usual. Calls
/// that wait for input return when it comes.
class Interrupt {
public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  [[nodiscard]] static bool came();
  static void clear();

private:
  struct sigaction before_{};
};

}  // namespace grist::cli
