// Which processors this process works on.
#pragma once

namespace grist {

/// Threads for a process that shares its processors with `sharers` processes, itself included: physical cores of its
/// affinity mask, divided, at most what its control group grants. OMP_NUM_THREADS and KOKKOS_NUM_THREADS win.
int choose_threads(int sharers);

/// Pins each Kokkos thread to a core of its own, so that the `index`-th of `sharers` processes takes its share of the
/// mask. Does nothing where the user or the launcher binds threads (OMP_PROC_BIND, OMP_PLACES), and where the threads of
/// all sharers do not fill the cores: then other programs may be on some of them.
void bind_threads(int index, int sharers);

/// A number, not negative, that is equal for two processes with the same affinity mask.
int affinity_hash();

}  // namespace grist
