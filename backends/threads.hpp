// Which processors this process works on, and how near memory is to them.
#pragma once

#include <cstddef>
#include <string>

namespace grist {

/// Threads for a process that shares its processors with `sharers` processes, itself included: physical cores of its
/// affinity mask, divided, at most what its control groups grant. OMP_NUM_THREADS and KOKKOS_NUM_THREADS take
/// precedence.
int choose_threads(int sharers);

/// How many of `wanted` threads work together here: OMP_THREAD_LIMIT and OMP_MAX_ACTIVE_LEVELS may allow fewer, and a
/// pool that counts on more would wait for them for ever. From now on no team is smaller, whatever OMP_DYNAMIC says.
int threads_that_come(int wanted);

/// Throws UsageError where OpenMP may start fewer threads than Kokkos' pool has: kernels lose the share of those that
/// do not come. For hosts that started Kokkos themselves.
void check_threads();

/// Pins each Kokkos thread to a core of its own, so that the `index`-th of `sharers` processes takes its share of the
/// mask. Does nothing with OMP_PROC_BIND=false. Where the user binds threads by OMP_PROC_BIND or OMP_PLACES, OpenMP has
/// bound those of a process that is alone on its cores; several such processes all had the same places, and are spread
/// over them. Where the user says nothing, nothing is bound unless all threads fill the cores: other programs may be on
/// some of them.
void bind_threads(int index, int sharers);

/// A number, not negative, that is equal for two processes that may run on the same processors.
int affinity_hash();

/// Whether all processors of the machine are as near to all of its memory, as far as the system tells.
bool one_memory_node();

/// Asks the system for pages of megabytes in host memory that nobody has written yet. Where memory is nearer to some
/// threads than to others pages stay small: each lies with the thread that first touches it. Where the system says no,
/// nothing changes.
void prefer_large_pages(void* memory, std::size_t bytes);

/// The processors that each thread may run on, as "0-3, 4-7"; empty where there are no threads to speak of.
std::string processors_of_threads();

}  // namespace grist
