#include "processes.hpp"

#include <grist/core/errors.hpp>
#include <grist/core/view.hpp>

#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <sstream>
#include <string_view>
#include <type_traits>

namespace {

constexpr bool kernels_run_on_host = std::is_same_v<grist::Exec, grist::HostExec>;

/// Whether this node has one for which UCX keeps memory registered, so that it must hear of what is unmapped.
bool has_device_that_registers_memory() {
  constexpr std::array devices{"/sys/class/infiniband/*", "/dev/xpmem", "/dev/knem", "/dev/nvidiactl", "/dev/kfd"};
  return std::ranges::any_of(devices, [](const char* device) {
    glob_t found{};
    const bool there = glob(device, GLOB_NOSORT, nullptr, &found) == 0;
    globfree(&found);
    return there;
  });
}

}  // namespace

/// The C library's, but for three variables that are not set: UCX_MEM_EVENTS is "n" where no device needs it,
/// UCX_MODULES leaves out those of GPUs where no kernel runs on one, and UCX_DEBUG_SIGNO is 0, so that UCX does not
/// take SIGHUP for a question and answer on stdout. UCX reads them as the program is loaded, before any code of ours
/// can set them (docs/decisions/2026-11-26-ucx-hooks.md).
extern "C" char* getenv(const char* name) noexcept {
  const std::size_t length = std::strlen(name);
  for (char** at = environ; at != nullptr; ++at) {
    char* const entry = *at;  // read once: another thread may change the environment, as with the C library's
    if (entry == nullptr) break;
    if (std::strncmp(entry, name, length) == 0 && entry[length] == '=') return entry + length + 1;
  }
  static char no[] = "n", none[] = "0", not_of_gpus[] = "^cuda,rocm,ze";
  const std::string_view asked(name);
  if (asked == "UCX_DEBUG_SIGNO") return none;
  if (asked == "UCX_MODULES" && kernels_run_on_host) return not_of_gpus;
  return asked == "UCX_MEM_EVENTS" && !has_device_that_registers_memory() ? no : nullptr;
}

namespace grist::cli {

Processes::Processes() {
  // Open MPI's own collective writing waits for ever for a rank whose disk is full. Ranks write large pieces anyway.
  setenv("OMPI_MCA_fcoll", "individual", 0);
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_FUNNELED)
    throw InternalError("this MPI gives no MPI_THREAD_FUNNELED");
}

Processes::~Processes() {
  // Where an error is on its way, other ranks may never come to MPI_Finalize.
  if (std::uncaught_exceptions() == 0) MPI_Finalize();
}

CommHandle Processes::world() { return MPI_COMM_WORLD; }

int Processes::rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

int Processes::size() {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

void abort_all(int code) {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string line(text, static_cast<std::size_t>(length));
  line.resize(std::min(line.find('\n'), line.size()));
  std::istringstream words(line);
  std::string joined;
  for (std::string word; words >> word;) joined += (joined.empty() ? "" : " ") + word;
  return joined;
}

}  // namespace grist::cli
