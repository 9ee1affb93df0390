// The main program of every test, on one rank or many: MPI and Kokkos around GoogleTest. A test fails if it fails on
// any rank, and then ends all ranks: the others may wait for what this one left undone. Exit code 77 says that a test
// was skipped, and none failed.
#include <Kokkos_Core.hpp>
#include <gmock/gmock.h>
#include <mpi.h>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  int code = 0;
  {
    Kokkos::ScopeGuard kokkos(argc, argv);
    testing::InitGoogleMock(&argc, argv);
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
          MPI_Abort(MPI_COMM_WORLD, 1);
        }
      };
      testing::UnitTest::GetInstance()->listeners().Append(new EndAll);
    }
    code = RUN_ALL_TESTS();
    const auto& test = *testing::UnitTest::GetInstance();
    if (code == 0 && test.skipped_test_count() > 0) code = 77;
  }
  int worst[2] = {code == 77 ? 0 : code, code == 77 ? 1 : 0};
  MPI_Allreduce(MPI_IN_PLACE, worst, 2, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return worst[0] != 0 ? worst[0] : worst[1] != 0 ? 77 : 0;
}
