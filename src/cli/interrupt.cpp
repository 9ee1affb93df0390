#include "interrupt.hpp"

namespace grist::cli {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void on_interrupt(int signal) {
  if (interrupted != 0) {
    std::signal(signal, SIG_DFL);
    std::raise(signal);
  }
  interrupted = 1;
}

}  // namespace

Interrupt::Interrupt() {
  struct sigaction action{};
  action.sa_handler = on_interrupt;  // without SA_RESTART
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &before_);
}

Interrupt::~Interrupt() { sigaction(SIGINT, &before_, nullptr); }

bool Interrupt::came() { return interrupted != 0; }

void Interrupt::clear() { interrupted = 0; }

}  // namespace grist::cli
