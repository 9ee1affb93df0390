// Every kernel alone (Google Benchmark): the time of a call, with the bytes that it must move and the FLOPs of its
// formula as rates, beside the machine's own from `grist info --measure`.
//   grist_kernels --benchmark_filter=matvec
#include "kernels/kernel.hpp"

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  Kokkos::ScopeGuard kokkos(argc, argv);
  using namespace grist::benchmarks;
  add_products();
  add_attention();
  add_layers();
  add_training();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
