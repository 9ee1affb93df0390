// Attention of queries in bf16 and of keys and values in bf16 or int8 on processors that multiply bf16: as
// cpu/attention.cpp, with products of pairs of bf16, summed in float. The integers of int8 are exact in bf16. Scores
// stay in float; the weights e^(s - m) of values, times the scales of int8, are rounded to bf16.
#include <grist/backends/cpu/attention_items.hpp>

// Vector code for AVX-512 with products of bf16; on others, and on those that multiply bf16 as floats, this
// provider declines.
#define HWY_WANT_AVX3_ZEN4 1
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3 | HWY_AVX3_DL | HWY_AVX10_2 | HWY_ALL_SVE | HWY_RVV)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE <grist/backends/cpu/attention_bf16.cpp>  // this file, once for each of them
#include <hwy/foreach_target.h>

#include <hwy/highway.h>

#include <grist/backends/cpu/bf16_tile-inl.hpp>

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

#if GRIST_HAS_BF16_TILE
bool run(const Exec& exec, const AttentionCall& call) {
  const bool pairs_of_bf16 = call.kv.type == KvType::bf16 || call.kv.type == KvType::int8;
  if (call.type != DType::bf16 || !pairs_of_bf16 || call.config.head_dim % 2 != 0) return false;
  run_items<TileOfAnyRows<Bf16Tile, Bf16RowTile, 32>>(exec, call);
  return true;
}
#else
bool run(const Exec&, const AttentionCall&) { return false; }
#endif

}  // namespace

bool run_attention_bf16(const Exec& exec, const AttentionCall& call) { return run(exec, call); }

}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace grist {
namespace cpu {
namespace {

HWY_EXPORT(run_attention_bf16);

bool run_by_best(const Exec& exec, const AttentionCall& call) {
  return HWY_DYNAMIC_DISPATCH(run_attention_bf16)(exec, call);
}

}  // namespace
}  // namespace cpu

AttentionProvider cpu_bf16_attention() { return {"cpu_bf16", true, cpu::run_by_best, cpu::items_scratch}; }

}  // namespace grist
#endif
