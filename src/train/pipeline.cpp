#include <grist/train/pipeline.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <limits>
#include <tuple>

namespace grist::train {
namespace {

/// What a stage computes, in order.
using Order = std::vector<Action>;

Order gpipe_order(int micro_batches) {
  Order order;
  for (int m = 0; m < micro_batches; ++m) order.push_back({Action::forward, m, 0});
  for (int m = 0; m < micro_batches; ++m) order.push_back({Action::backward, m, 0});
  return order;
}

/// `warm_up` forward passes, then one of each in turn, then the backward passes that are left.
template <class Forward, class Backward>
Order one_for_one(int passes, int warm_up, Forward&& forward, Backward&& backward) {
  Order order;
  warm_up = std::min(warm_up, passes);
  for (int k = 0; k < warm_up; ++k) order.push_back(forward(k));
  for (int k = warm_up; k < passes; ++k) {
    order.push_back(forward(k));
    order.push_back(backward(k - warm_up));
  }
  for (int k = passes - warm_up; k < passes; ++k) order.push_back(backward(k));
  return order;
}

Order one_f_one_b_order(int stage, int stages, int micro_batches) {
  return one_for_one(
      micro_batches, stages - stage - 1, [](int k) { return Action{Action::forward, k, 0}; },
      [](int k) { return Action{Action::backward, k, 0}; });
}

/// Megatron-LM's forward_backward_pipelining_with_interleaving: groups of `stages` micro-batches go through the first
/// chunk, then through the second ...; the warm-up is twice as long as to the last stage and back, and a round longer
/// for each chunk more.
Order interleaved_order(int stage, int stages, int chunks, int micro_batches) {
  const auto pass = [=](Action::Kind kind, int k) {
    const int micro_batch = k / (stages * chunks) * stages + k % stages;
    const int chunk = k % (stages * chunks) / stages;
    return Action{kind, micro_batch, kind == Action::forward ? chunk : chunks - 1 - chunk};
  };
  return one_for_one(
      micro_batches * chunks, 2 * (stages - stage - 1) + (chunks - 1) * stages,
      [&](int k) { return pass(Action::forward, k); }, [&](int k) { return pass(Action::backward, k); });
}

/// An action at its time in a run in which every pass takes one unit and transfers take none.
struct Timed {
  int time;
  bool computes;  // transfers at a time come before what is computed from then on
  int source;     // the stage that sends; fixes the order of transfers at the same time
  Action action;
};

/// Runs the orders of all stages together and keeps what `stage` does.
class Simulation {
public:
  Simulation(std::vector<Order> orders, int stage, int chunks, int micro_batches)
      : orders_(std::move(orders)), stage_(stage), stages_(static_cast<int>(orders_.size())),
        virtual_stages_(stages_ * chunks), micro_batches_(micro_batches),
        x_at_(static_cast<std::size_t>(virtual_stages_) * static_cast<std::size_t>(micro_batches), never),
        dy_at_(x_at_) {
    for (int m = 0; m < micro_batches; ++m) x_at_[place(0, m)] = 0;
  }

  std::vector<Action> run() {
    std::vector<std::size_t> done(orders_.size());
    std::vector<int> clock(orders_.size());
    for (bool moved = true; moved;) {
      moved = false;
      for (int s = 0; s < stages_; ++s) {
        const auto i = static_cast<std::size_t>(s);
        for (; done[i] < orders_[i].size(); ++done[i], moved = true) {
          const Action& action = orders_[i][done[i]];
          const int ready = ready_at(s, action);
          if (ready == never) break;
          const int begin = std::max(clock[i], ready);
          clock[i] = begin + 1;
          if (s == stage_) timed_.push_back({begin, true, s, action});
          finish(s, action, clock[i]);
        }
      }
    }
    for (std::size_t s = 0; s < orders_.size(); ++s)
      if (done[s] != orders_[s].size()) throw InternalError("pipeline: stage {} of {} waits forever", s, stages_);
    std::ranges::stable_sort(timed_, {}, [](const Timed& t) { return std::tuple(t.time, t.computes, t.source); });
    std::vector<Action> actions;
    for (const Timed& timed : timed_) actions.push_back(timed.action);
    return actions;
  }

private:
  static constexpr int never = std::numeric_limits<int>::max();

  [[nodiscard]] std::size_t place(int virtual_stage, int micro_batch) const {
    return static_cast<std::size_t>(virtual_stage) * static_cast<std::size_t>(micro_batches_) +
           static_cast<std::size_t>(micro_batch);
  }
  [[nodiscard]] int virtual_stage(int stage, const Action& action) const { return action.chunk * stages_ + stage; }

