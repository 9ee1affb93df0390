#include "runtime.hpp"

#include "launcher.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/threads.hpp>
#include <grist/comm/broadcast_text.hpp>

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <format>
#include <new>
#include <sstream>
#include <string>
#include <thread>

namespace grist::cli {
namespace {

/// That a launcher started so many processes which know nothing of each other.
void note_strangers(int size) {
  const std::string advice =
      has_mpi ? std::format("is built with {}; start it with the mpirun of that, or with srun --mpi=pmi2 or pmix",
                            mpi_library())
              : "is built without MPI";
  note(std::format(
      "the launcher started {} processes, but MPI joins none of them: each does the same work. This program {}", size,
      advice));
}

}  // namespace

Runtime::Runtime(int threads) {
  world_.emplace(Processes::world());
  const Communicator node = world_->split_by_node();
  // Ranks of a node that may run on the same processors share them; a launcher may also have given each its own.
  const Communicator sharers = node.split(affinity_hash(), node.rank());
  const int wanted = threads > 0 ? threads : choose_threads(sharers.size());
  threads_ = threads_that_come(wanted);
  if (threads_ < wanted && root())
    note(
        std::format("OpenMP gives {} of {} threads: see OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS", threads_, wanted));
  if (const auto [rank, size] = launcher(); size > 1 && rank == 0 && world_->size() == 1)
    note_strangers(size);
  require_device();
  auto settings = Kokkos::InitializationSettings().set_num_threads(threads_).set_disable_warnings(true);
  const bool user_chose =
      std::getenv("KOKKOS_DEVICE_ID") != nullptr || std::getenv("KOKKOS_MAP_DEVICE_ID_BY") != nullptr;
  if (const int devices = Kokkos::num_devices(); devices > 0 && !user_chose)
    settings.set_device_id(device_of(node.rank(), devices));
  Kokkos::initialize(settings);
  bind_threads(sharers.rank(), sharers.size());
  exec_.emplace();
}

Runtime::~Runtime() {
  exec_.reset();
  world_.reset();
  Kokkos::finalize();
}

void Runtime::together(const std::function<void()>& f) const {
  std::optional<std::string> message;
  ExitCode code = ExitCode::done;
  try {
    f();
  } catch (const Error& error) {
    message = error.what();
    code = error.code();
  } catch (const std::bad_alloc&) {
    message = "out of memory";
    code = ExitCode::out_of_memory;
  } catch (const std::exception& error) {
    message = error.what();
    code = ExitCode::failed;
  }
  const int size = world_->size();
  const int failed_first = size - world_->all_reduce(message ? size - world_->rank() : 0, Reduction::max);
  if (failed_first == size) return;
  if (failed_first == world_->rank()) tell(*message);
  int agreed = static_cast<int>(code);
  world_->broadcast(&agreed, 1, failed_first);
  throw ToldError{static_cast<ExitCode>(agreed)};
}

void Runtime::share(std::vector<int>& values) const {
  values = broadcast_list(*world_, std::move(values), 0);
}

void Runtime::share(std::string& text) const {
  text = broadcast_text(*world_, text, 0);
}

void Runtime::expect_same(std::string_view what, const std::string& lines, ExitCode code) const {
  std::string roots = lines;
  share(roots);
  together([&] {
    std::istringstream mine(lines), others(roots);
    for (std::string found, expected; lines != roots;) {
      const bool has = static_cast<bool>(std::getline(mine, found)),
                 roots_has = static_cast<bool>(std::getline(others, expected));
      if (has && roots_has && found == expected) continue;
      throw Error(code,
                  std::format("{} of rank {} has '{}', where rank 0 has '{}'; all ranks must be given the same", what,
                              world_->rank(), has ? found : "nothing more", roots_has ? expected : "nothing more"));
    }
  });
}

namespace {

/// One line in one piece, where several ranks speak. A name in a broken file may hold anything.
void say(std::string_view kind, std::string_view message) {
  std::string line = std::format("grist: {}: ", kind);
  for (const char c : message) {
    const auto byte = static_cast<unsigned char>(c);
    line += byte >= ' ' && byte != 0x7F ? std::string(1, c) : std::format("\\x{:02x}", byte);
  }
  line += '\n';
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace

void tell(std::string_view message) { say("error", message); }

void note(std::string_view message) { say("note", message); }
void note_all(const std::vector<std::string>& messages) {
  for (const std::string& message : messages) note(message);
}

void wait_until_heard() {
  int unread = 0;
  for (int tries = 0; tries < 200 && ioctl(STDERR_FILENO, FIONREAD, &unread) == 0 && unread > 0; ++tries)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

ExitCode tell_current_exception() {
  try {
    throw;
  } catch (const ToldError& error) {
    return error.code;
  } catch (const Error& error) {
    tell(error.what());
    return error.code();
  } catch (const std::bad_alloc&) {
    tell("out of memory");
    return ExitCode::out_of_memory;
  } catch (const std::exception& error) {
    tell(error.what());
    return ExitCode::failed;
  }
}

}  // namespace grist::cli
