// What a caller hands over as its communicator: in this build nothing, because there is one rank.
#pragma once

namespace grist {

/// Whether there may be several ranks. GRIST_ENABLE_MPI decides, and with it which of mpi/ and single/ is built.
inline constexpr bool has_mpi = false;

struct CommHandle {};

/// The communicator of this rank alone.
inline CommHandle comm_self() { return {}; }

}  // namespace grist
