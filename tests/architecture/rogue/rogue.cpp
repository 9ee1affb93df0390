// What check_sources.cmake must find. Never compiled.
#include <dnnl.hpp>
#include "../model/model.hpp"
#ifdef KOKKOS_ENABLE_CUDA
#endif
// a long line a long line a long line a long line a long line a long line a long line a long line a long line a long line 
