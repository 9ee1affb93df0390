// Sixteen floats that the compiler keeps in vector registers: one of AVX-512's, two of AVX's, four of NEON's or SSE's.
// Included once for each kind of processor, after hwy/foreach_target.h.
#include <grist/core/dtype.hpp>

#include <cstdint>
#include <cstring>
#include <iterator>

#include <hwy/highway.h>

#if defined(GRIST_LANES) == defined(HWY_TARGET_TOGGLE)
#ifdef GRIST_LANES
#undef GRIST_LANES
#else
#define GRIST_LANES
#endif

HWY_BEFORE_NAMESPACE();
namespace grist::cpu::HWY_NAMESPACE {
namespace {

constexpr int lane_count = 16;
/// Whether they are one register.
using FloatLanes = hwy::HWY_NAMESPACE::CappedTag<float, lane_count>;
constexpr bool wide = HWY_MAX_LANES_D(FloatLanes) == lane_count;
typedef float Lanes __attribute__((vector_size(4 * lane_count)));
typedef std::uint32_t LaneBits __attribute__((vector_size(4 * lane_count)));
typedef std::uint16_t HalfLanes __attribute__((vector_size(2 * lane_count)));
typedef std::int8_t ByteLanes __attribute__((vector_size(lane_count)));

HWY_INLINE Lanes broadcast(float value) { return value - Lanes{}; }

HWY_INLINE Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
HWY_INLINE Lanes load(const bf16* from) {
  HalfLanes half;
  std::memcpy(&half, from, sizeof half);
  return __builtin_bit_cast(Lanes, __builtin_convertvector(half, LaneBits) << 16);
}
HWY_INLINE Lanes load(const f16* from) {
  HalfLanes half;
  std::memcpy(&half, from, sizeof half);
  const LaneBits bits = __builtin_convertvector(half, LaneBits), magnitude = bits & 0x7fffU;
  // As the scalar conversion: mend the exponent's bias by an exact product, keep infinity and NaN.
  const LaneBits scaled = __builtin_bit_cast(LaneBits, __builtin_bit_cast(Lanes, magnitude << 13) * 0x1p112F);
  const LaneBits infinite = magnitude >= 0x7c00U ? LaneBits{} + 0x7f800000U : LaneBits{};
  return __builtin_bit_cast(Lanes, scaled | infinite | (bits & 0x8000U) << 16);
}
HWY_INLINE Lanes load(const std::int8_t* from) {
  ByteLanes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Lanes);
}
HWY_INLINE void store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

/// The first `count` < 16 values, zeros behind them.
template <class T>
HWY_INLINE Lanes load_some(const T* from, std::int64_t count) {
  T values[lane_count] = {};
  std::memcpy(values, from, static_cast<std::size_t>(count) * sizeof(T));
  return load(values);
}

/// Sum of the lanes, in a fixed order.
HWY_INLINE float sum(Lanes lanes) {
  float value[lane_count];
  store(value, lanes);
  for (int width = lane_count / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) value[i] += value[i + width];
  return value[0];
}

/// a b + c, rounded once where the processor can, else twice: as written, for whether a compiler joins the two by
/// itself depends on the code around them, and the same numbers are to have the same bits in every kernel.
HWY_INLINE Lanes fma(Lanes a, Lanes b, Lanes c) {
#if HWY_NATIVE_FMA
  constexpr hwy::HWY_NAMESPACE::CappedTag<float, lane_count> floats;
  struct Parts {
    hwy::HWY_NAMESPACE::Vec<decltype(floats)> of[lane_count / HWY_MAX_LANES_D(decltype(floats))];
  };
  const auto x = __builtin_bit_cast(Parts, a), y = __builtin_bit_cast(Parts, b);
  auto sums = __builtin_bit_cast(Parts, c);
  for (std::size_t i = 0; i < std::size(sums.of); ++i)
    sums.of[i] = hwy::HWY_NAMESPACE::MulAdd(x.of[i], y.of[i], sums.of[i]);
  return __builtin_bit_cast(Lanes, sums);
#else
  return a * b + c;
#endif
}

HWY_INLINE Lanes max(Lanes a, Lanes b) { return a > b ? a : b; }

/// e^x for x <= 0, to 2 units in the last place; 0 below -87; NaN stays NaN. Cephes' expf: 2^n times a polynomial of
/// the rest.
HWY_INLINE Lanes exp_negative(Lanes x) {
  const Lanes clamped = x < -87.0F ? broadcast(-87.0F) : x;
  const Lanes shifted =
      fma(clamped, broadcast(1.44269504F), broadcast(12582912.0F));  // 1.5 * 2^23: rounds to an integer
  const Lanes n = shifted - 12582912.0F;
  const Lanes r = fma(n, broadcast(2.12194440e-4F), fma(n, broadcast(-0.693359375F), clamped));
  Lanes p = broadcast(1.9875691500e-4F);
  p = fma(p, r, broadcast(1.3981999507e-3F));
  p = fma(p, r, broadcast(8.3334519073e-3F));
  p = fma(p, r, broadcast(4.1665795894e-2F));
  p = fma(p, r, broadcast(1.6666665459e-1F));
  p = fma(p, r, broadcast(5.0000001201e-1F));
  p = fma(p * r, r, r) + 1.0F;
  const LaneBits exponent = (__builtin_bit_cast(LaneBits, shifted) + 127U - 0x4B400000U) << 23;
  const Lanes result = p * __builtin_bit_cast(Lanes, exponent);
  return x < -87.0F ? Lanes{} : result;
}

/// tanh, to 4 units in the last place; NaN stays NaN. Cephes' tanhf: a polynomial near 0, beyond it by e^(-2 |x|).
HWY_INLINE Lanes tanh(Lanes x) {
  const Lanes size = x < 0.0F ? -x : x, z = x * x;
  Lanes p = broadcast(-5.70498872745e-3F);
  p = fma(p, z, broadcast(2.06390887954e-2F));
  p = fma(p, z, broadcast(-5.37397155531e-2F));
  p = fma(p, z, broadcast(1.33314422036e-1F));
  p = fma(p, z, broadcast(-3.33332819422e-1F));
  p = fma(p * z, x, x);
  const Lanes e = exp_negative(-2.0F * size), far = (1.0F - e) / (1.0F + e);
  return size < 0.625F ? p : x < 0.0F ? -far : far;
}

}  // namespace
}  // namespace grist::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
