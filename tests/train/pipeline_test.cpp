// Pipeline orders run on ranks that are only simulated: nothing waits forever, messages match, memory and idle time are
// those of the papers.
#include <grist/train/pipeline.hpp>
#include <grist/train/trainer_plan.hpp>

#include <support/refuses.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>

namespace {

using namespace grist;
using namespace grist::train;
using test::Refuses;

using Actions = std::vector<std::vector<Action>>;  // of every stage

Actions of(Pipeline pipeline, int stages, int chunks, int micro_batches) {
  Actions all;
  for (int s = 0; s < stages; ++s) all.push_back(pipeline_actions(pipeline, s, stages, chunks, micro_batches));
  return all;
}

bool is_send(Action::Kind kind) { return kind == Action::send_y || kind == Action::send_dx; }
bool is_pass(Action::Kind kind) { return kind == Action::forward || kind == Action::backward; }

/// What is in a message: the sender says what it has, the receiver what it wants.
using Message = std::tuple<bool, int, int>;  // an activation, micro-batch, virtual stage that takes it
Message message(const Action& action, int stage, int stages) {
  const int here = action.chunk * stages + stage;
  const bool activation = action.kind == Action::send_y || action.kind == Action::recv_x;
  const int taker = action.kind == Action::send_y ? here + 1 : action.kind == Action::send_dx ? here - 1 : here;
  return {activation, action.micro_batch, taker};
}

/// Ranks that do their lists one action after the other; a pass takes `forward` or `backward` units, a message none.
/// Receives block. A send goes into a buffer, or with `rendezvous` waits for its receive.
struct Ranks {
  const Actions& actions;
  int chunks;
  bool rendezvous;
  double forward = 1, backward = 1;

  std::vector<std::size_t> at = std::vector<std::size_t>(actions.size());
  std::vector<double> clock = std::vector<double>(actions.size());
  std::map<std::pair<int, int>, std::deque<std::pair<Message, double>>> on_the_way;  // from, to
  std::map<std::tuple<bool, int, int>, int> passes;  // forward, micro-batch, virtual stage
  std::set<Message> there;

  [[nodiscard]] int stages() const { return static_cast<int>(actions.size()); }
  [[nodiscard]] bool ended(int s) const { return at[idx(s)] == actions[idx(s)].size(); }
  [[nodiscard]] const Action& next(int s) const { return actions[idx(s)][at[idx(s)]]; }
  static std::size_t idx(int s) { return static_cast<std::size_t>(s); }

  /// The time of the last; fails the test where ranks wait for each other or a message is not what was expected.
  double run() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int s = 0; s < stages(); ++s)
        while (!ended(s) && act(s)) moved = true;
    }
    for (int s = 0; s < stages(); ++s) EXPECT_TRUE(ended(s)) << "stage " << s << " waits at action " << at[idx(s)];
    for (const auto& [ends, messages] : on_the_way) EXPECT_TRUE(messages.empty()) << "a message that nobody receives";
    return *std::ranges::max_element(clock);
  }

  bool act(int s) {
    const Action& action = next(s);
    const int peer = peer_of(action.kind, s, stages());
    if (is_pass(action.kind)) {
      compute(s, action);
    } else if (is_send(action.kind)) {
      if (rendezvous && !receives_from(peer, s)) return false;
      if (rendezvous) {
        clock[idx(s)] = clock[idx(peer)] = std::max(clock[idx(s)], clock[idx(peer)]);
        receive(peer, message(action, s, stages()));
      } else {
        on_the_way[{s, peer}].emplace_back(message(action, s, stages()), clock[idx(s)]);
      }
    } else {
      auto& messages = on_the_way[{peer, s}];
      if (messages.empty()) return false;
      clock[idx(s)] = std::max(clock[idx(s)], messages.front().second);
      const Message came = messages.front().first;
      messages.pop_front();
      receive(s, came);
      return true;  // receive has moved on
    }
    ++at[idx(s)];
    return true;
  }

  [[nodiscard]] bool receives_from(int s, int sender) const {
    return !ended(s) && !is_pass(next(s).kind) && !is_send(next(s).kind) &&
           peer_of(next(s).kind, s, stages()) == sender;
  }

  void receive(int s, const Message& came) {
    EXPECT_EQ(came, message(next(s), s, stages())) << "stage " << s;
    there.insert(came);
    ++at[idx(s)];
  }

  void compute(int s, const Action& action) {
    const int here = action.chunk * stages() + s, m = action.micro_batch, last = stages() * chunks - 1;
    const bool is_forward = action.kind == Action::forward;
    ++passes[{is_forward, m, here}];
    const bool in_memory = stages() == 1;
    if (is_forward) {
      EXPECT_TRUE(here == 0 || in_memory || there.contains({true, m, here})) << "forward without its input";
    } else {
      EXPECT_TRUE(passes.contains({true, m, here})) << "backward before forward";
      EXPECT_TRUE(here == last || in_memory || there.contains({false, m, here})) << "backward without its gradient";
    }
    clock[idx(s)] += is_forward ? forward : backward;
  }
};

