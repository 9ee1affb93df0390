#include <grist/backends/threads.hpp>

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <format>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace grist {
namespace {

/// The logical processors that this process may run on.
std::vector<int> processors() {
  std::vector<int> list;
  for (int most = CPU_SETSIZE; most <= 1 << 20; most *= 2) {  // the kernel refuses a mask that is too small
    cpu_set_t* mask = CPU_ALLOC(static_cast<std::size_t>(most));
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    const bool known = sched_getaffinity(0, bytes, mask) == 0;
    for (int cpu = 0; known && cpu < most; ++cpu)
      if (CPU_ISSET_S(static_cast<std::size_t>(cpu), bytes, mask)) list.push_back(cpu);
    CPU_FREE(mask);
    if (known) break;
  }
  return list;
}

/// One logical processor of each physical core among them.
std::vector<int> cores() {
  std::vector<int> first_of_core;
  std::set<std::string> seen;
  for (const int cpu : processors()) {
    std::ifstream file(std::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
    if (seen.insert(siblings).second) first_of_core.push_back(cpu);
  }
  return first_of_core;
}

void run_on(int cpu) {
  const auto count = static_cast<std::size_t>(cpu) + 1;
  cpu_set_t* mask = CPU_ALLOC(count);
  CPU_ZERO_S(CPU_ALLOC_SIZE(count), mask);
  CPU_SET_S(static_cast<std::size_t>(cpu), CPU_ALLOC_SIZE(count), mask);
  sched_setaffinity(0, CPU_ALLOC_SIZE(count), mask);
  CPU_FREE(mask);
}

/// Processors that the control group grants; `otherwise` where it sets no limit.
int granted(int otherwise) {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period && period > 0 ? std::max(1, static_cast<int>(quota / period)) : otherwise;
}

}  // namespace

int choose_threads(int sharers) {
  for (const char* name : {"KOKKOS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && std::atoi(value) > 0) return std::atoi(value);
  }
  const int all = static_cast<int>(cores().size());
  return std::max(1, std::min(all, granted(all)) / std::max(1, sharers));
}

void bind_threads(int index, int sharers) {
  if (std::getenv("OMP_PROC_BIND") != nullptr || std::getenv("OMP_PLACES") != nullptr) return;
  const auto mine = cores();
  const int threads = omp_get_max_threads();
  if (static_cast<std::size_t>(threads) != mine.size() / static_cast<std::size_t>(sharers)) return;
#pragma omp parallel num_threads(threads)
  run_on(mine[static_cast<std::size_t>(index * threads + omp_get_thread_num())]);
}

int affinity_hash() {
  int hash = 1;
  for (const int cpu : processors()) hash = (hash * 31 + cpu) % 1000003;
  return hash;
}

}  // namespace grist
