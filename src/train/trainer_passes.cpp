// The passes of a step: a stage's pipeline actions, one after the other, with messages that go on beside them.
#include <grist/core/clock.hpp>
#include <grist/core/errors.hpp>
#include <grist/train/trainer_state.hpp>

#include <algorithm>
#include <chrono>
#include <format>
#include <functional>
#include <utility>

namespace grist::train {
namespace {

using Clock = std::chrono::steady_clock;

/// A micro-batch's place in a stage, and its messages that are under way.
struct Flight {
  int micro_batch = -1;  // free
  Transfer x, dx;        // received
  Transfer sent_y, sent_dx;
};

/// The place of the last backward pass of each chunk among the actions.
std::vector<std::size_t> last_backward_of(const std::vector<Action>& actions, int chunks) {
  std::vector<std::size_t> last(static_cast<std::size_t>(chunks));
  for (std::size_t i = 0; i < actions.size(); ++i)
    if (actions[i].kind == Action::backward) last[static_cast<std::size_t>(actions[i].chunk)] = i;
  return last;
}

}  // namespace

/// Walks the actions once.
class Trainer::State::Passes {
public:
  /// `before_backward` is called once, before anything of a backward pass.
  Passes(State& state, const Exec& exec, const std::vector<MicroBatch>& batches, StepSeconds& spent, Trace* trace,
         std::function<void()> before_backward)
      : s_(state), exec_(exec), batches_(batches), spent_(spent), trace_(trace),
        before_backward_(std::move(before_backward)),
        last_backward_(last_backward_of(state.actions, state.chunks)), flights_(static_cast<std::size_t>(s_.chunks)) {
    for (int c = 0; c < s_.chunks; ++c)
      flights_[static_cast<std::size_t>(c)].resize(static_cast<std::size_t>(slots_of(s_.actions, c)));
  }

  void run() {
    for (std::size_t i = 0; i < s_.actions.size(); ++i) {
      const Action& action = s_.actions[i];
      if (before_backward_ && (action.kind == Action::backward || action.kind == Action::recv_dy))
        std::exchange(before_backward_, nullptr)();
      const int peer = peer_of(action.kind, s_.grid.pp().rank(), s_.grid.pp().size());
      Stage& stage = *s_.stages[static_cast<std::size_t>(action.chunk)];
      const int slot = slot_of(action);
      Flight& flight = flights_[static_cast<std::size_t>(action.chunk)][static_cast<std::size_t>(slot)];
      const Communicator& pp = s_.grid.pp();
      switch (action.kind) {
        case Action::recv_x:
          send_or_receive("start to receive x", action,
                          [&] { flight.x = pp.start_recv(exec_, flat(stage.x(slot)), peer); });
          break;
        case Action::forward:
          wait(flight.x, "wait for x", action);
          compute("forward", action, [&] { stage.forward(exec_, slot); });
          break;
        case Action::send_y:
          send_or_receive("send y", action,
                          [&] { flight.sent_y = pp.start_send(exec_, as_const(flat(stage.x(slot))), peer); });
          break;
        case Action::recv_dy:
          send_or_receive("start to receive dy", action,
                          [&] { flight.dx = pp.start_recv(exec_, flat(stage.dx(slot)), peer); });
          break;
        case Action::backward:
          wait(flight.dx, "wait for dy", action);
          backward(action, stage, slot, i == last_backward_[static_cast<std::size_t>(action.chunk)]);
          if (stage.first()) flight.micro_batch = -1;
          break;
        case Action::send_dx:
          send_or_receive("send dx", action,
                          [&] { flight.sent_dx = pp.start_send(exec_, as_const(flat(stage.dx(slot))), peer); });
          flight.micro_batch = -1;
          break;
      }
      s_.sums.progress(exec_);
    }
    for (std::size_t c = 0; c < flights_.size(); ++c)
      for (Flight& flight : flights_[c]) finish_sends(flight, {Action::send_dx, 0, static_cast<int>(c)});
  }

private:
  /// Of a micro-batch: the one that it has, or one that is free, into which it is taken.
  int slot_of(const Action& action) {
    auto& flights = flights_[static_cast<std::size_t>(action.chunk)];
    if (const auto own = std::ranges::find(flights, action.micro_batch, &Flight::micro_batch); own != flights.end())
      return static_cast<int>(own - flights.begin());
    const auto free = std::ranges::find(flights, -1, &Flight::micro_batch);
    if (free == flights.end()) throw InternalError("pipeline: more micro-batches under way than were planned for");
    finish_sends(*free, action);
    free->micro_batch = action.micro_batch;
    const int slot = static_cast<int>(free - flights.begin());
    const auto begin = Clock::now();
    s_.stages[static_cast<std::size_t>(action.chunk)]->begin(
        exec_, slot, batches_[static_cast<std::size_t>(action.micro_batch)]);
    note(spent_.compute, Lane::compute, "take tokens", begin, action);
    return slot;
  }