  [[nodiscard]] int ready_at(int stage, const Action& action) const {
    const std::size_t here = place(virtual_stage(stage, action), action.micro_batch);
    return action.kind == Action::forward ? x_at_[here] : dy_at_[here];
  }

  /// What the pass has computed is at its reader.
  void finish(int stage, const Action& action, int time) {
    const int here = virtual_stage(stage, action), m = action.micro_batch;
    if (action.kind == Action::forward) {
      if (here + 1 == virtual_stages_) {
        dy_at_[place(here, m)] = time;  // the loss
      } else {
        x_at_[place(here + 1, m)] = time;
        transfer(stage, time, {Action::send_y, m, action.chunk}, {Action::recv_x, m, (here + 1) / stages_});
      }
    } else if (here > 0) {
      dy_at_[place(here - 1, m)] = time;
      transfer(stage, time, {Action::send_dx, m, action.chunk}, {Action::recv_dy, m, (here - 1) / stages_});
    }
  }

  void transfer(int source, int time, const Action& send, const Action& receive) {
    const int target = peer_of(send.kind, source, stages_);
    if (source == target) return;
    if (source == stage_) timed_.push_back({time, false, source, send});
    if (target == stage_) timed_.push_back({time, false, source, receive});
  }

  std::vector<Order> orders_;
  int stage_, stages_, virtual_stages_, micro_batches_;
  std::vector<int> x_at_, dy_at_;  // [virtual stage, micro-batch]: when the input of the pass is there
  std::vector<Timed> timed_;
};

void check(int stage, int stages, int chunks, int micro_batches) {
  if (stages < 1 || stage < 0 || stage >= stages)
    throw UsageError("pipeline: stage {} of {} stages cannot be", stage, stages);
  if (chunks < 1) throw UsageError("pipeline: {} chunks of layers on each stage, expected 1 or more", chunks);
  if (micro_batches < 1) throw UsageError("pipeline: {} micro-batches, expected 1 or more", micro_batches);
}

template <class OrderOf>
std::vector<Action> with_transfers(int stage, int stages, int chunks, int micro_batches, OrderOf&& order_of) {
  std::vector<Order> orders;
  for (int s = 0; s < stages; ++s) orders.push_back(order_of(s));
  return Simulation(std::move(orders), stage, chunks, micro_batches).run();
}

}  // namespace

std::vector<Action> gpipe(int stage, int stages, int micro_batches) {
  check(stage, stages, 1, micro_batches);
  return with_transfers(stage, stages, 1, micro_batches, [&](int) { return gpipe_order(micro_batches); });
}

std::vector<Action> one_f_one_b(int stage, int stages, int micro_batches) {
  check(stage, stages, 1, micro_batches);
  return with_transfers(stage, stages, 1, micro_batches,
                        [&](int s) { return one_f_one_b_order(s, stages, micro_batches); });
}

std::vector<Action> interleaved(int stage, int stages, int chunks, int micro_batches) {
  check(stage, stages, chunks, micro_batches);
  if (micro_batches % stages != 0)
    throw UsageError("the interleaved pipeline takes micro-batches in groups of the stages: {} micro-batches are no "
                     "multiple of {} stages",
                     micro_batches, stages);
  if (chunks == 1) return one_f_one_b(stage, stages, micro_batches);
  return with_transfers(stage, stages, chunks, micro_batches,
                        [&](int s) { return interleaved_order(s, stages, chunks, micro_batches); });
}

std::vector<Action> pipeline_actions(Pipeline pipeline, int stage, int stages, int chunks, int micro_batches) {
  if (pipeline == Pipeline::interleaved) return interleaved(stage, stages, chunks, micro_batches);
  if (chunks != 1) throw UsageError("pipeline: only the interleaved one has {} chunks on each stage", chunks);
  return pipeline == Pipeline::gpipe ? gpipe(stage, stages, micro_batches)
                                     : one_f_one_b(stage, stages, micro_batches);
}

int peer_of(Action::Kind kind, int stage, int stages) {
  switch (kind) {
    case Action::recv_x:
    case Action::send_dx:
      return (stage + stages - 1) % stages;
    case Action::send_y:
    case Action::recv_dy:
      return (stage + 1) % stages;
    case Action::forward:
    case Action::backward:
      break;
  }
  return stage;
}

int live_micro_batches(const std::vector<Action>& actions) {
  int live = 0, most = 0;
  for (const Action& action : actions) {
    if (action.kind == Action::forward) most = std::max(most, ++live);
    if (action.kind == Action::backward) --live;
  }
  return most;
}

}  // namespace grist::train
