#include <grist/comm/shared_work.hpp>

#include "check.hpp"

#include <cstring>
#include <exception>
#include <list>

namespace grist {

// Rank 0's window: a counter, where each text begins (one more), the texts.
struct SharedWork::State {
  Communicator ranks;
  Index count = 0;
  MPI_Win window = MPI_WIN_NULL;

  explicit State(const Communicator& of) : ranks(of.handle()) {}

  Index update(Index value, MPI_Op operation) const {
    Index before = 0;
    check(MPI_Fetch_and_op(&value, &before, MPI_INT64_T, 0, 0, operation, window), "MPI_Fetch_and_op");
    check(MPI_Win_flush(0, window), "MPI_Win_flush");
    return before;
  }
  void get(void* to, Index bytes, Index from) const {
    constexpr Index most = 1 << 30;
    for (Index first = 0; first < bytes; first += most) {
      const int part = static_cast<int>(std::min(most, bytes - first));
      check(MPI_Get(static_cast<char*>(to) + first, part, MPI_BYTE, 0, from + first, part, MPI_BYTE, window),
            "MPI_Get");
    }
    check(MPI_Win_flush(0, window), "MPI_Win_flush");
  }
};

namespace {
constexpr Index none_left = Index{1} << 62, all_done = none_left + (none_left >> 1);  // beyond any count of take()
constexpr Index word = sizeof(Index);
}  // namespace

SharedWork::SharedWork(const Communicator& ranks, std::span<const std::string> texts)
    : state_(std::make_unique<State>(ranks)) {
  const bool root = state_->ranks.rank() == 0;
  std::vector<Index> head{0};  // the counter
  state_->count = std::ssize(texts);
  state_->ranks.broadcast(&state_->count, 1, 0);
  Index at = (state_->count + 2) * word;
  for (const auto& text : texts) {
    head.push_back(at);
    at += std::ssize(text);
  }
  head.push_back(at);
  char* memory = nullptr;
  check(MPI_Win_allocate(root ? at : 0, 1, MPI_INFO_NULL, state_->ranks.handle(), &memory, &state_->window),
        "MPI_Win_allocate");
  if (root) {
    std::memcpy(memory, head.data(), head.size() * sizeof(Index));
    for (std::size_t i = 0; i < texts.size(); ++i) std::memcpy(memory + head[i + 1], texts[i].data(), texts[i].size());
  }
  check(MPI_Win_lock_all(MPI_MODE_NOCHECK, state_->window), "MPI_Win_lock_all");
  check(MPI_Win_sync(state_->window), "MPI_Win_sync");
  state_->ranks.barrier();
}

SharedWork::~SharedWork() {
  if (std::uncaught_exceptions() > 0) return;  // others may be elsewhere, and this rank ends all
  MPI_Win_unlock_all(state_->window);
  MPI_Win_free(&state_->window);
}

std::optional<std::string> SharedWork::take() {
  const Index i = state_->update(1, MPI_SUM);
  if (i >= state_->count) return std::nullopt;
  Index range[2];
  state_->get(range, sizeof range, (i + 1) * word);
  std::string text(static_cast<std::size_t>(range[1] - range[0]), ' ');
  state_->get(text.data(), std::ssize(text), range[0]);
  return text;
}

void SharedWork::stop() { state_->update(none_left, MPI_MAX); }
bool SharedWork::stopped() const { return state_->update(0, MPI_NO_OP) >= none_left; }
void SharedWork::close() { state_->update(all_done, MPI_MAX); }
bool SharedWork::closed() const { return state_->update(0, MPI_NO_OP) >= all_done; }

struct ToRoot::State {
  struct Message {
    std::string text;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  Communicator ranks;  // its own: no other message is taken for one of these
  std::list<Message> sent;
  std::vector<std::string> mine;  // of rank 0 to itself

  explicit State(const Communicator& of) : ranks(of.handle()) {}
};

ToRoot::ToRoot(const Communicator& ranks) : state_(std::make_unique<State>(ranks)) {}
ToRoot::~ToRoot() = default;

void ToRoot::send(std::string text) {
  if (state_->ranks.rank() == 0) {
    state_->mine.push_back(std::move(text));
    return;
  }
  auto& message = state_->sent.emplace_back();
  message.text = std::move(text);
  // Synchronous, so that what is complete has been received.
  check(MPI_Issend(message.text.data(), static_cast<int>(message.text.size()), MPI_BYTE, 0, 0, state_->ranks.handle(),
                   &message.request),
        "MPI_Issend");
  std::erase_if(state_->sent, [](State::Message& old) {
    int done = 0;
    check(MPI_Test(&old.request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    return done != 0;
  });
}

std::vector<std::string> ToRoot::receive() {
  auto texts = std::exchange(state_->mine, {});
  if (state_->ranks.rank() != 0) return texts;
  while (true) {
    int there = 0, bytes = 0;
    MPI_Status status;
    check(MPI_Iprobe(MPI_ANY_SOURCE, 0, state_->ranks.handle(), &there, &status), "MPI_Iprobe");
    if (there == 0) return texts;
    check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
    auto& text = texts.emplace_back(static_cast<std::size_t>(bytes), ' ');
    check(MPI_Recv(text.data(), bytes, MPI_BYTE, status.MPI_SOURCE, 0, state_->ranks.handle(), MPI_STATUS_IGNORE),
          "MPI_Recv");
  }
}

void ToRoot::flush() {
  for (auto& message : state_->sent) check(MPI_Wait(&message.request, MPI_STATUS_IGNORE), "MPI_Wait");
  state_->sent.clear();
}

}  // namespace grist
