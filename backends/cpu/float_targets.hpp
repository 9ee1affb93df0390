// The processors for which vector code of floats is compiled; Highway picks one at run time: AVX-512, AVX2, NEON.
// Anything else runs what its compiler assumes at least. Included before hwy/foreach_target.h.
#pragma once

#define HWY_DISABLED_TARGETS                                                                             \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX3_ZEN4 | HWY_AVX3_SPR | HWY_AVX10_2 | HWY_NEON |          \
   HWY_NEON_BF16 | HWY_ALL_SVE | HWY_RVV)
