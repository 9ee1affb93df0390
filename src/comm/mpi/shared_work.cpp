#include <grist/comm/shared_work.hpp>

#include "check.hpp"

#include <algorithm>
#include <deque>
#include <exception>
#include <list>
#include <utility>

namespace grist {
namespace {

/// Sends that go on while other things are done.
class Outbox {
public:
  void send(const Communicator& ranks, int to, int tag, std::string text, bool synchronous = false) {
    auto& message = sent_.emplace_back(Message{std::move(text)});
    const auto start = synchronous ? MPI_Issend : MPI_Isend;
    check(start(message.text.data(), static_cast<int>(message.text.size()), MPI_BYTE, to, tag, ranks.handle(),
                &message.request),
          "MPI_Isend");
    std::erase_if(sent_, [](Message& old) {
      int done = 0;
      check(MPI_Test(&old.request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      return done != 0;
    });
  }
  void flush() {
    for (auto& message : sent_) check(MPI_Wait(&message.request, MPI_STATUS_IGNORE), "MPI_Wait");
    sent_.clear();
  }

private:
  struct Message {
    std::string text;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  std::list<Message> sent_;
};

struct Received {
  int from, tag;
  std::string text;
};

/// A message that has arrived, of any rank.
std::optional<Received> receive(const Communicator& ranks) {
  int there = 0, bytes = 0;
  MPI_Status status;
  check(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, ranks.handle(), &there, &status), "MPI_Iprobe");
  if (there == 0) return std::nullopt;
  check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
  Received message{status.MPI_SOURCE, status.MPI_TAG, std::string(static_cast<std::size_t>(bytes), ' ')};
  check(MPI_Recv(message.text.data(), bytes, MPI_BYTE, message.from, message.tag, ranks.handle(), MPI_STATUS_IGNORE),
        "MPI_Recv");
  return message;
}

}  // namespace

struct SharedWork::State {
  enum Tag { ask, text, none, stop, close, leave };

  Communicator ranks;  // its own: no other message is taken for one of these
  std::deque<std::string> texts;  // rank 0: not yet given; elsewhere: come, not yet taken
  std::size_t under_way = 0;
  bool nothing_left = false, stopped = false, closed = false;
  int left = 0;  // ranks that have said so; elsewhere rank 0
  Outbox outbox{};

  [[nodiscard]] bool root() const { return ranks.rank() == 0; }
  void send(int to, Tag tag, std::string words = {}) { outbox.send(ranks, to, tag, std::move(words)); }
  void send_all(Tag tag) {
    for (int rank = 1; rank < ranks.size(); ++rank) send(rank, tag);
  }

  void answer(int rank) {
    if (stopped || texts.empty()) return send(rank, none);
    send(rank, text, std::move(texts.front()));
    texts.pop_front();
  }
  void tell_stop() {
    if (!std::exchange(stopped, true)) send_all(stop);
  }
  void take_in(Received message) {
    switch (message.tag) {
      case ask: return answer(message.from);
      case text: texts.push_back(std::move(message.text)); --under_way; return;
      case none: nothing_left = true; --under_way; return;
      case stop:
        if (root()) return tell_stop();
        stopped = true;
        return;
      case close: stopped = closed = true; return;
      default: ++left;
    }
  }
  void poll() {
    while (auto message = receive(ranks)) take_in(std::move(*message));
  }
};

SharedWork::SharedWork(const Communicator& ranks, std::span<const std::string> texts)
    : state_(new State{Communicator(ranks.handle()), {texts.begin(), texts.end()}}) {}

/// Each rank says that it leaves, and rank 0 the same when all have: then no message is under way.
SharedWork::~SharedWork() {
  if (std::uncaught_exceptions() > 0) return;  // others may be elsewhere, and this rank ends all
  State& s = *state_;
  if (!s.root()) s.send(0, State::leave);
  while (s.left < (s.root() ? s.ranks.size() - 1 : 1)) s.poll();
  if (s.root()) s.send_all(State::leave);
  s.outbox.flush();
}

std::vector<std::string> SharedWork::take(std::size_t wanted) {
  State& s = *state_;
  s.poll();
  std::vector<std::string> taken;
  if (s.stopped) return taken;
  for (; taken.size() < wanted && !s.texts.empty(); s.texts.pop_front()) taken.push_back(std::move(s.texts.front()));
  for (; !s.root() && !s.nothing_left && taken.size() + s.under_way < wanted; ++s.under_way) s.send(0, State::ask);
  return taken;
}

bool SharedWork::done() const { return state_->texts.empty() && (state_->root() || state_->nothing_left); }
void SharedWork::poll() { state_->poll(); }

void SharedWork::stop() {
  if (state_->root()) return state_->tell_stop();
  state_->send(0, State::stop);
}
bool SharedWork::stopped() const { return state_->stopped; }

void SharedWork::close() {
  state_->stopped = state_->closed = true;
  state_->send_all(State::close);
}
bool SharedWork::closed() const { return state_->closed; }

struct ToRoot::State {
  Communicator ranks;  // its own: no other message is taken for one of these
  Outbox outbox{};
  std::vector<std::string> mine{};  // of rank 0 to itself
};

ToRoot::ToRoot(const Communicator& ranks) : state_(new State{Communicator(ranks.handle())}) {}
ToRoot::~ToRoot() = default;

void ToRoot::send(std::string text) {
  if (state_->ranks.rank() == 0) return state_->mine.push_back(std::move(text));
  // Synchronous, so that what is complete has been received.
  state_->outbox.send(state_->ranks, 0, 0, std::move(text), true);
}

std::vector<std::string> ToRoot::receive() {
  auto texts = std::exchange(state_->mine, {});
  if (state_->ranks.rank() != 0) return texts;
  while (auto message = grist::receive(state_->ranks)) texts.push_back(std::move(message->text));
  return texts;
}

void ToRoot::flush() { state_->outbox.flush(); }

}  // namespace grist
