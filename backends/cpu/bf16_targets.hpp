// The processors for which vector code of bf16 is compiled; Highway picks one at run time: AVX-512 with products of
// bf16 and without, AVX2, NEON. Anything else runs what its compiler assumes at least. Vectors whose size is not known
// when compiling (SVE, RVV) cannot be members. Included before hwy/foreach_target.h.
#pragma once

#define HWY_WANT_AVX3_ZEN4 1
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_AVX10_2 | HWY_ALL_SVE | HWY_RVV)
