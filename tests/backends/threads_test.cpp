// A host that started Kokkos itself may have left OpenMP free to start fewer threads.
#include <grist/backends/threads.hpp>
#include <grist/core/view.hpp>

#include <omp.h>

#include <gtest/gtest.h>

namespace {

using namespace grist;

TEST(HostThreads, ThatMayNotComeAreRefused) {
  const int pool = Exec().concurrency();
  EXPECT_NO_THROW(check_threads());
  omp_set_dynamic(1);
  if (pool == 1)
    EXPECT_NO_THROW(check_threads());
  else
    EXPECT_THROW(check_threads(), UsageError);
  omp_set_dynamic(0);
  EXPECT_NO_THROW(check_threads());
}

TEST(HostThreads, ThatAreAllowedInOneRegionAloneAreRefused) {
  const int levels = omp_get_max_active_levels();
  omp_set_max_active_levels(0);  // as OMP_MAX_ACTIVE_LEVELS=0: every team is one thread
  if (Exec().concurrency() > 1) {
    EXPECT_THROW(check_threads(), UsageError);
  }
  omp_set_max_active_levels(levels);
}

}  // namespace
