// One rank: the texts are its own.
#include <grist/comm/shared_work.hpp>

#include <utility>

namespace grist {

struct SharedWork::State {
  std::vector<std::string> texts;
  std::size_t next = 0;
  bool stopped = false, closed = false;
};

SharedWork::SharedWork(const Communicator&, std::span<const std::string> texts)
    : state_(new State{{texts.begin(), texts.end()}}) {}
SharedWork::~SharedWork() = default;

std::optional<std::string> SharedWork::take() {
  if (stopped() || state_->next == state_->texts.size()) return std::nullopt;
  return std::move(state_->texts[state_->next++]);
}
void SharedWork::stop() { state_->stopped = true; }
bool SharedWork::stopped() const { return state_->stopped || state_->closed; }
void SharedWork::close() { state_->closed = true; }
bool SharedWork::closed() const { return state_->closed; }

struct ToRoot::State {
  std::vector<std::string> texts;
};

ToRoot::ToRoot(const Communicator&) : state_(std::make_unique<State>()) {}
ToRoot::~ToRoot() = default;
void ToRoot::send(std::string text) { state_->texts.push_back(std::move(text)); }
std::vector<std::string> ToRoot::receive() { return std::exchange(state_->texts, {}); }
void ToRoot::flush() {}

}  // namespace grist
