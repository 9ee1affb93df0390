// The ranks that run a test: one in a build without MPI.
#pragma once

#include <processes.hpp>

namespace grist::test {

inline CommHandle world() { return cli::Processes::world(); }
inline int ranks() { return cli::Processes::size(); }

}  // namespace grist::test
