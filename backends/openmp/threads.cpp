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

cpu_set_t affinity() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  sched_getaffinity(0, sizeof mask, &mask);
  return mask;
}

/// One logical processor of each physical core in the mask.
std::vector<int> cores() {
  const cpu_set_t mask = affinity();
  std::vector<int> first_of_core;
  std::set<std::string> seen;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    std::ifstream file(std::format("/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list", cpu));
    std::string siblings;
    if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
    if (seen.insert(siblings).second) first_of_core.push_back(cpu);
  }
  return first_of_core;
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
  if (static_cast<std::size_t>(threads) * static_cast<std::size_t>(sharers) > mine.size()) return;
#pragma omp parallel num_threads(threads)
  {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(mine[static_cast<std::size_t>(index * threads + omp_get_thread_num())], &one);
    sched_setaffinity(0, sizeof one, &one);
  }
}

long affinity_hash() {
  const cpu_set_t mask = affinity();
  long hash = 1;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) hash = hash * 31 % 1000003 + CPU_ISSET(cpu, &mask);
  return hash;
}

}  // namespace grist
