// next_token MODEL 1 415 2534, with a grist that was built without MPI.
#include "next_token.hpp"

#include <Kokkos_Core.hpp>

int main(int argc, char** argv) {
  Kokkos::initialize(argc, argv);
  const int code = next_token(grist::comm_self(), argc, argv);
  Kokkos::finalize();
  return code;
}
