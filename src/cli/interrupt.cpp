#include "interrupt.hpp"

#include <format>

namespace grist::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int signal) {
  if (interrupted != 0 && signal == SIGINT) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  interrupted = 1;
}

}  // namespace

Interrupt::Interrupt(std::initializer_list<int> signals, int flags) {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  for (const int signal : signals) {
    struct sigaction before {};
    sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;
    before_.emplace_back(signal, before);
    sigaction(signal, &action, nullptr);
  }
}

Interrupt::~Interrupt() {
  for (const auto& [signal, action] : before_) sigaction(signal, &action, nullptr);
}

bool Interrupt::came() { return interrupted != 0; }

void Interrupt::check(std::string_view during) {
  if (came())
    throw Error(ended_by_signal, std::format("stopped by a signal while {}; run the same command again", during));
}

void Interrupt::clear() { interrupted = 0; }

}  // namespace grist::cli