struct Shape {
  int stages, chunks, micro_batches;
};

/// f(pipeline, shape) for all that is asked for: up to 16 stages and 64 micro-batches.
template <class F>
void every_pipeline(F&& f) {
  for (const int stages : {1, 2, 3, 4, 5, 7, 8, 12, 16}) {
    for (const int m : {1, 2, 3, 5, 8, 15, 16, 31, 48, 64}) {
      f(Pipeline::gpipe, Shape{stages, 1, m});
      f(Pipeline::one_f_one_b, Shape{stages, 1, m});
    }
    for (const int chunks : {1, 2, 3, 4})
      for (int m = stages; m <= 64; m *= 2) f(Pipeline::interleaved, Shape{stages, chunks, m});
  }
}

std::string describe(Pipeline pipeline, const Shape& shape) {
  return testing::PrintToString(static_cast<int>(pipeline)) + ": " + std::to_string(shape.stages) + " stages of " +
         std::to_string(shape.chunks) + ", " + std::to_string(shape.micro_batches) + " micro-batches";
}

TEST(Pipelines, EndWithEveryMessageReceivedInOrderEvenWhereSendsWait) {
  every_pipeline([](Pipeline pipeline, const Shape& shape) {
    SCOPED_TRACE(describe(pipeline, shape));
    const Actions actions = of(pipeline, shape.stages, shape.chunks, shape.micro_batches);
    for (const bool rendezvous : {false, true}) {
      Ranks ranks{actions, shape.chunks, rendezvous};
      ranks.run();
    }
  });
}

TEST(Pipelines, DoEveryPassOnceOnEveryChunk) {
  every_pipeline([](Pipeline pipeline, const Shape& shape) {
    SCOPED_TRACE(describe(pipeline, shape));
    const Actions actions = of(pipeline, shape.stages, shape.chunks, shape.micro_batches);
    Ranks ranks{actions, shape.chunks, false};
    ranks.run();
    const int virtual_stages = shape.stages * shape.chunks;
    EXPECT_EQ(ranks.passes.size(), static_cast<std::size_t>(2 * virtual_stages * shape.micro_batches));
    for (const auto& [pass, times] : ranks.passes) {
      EXPECT_EQ(times, 1);
      EXPECT_LT(std::get<1>(pass), shape.micro_batches);
      EXPECT_LT(std::get<2>(pass), virtual_stages);
    }
  });
}

TEST(Pipelines, AMistakeInAListIsSeen) {
  // The order of a naive 1F1B, which sends as soon as it can and receives when it must: two neighbours send to each
  // other, and where sends wait they wait forever.
  const Actions naive = {
      {{Action::forward, 0, 0}, {Action::send_y, 0, 0}, {Action::forward, 1, 0}, {Action::send_y, 1, 0},
       {Action::recv_dy, 0, 0}, {Action::backward, 0, 0}, {Action::recv_dy, 1, 0}, {Action::backward, 1, 0}},
      {{Action::recv_x, 0, 0}, {Action::forward, 0, 0}, {Action::backward, 0, 0}, {Action::send_dx, 0, 0},
       {Action::recv_x, 1, 0}, {Action::forward, 1, 0}, {Action::backward, 1, 0}, {Action::send_dx, 1, 0}}};
  Ranks buffered{naive, 1, false};
  buffered.run();
  Ranks waiting{naive, 1, true};
  for (bool moved = true; moved;) {
    moved = false;
    for (int s = 0; s < 2; ++s)
      while (!waiting.ended(s) && waiting.act(s)) moved = true;
  }
  EXPECT_FALSE(waiting.ended(0));
  EXPECT_FALSE(waiting.ended(1));
}

