#include <grist/backends/threads.hpp>

#include <grist/backends/portable/control_group.hpp>
#include <grist/core/view.hpp>

#include <omp.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <format>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace grist {
namespace {

/// The logical processors that the calling thread may run on.
std::vector<int> affinity() {
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

/// The logical processors that this process was given. Where OMP_PROC_BIND or OMP_PLACES are set, OpenMP has bound the
/// first thread to one place before any of our code runs: the mask of before is the union of all places.
std::vector<int> processors() {
  const int places = omp_get_num_places();
  if (places == 0) return affinity();
  std::set<int> all;
  for (int place = 0; place < places; ++place) {
    std::vector<int> ids(static_cast<std::size_t>(omp_get_place_num_procs(place)));
    omp_get_place_proc_ids(place, ids.data());
    all.insert(ids.begin(), ids.end());
  }
  return {all.begin(), all.end()};
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

/// "0-3,8"
std::string ranges_of(const std::vector<int>& ascending) {
  std::string text;
  for (std::size_t i = 0; i < ascending.size();) {
    std::size_t last = i;
    while (last + 1 < ascending.size() && ascending[last + 1] == ascending[last] + 1) ++last;
    text += std::format("{}{}{}", text.empty() ? "" : ",", ascending[i],
                        last > i ? std::format("-{}", ascending[last]) : "");
    i = last + 1;
  }
  return text;
}

bool user_forbids_binding() {
  const char* value = std::getenv("OMP_PROC_BIND");
  return value != nullptr && (std::string_view(value) == "false" || std::string_view(value) == "FALSE");
}

/// How many threads come of so many that are wanted.
int team_of([[maybe_unused]] int wanted) {
  int came = 1;
#pragma omp parallel num_threads(wanted)
#pragma omp single
  came = omp_get_num_threads();
  return came;
}

}  // namespace

int choose_threads(int sharers) {
  for (const char* name : {"KOKKOS_NUM_THREADS", "OMP_NUM_THREADS"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && std::atoi(value) > 0) return std::atoi(value);
  }
  const int all = static_cast<int>(cores().size());
  return std::max(1, std::min(all, control_group_limits().processors) / std::max(1, sharers));
}

int threads_that_come(int wanted) {
  omp_set_dynamic(0);
  return team_of(wanted);
}

void check_threads() {
  const int pool = HostExec().concurrency(), came = team_of(pool);
  if (came == pool && (pool == 1 || omp_get_dynamic() == 0)) return;
  throw UsageError(
      "OpenMP may start fewer than the {} threads of Kokkos' pool ({} came): unset OMP_DYNAMIC, OMP_THREAD_LIMIT and "
      "OMP_MAX_ACTIVE_LEVELS, or start Kokkos with as many threads as they allow",
      pool, came);
}

void bind_threads(int index, int sharers) {
  const bool user_binds = omp_get_num_places() > 0;
  const auto mine = cores();
  const int count = static_cast<int>(mine.size()), threads = omp_get_max_threads();
  const int all = sharers * threads;
  if (user_forbids_binding() || (user_binds ? sharers == 1 : threads != count / sharers)) return;
#pragma omp parallel num_threads(threads)
  {
    const int mine_of_all = index * threads + omp_get_thread_num();
    run_on(mine[static_cast<std::size_t>(all <= count ? mine_of_all * count / all : mine_of_all % count)]);
  }
}

int affinity_hash() {
  int hash = 1;
  for (const int cpu : processors()) hash = (hash * 31 + cpu) % 1000003;
  return hash;
}

std::string processors_of_threads() {
  std::vector<std::string> each(static_cast<std::size_t>(omp_get_max_threads()));
#pragma omp parallel num_threads(static_cast<int>(each.size()))
  each[static_cast<std::size_t>(omp_get_thread_num())] = ranges_of(affinity());
  std::string text;
  for (const auto& one : each) text += (text.empty() ? "" : ", ") + one;
  return text;
}

}  // namespace grist
