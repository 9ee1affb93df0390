// The main program of every test, on one rank or many: ranks and Kokkos around GoogleTest. A test fails if it fails on
// any rank, and then ends all ranks: the others may wait for what this one left undone. Exit code 77 says that a test
// was skipped, and none failed.
#include <grist/comm/communicator.hpp>

#include "only_source.hpp"

#include <processes.hpp>

#include <Kokkos_Core.hpp>
#include <gmock/gmock.h>

int main(int argc, char** argv) {
  const grist::cli::Processes processes;
  const int rank = processes.rank(), ranks = processes.size();
  int code = 0;
  {
    Kokkos::ScopeGuard kokkos(argc, argv);
    testing::InitGoogleMock(&argc, argv);
    grist::test::keep_only_source(argc, argv);
    if (rank != 0) {  // the first rank reports; the others speak only of failures
      auto& listeners = testing::UnitTest::GetInstance()->listeners();
      delete listeners.Release(listeners.default_result_printer());
      struct FailurePrinter : testing::EmptyTestEventListener {
        int rank;
        explicit FailurePrinter(int r) : rank(r) {}
        void OnTestPartResult(const testing::TestPartResult& result) override {
          if (result.failed()) {
            std::fprintf(stderr, "[rank %d] %s:%d: %s\n", rank, result.file_name() ? result.file_name() : "?",
                         result.line_number(), result.message());
          }
        }
      };
      listeners.Append(new FailurePrinter(rank));
    }
    if (ranks > 1) {
      struct EndAll : testing::EmptyTestEventListener {
        void OnTestEnd(const testing::TestInfo& test) override {
          if (!test.result()->Failed()) return;
          std::fflush(nullptr);
          grist::cli::abort_all(1);
        }
      };
      testing::UnitTest::GetInstance()->listeners().Append(new EndAll);
    }
    code = RUN_ALL_TESTS();
    const auto& test = *testing::UnitTest::GetInstance();
    const bool skipped = code == 0 && test.skipped_test_count() > 0;
    const grist::Communicator all(processes.world());
    const int worst = all.all_reduce(code, grist::Reduction::max);
    code = all.all_reduce(skipped ? 1 : 0, grist::Reduction::max) != 0 && worst == 0 ? 77 : worst;
  }
  return code;
}
