#pragma once

#include <grist/comm/handle.hpp>

/// Prints the most likely token after IDS of the command line `next_token MODEL IDS`. The caller owns Kokkos, and MPI
/// where there is one. Collective. Returns the exit code.
int next_token(grist::CommHandle comm, int argc, char** argv);