  void finish_sends(Flight& flight, const Action& action) {
    wait(flight.sent_y, "wait for a send of y", action);
    wait(flight.sent_dx, "wait for a send of dx", action);
  }

  void backward(const Action& action, Stage& stage, int slot, bool last) {
    const auto c = static_cast<std::size_t>(action.chunk);
    const FlatRanges& place = s_.places[c];
    compute("backward", action, [&] {
      if (!last) return stage.backward(exec_, slot, {});
      if (stage.last() && s_.sums_last_early()) s_.sums.start(exec_, place.last);
      stage.backward(exec_, slot, [&](Index layer) {
        s_.shared[c].sum(exec_, layer);
        s_.sums.start(exec_, place.layers[static_cast<std::size_t>(layer - s_.ranges[c].begin)]);
      });
    });
  }

  template <class F>
  void compute(const char* name, const Action& action, F&& pass) {
    const auto begin = Clock::now();
    pass();
    exec_.fence("grist::train: a pass has ended");
    note(spent_.compute, Lane::compute, name, begin, action);
  }

  template <class F>
  void send_or_receive(const char* name, const Action& action, F&& start) {
    const Kokkos::Profiling::ScopedRegion region("grist::train::communication");
    const auto begin = Clock::now();
    start();
    note(spent_.communication, Lane::communication, name, begin, action);
  }

  void wait(Transfer& transfer, const char* name, const Action& action) {
    const auto begin = Clock::now();
    if (transfer.none()) return;
    const Kokkos::Profiling::ScopedRegion region("grist::train::communication");
    while (!transfer.arrived()) s_.sums.progress(exec_);
    transfer.wait(exec_);
    note(spent_.bubble, Lane::communication, name, begin, action);
  }

  void note(double& seconds, Lane lane, const char* name, Clock::time_point begin, const Action& action) {
    seconds += seconds_since(begin);
    if (trace_ != nullptr)
      trace_->add(lane, name, begin, Clock::now(),
                  std::format("micro-batch {}, chunk {}", action.micro_batch, action.chunk));
  }

  State& s_;
  const Exec& exec_;
  const std::vector<MicroBatch>& batches_;
  StepSeconds& spent_;
  Trace* trace_;
  std::function<void()> before_backward_;
  std::vector<std::size_t> last_backward_;
  std::vector<std::vector<Flight>> flights_;  // [chunk, slot]
};

/// Returns the sum of this rank's losses; adds the targets that count.
double Trainer::State::run_passes(const Exec& exec, const MicroBatches& batches, StepSeconds& spent, Trace* trace,
                                  Index& counted) {
  std::vector<MicroBatch> held;
  const auto begin = Clock::now();
  for (int i = 0; i < options.micro_batches; ++i) {
    held.push_back(batches(i));
    counted += std::ranges::count_if(held.back().targets, [](int target) { return target >= 0; });
  }
  spent.data += seconds_since(begin);
  std::function<void()> before_backward;
  if (balance.factor > 0 && balance.at_once) {
    count_choices();
    before_backward = [&] { sum_choices(exec, counted); };
  } else if (balance.factor > 0) {
    const auto routes = Clock::now();
    route_step(exec, held);
    sum_choices(exec, counted);
    spent.compute += seconds_since(routes);
  }
  Passes(*this, exec, held, spent, trace, std::move(before_backward)).run();
  double loss = 0;
  for (const auto& stage : stages) loss += stage->take_loss();
  return loss;
}

}  // namespace grist::train
