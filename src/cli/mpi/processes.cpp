#include "processes.hpp"

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <sstream>

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