TEST(Pipelines, Of1F1BHoldNoMoreMicroBatchesThanStagesAreBehind) {
  for (int stages = 1; stages <= 16; ++stages)
    for (const int m : {1, 2, 3, 7, 16, 33, 64})
      for (int stage = 0; stage < stages; ++stage)
        EXPECT_EQ(live_micro_batches(one_f_one_b(stage, stages, m)), std::min(m, stages - stage));
  EXPECT_EQ(live_micro_batches(gpipe(3, 4, 64)), 64);
}

TEST(Pipelines, InterleavedOnesHoldWhatMegatronsWarmUpLets) {
  for (const int stages : {2, 4, 8})
    for (const int chunks : {2, 3})
      for (const int m : {stages, 4 * stages})
        for (int stage = 0; stage < stages; ++stage)
          EXPECT_EQ(live_micro_batches(interleaved(stage, stages, chunks, m)),
                    std::min(m * chunks, 2 * (stages - stage - 1) + (chunks - 1) * stages + 1));
}

double bubble(Pipeline pipeline, const Shape& shape, double backward) {
  const Actions actions = of(pipeline, shape.stages, shape.chunks, shape.micro_batches);
  Ranks ranks{actions, shape.chunks, false, 1, backward};
  const double all = ranks.run(), busy = (1 + backward) * shape.micro_batches * shape.chunks;
  return 1 - busy / all;
}

TEST(Pipelines, IdleAsLongAsThePapersSay) {
  for (const int p : {1, 2, 3, 4, 8, 16}) {
    for (const int m : {1, 2, 5, 16, 64}) {
      SCOPED_TRACE(testing::Message() << p << " stages, " << m << " micro-batches");
      const double expected = (p - 1.0) / (m + p - 1.0);
      EXPECT_NEAR(bubble(Pipeline::gpipe, {p, 1, m}, 1), expected, 1e-12);
      EXPECT_NEAR(bubble(Pipeline::one_f_one_b, {p, 1, m}, 1), expected, 1e-12);
      EXPECT_NEAR(bubble(Pipeline::gpipe, {p, 1, m}, 2), expected, 1e-12);
      EXPECT_NEAR(bubble(Pipeline::one_f_one_b, {p, 1, m}, 2), expected, 1e-12);
      for (const int chunks : {2, 4}) {
        if (m % p != 0) continue;
        EXPECT_NEAR(bubble(Pipeline::interleaved, {p, chunks, m}, 1), (p - 1.0) / (chunks * m + p - 1.0), 1e-12);
      }
    }
  }
}

TEST(Pipelines, RefuseNumbersThatCannotBe) {
  EXPECT_THAT([] { interleaved(0, 4, 2, 6); }, (Refuses<UsageError>({"6 micro-batches", "4 stages"})));
  EXPECT_THAT([] { gpipe(4, 4, 1); }, (Refuses<UsageError>({"stage 4 of 4"})));
  EXPECT_THAT([] { one_f_one_b(0, 2, 0); }, (Refuses<UsageError>({"0 micro-batches"})));
  EXPECT_THAT([] { interleaved(0, 2, 0, 2); }, (Refuses<UsageError>({"0 chunks"})));
  EXPECT_THAT([] { pipeline_actions(Pipeline::gpipe, 0, 2, 2, 2); }, (Refuses<UsageError>({"2 chunks"})));
}

TEST(Slots, AreAsManyAsMicroBatchesAreUnderWay) {
  const auto expect = [](Pipeline pipeline, int stages, int chunks) {
    for (const auto& actions : of(pipeline, stages, chunks, 2 * stages)) {
      for (int chunk = 0; chunk < chunks; ++chunk) {
        std::map<int, std::pair<std::size_t, std::size_t>> lives;  // from the first action of a micro-batch to its last
        for (std::size_t i = 0; i < actions.size(); ++i)
          if (actions[i].chunk == chunk) lives.try_emplace(actions[i].micro_batch, i, i).first->second.second = i;
        int most = 0;
        for (std::size_t i = 0; i < actions.size(); ++i)
          most = std::max(most, static_cast<int>(std::ranges::count_if(lives, [&](const auto& life) {
                            return life.second.first <= i && i <= life.second.second;
                          })));
        EXPECT_EQ(slots_of(actions, chunk), most);
      }
    }
  };
  for (const int stages : {1, 2, 5}) {
    expect(Pipeline::gpipe, stages, 1);
    expect(Pipeline::one_f_one_b, stages, 1);
    expect(Pipeline::interleaved, stages, stages == 1 ? 1 : 3);
  }
}

}  // namespace
