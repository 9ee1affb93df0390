// One rank: the texts are its own.
#include <grist/comm/shared_work.hpp>

#include <deque>
#include <utility>

namespace grist {

struct SharedWork::State {
  std::deque<std::string> texts;
  bool stopped = false, closed = false;
};

SharedWork::SharedWork(const Communicator&, std::span<const std::string> texts)
    : state_(new State{{texts.begin(), texts.end()}}) {}
SharedWork::~SharedWork() = default;

std::vector<std::string> SharedWork::take(std::size_t wanted) {
  std::vector<std::string> taken;
  for (auto& texts = state_->texts; !stopped() && taken.size() < wanted && !texts.empty(); texts.pop_front())
    taken.push_back(std::move(texts.front()));
  return taken;
}
bool SharedWork::done() const { return state_->texts.empty(); }
void SharedWork::poll() {}
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
