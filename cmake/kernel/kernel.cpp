#include <Kokkos_Core.hpp>

void fill(Kokkos::View<float*> v) { Kokkos::parallel_for(v.size(), KOKKOS_LAMBDA(int i) { v(i) = 1; }); }
