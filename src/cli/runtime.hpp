// MPI and Kokkos for a program: what the library never does by itself.
#pragma once

#include "processes.hpp"

#include <grist/comm/communicator.hpp>
#include <grist/core/errors.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace grist::cli {

/// An error that some rank has already told the user of.
struct ToldError {
  ExitCode code;
};

/// Starts MPI (FUNNELED) and Kokkos, with threads and binding so that ranks times threads fit the cores of the node.
/// Notes where OpenMP gives fewer threads, and where a launcher started several processes that MPI does not join.
class Runtime {
public:
  /// `threads` 0: choose.
  explicit Runtime(int threads);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  [[nodiscard]] const Communicator& world() const { return *world_; }
  [[nodiscard]] const Exec& exec() const { return *exec_; }
  /// The rank that talks to the user.
  [[nodiscard]] bool root() const { return world_->rank() == 0; }
  [[nodiscard]] int threads() const { return threads_; }

  /// Runs f, which does not communicate, on all ranks. If it throws on any of them, the first of those tells the user,
  /// and all ranks leave with its exit code.
  void together(const std::function<void()>& f) const;

  /// The root's numbers, on all ranks.
  void share(std::vector<int>& values) const;
  /// The root's text, on all ranks.
  void share(std::string& text) const;

  /// Lines that must be the same on all ranks. The first rank with others tells its first line that differs, after
  /// `what`, and all ranks leave with `code`.
  void expect_same(std::string_view what, const std::string& lines, ExitCode code) const;

private:
  Processes processes_;
  int threads_ = 1;
  std::optional<Communicator> world_;
  std::optional<Exec> exec_;
};

/// "grist: error: ..." in one line on stderr.
void tell(std::string_view message);

/// "grist: note: ..." in one line on stderr: something that is done otherwise than one may think.
void note(std::string_view message);
/// Each of them so.
void note_all(const std::vector<std::string>& messages);

/// Returns when the launcher has read from its pipe what was told, or after a second: an abort may end the launcher
/// first.
void wait_until_heard();

/// The exit code of whatever is being thrown, told to the user: InputError and such in one line, anything else as a
/// failure. Call it in a catch block.
ExitCode tell_current_exception();

}  // namespace grist::cli
