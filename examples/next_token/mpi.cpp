// mpirun -n 2 next_token MODEL 1 415 2534
#include "next_token.hpp"

#include <Kokkos_Core.hpp>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  Kokkos::initialize(argc, argv);
  const int code = next_token(MPI_COMM_WORLD, argc, argv);
  Kokkos::finalize();
  MPI_Finalize();
  return code;
}
