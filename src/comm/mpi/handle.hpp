// What a caller hands over as its communicator: in this build, MPI's.
#pragma once

#include <mpi.h>

namespace grist {

/// Whether there may be several ranks. GRIST_ENABLE_MPI decides, and with it which of mpi/ and single/ is built.
inline constexpr bool has_mpi = true;

using CommHandle = MPI_Comm;

/// The communicator of this rank alone.
inline CommHandle comm_self() { return MPI_COMM_SELF; }

}  // namespace grist
