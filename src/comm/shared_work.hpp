// Work that ranks take as they come, and what comes of it: texts of rank 0 that go to one rank each, and texts that go
// back to rank 0. What differs with and without MPI stands in mpi/ and single/.
#pragma once

#include <grist/comm/communicator.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace grist {

/// Texts of rank 0 that go, in their order, to ranks that ask for them. Nobody waits: a rank asks ahead and works on;
/// rank 0 answers when it looks, which it has to do now and then. Making and destroying one is collective. Throws
/// InternalError where MPI fails.
class SharedWork {
public:
  /// `texts`: rank 0's; others give none.
  SharedWork(const Communicator& ranks, std::span<const std::string> texts);
  ~SharedWork();
  SharedWork(const SharedWork&) = delete;
  SharedWork& operator=(const SharedWork&) = delete;

  /// At most `wanted` texts that have come; asks for what is missing and not yet under way. Rank 0 has its own at once.
  std::vector<std::string> take(std::size_t wanted);
  /// Whether no text is left for this rank, nor under way to it.
  [[nodiscard]] bool done() const;

  /// Takes in what others said; rank 0 answers them.
  void poll();

  /// From now on no rank is given any; others hear of it when they look.
  void stop();
  /// Whether some rank has called stop(), or close(), as far as this one has heard.
  [[nodiscard]] bool stopped() const;

  /// On rank 0: tells all ranks that nothing is being worked on any more.
  void close();
  [[nodiscard]] bool closed() const;

private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Texts from any rank to rank 0, which looks for them when it likes. Making and destroying one is collective.
class ToRoot {
public:
  explicit ToRoot(const Communicator& ranks);
  ~ToRoot();
  ToRoot(const ToRoot&) = delete;
  ToRoot& operator=(const ToRoot&) = delete;

  /// Does not wait for rank 0.
  void send(std::string text);
  /// On rank 0: what has arrived since, each rank's in its order.
  std::vector<std::string> receive();
  /// Returns when what this rank sent has been received.
  void flush();

private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace grist
