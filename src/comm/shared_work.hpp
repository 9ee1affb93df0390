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

/// Texts of rank 0, taken in order by any rank at any time (MPI one-sided: rank 0 does nothing for it). Making and
/// destroying one is collective. Throws InternalError where MPI fails.
class SharedWork {
public:
  /// `texts`: rank 0's; others give none.
  SharedWork(const Communicator& ranks, std::span<const std::string> texts);
  ~SharedWork();
  SharedWork(const SharedWork&) = delete;
  SharedWork& operator=(const SharedWork&) = delete;

  /// The next text that no rank has taken; none where nothing is left.
  std::optional<std::string> take();

  /// From now on no rank is given any.
  void stop();
  /// Whether some rank has called stop(), or close().
  [[nodiscard]] bool stopped() const;

  /// Tells all ranks that nothing is being worked on any more.
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
