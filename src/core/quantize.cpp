#include <grist/core/quantize.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace grist {
namespace {

constexpr float least_group = 1e-15F;  // a group of smaller numbers is stored as zeros

/// To the nearest integer, ties to even, by the mantissa of a large sum.
int nearest(float value) {
  const auto bits = Kokkos::bit_cast<std::uint32_t>(value + 12582912.0F);
  return static_cast<int>(bits & 0x007fffffU) - 0x00400000;
}

/// The number of largest magnitude, the first of equal ones.
float extreme_of(const float* x, int count) {
  float extreme = 0;
  for (int i = 0; i < count; ++i)
    if (std::abs(x[i]) > std::abs(extreme)) extreme = x[i];
  return extreme;
}

/// 0 of 0, and of numbers whose inverse is too large.
float inverse(float value) {
  const float by = 1 / value;
  return std::isfinite(by) ? by : 0;
}

// ---- groups of 32 with one scale: the number of largest magnitude becomes the largest or smallest q

void encode(const float* x, Q8_0& block) {
  const float scale = std::abs(extreme_of(x, Q8_0::elements)) / 127, by = inverse(scale);
  block.d = f16(scale);
  for (int i = 0; i < Q8_0::elements; ++i) block.quants[i] = static_cast<std::int8_t>(std::round(x[i] * by));
}

void encode(const float* x, Q4_0& block) {
  const float scale = extreme_of(x, Q4_0::elements) / -8, by = inverse(scale);
  const auto q = [=](int i) { return std::min(15, static_cast<int>(x[i] * by + 8.5F)); };
  block.d = f16(scale);
  for (int i = 0; i < 16; ++i) block.nibbles[i] = static_cast<std::uint8_t>(q(i) | q(i + 16) << 4);
}

void encode(const float* x, Q5_0& block) {
  const float scale = extreme_of(x, Q5_0::elements) / -16, by = inverse(scale);
  const auto q = [=](int i) { return std::min(31, static_cast<int>(x[i] * by + 16.5F)); };
  block.d = f16(scale);
  std::ranges::fill(block.high, std::uint8_t{0});
  for (int i = 0; i < 32; ++i) block.high[i / 8] |= static_cast<std::uint8_t>(q(i) >> 4 << i % 8);
  for (int i = 0; i < 16; ++i) block.nibbles[i] = static_cast<std::uint8_t>((q(i) & 15) | (q(i + 16) & 15) << 4);
}

// ---- Q4_K: eight groups of 32, x ~ scale q - least, where scale and least are 6-bit multiples of the block's

struct Affine {
  float scale = 0;
  float least = 0;  // what is subtracted, >= 0
};

using Group = std::array<float, Q4_K::group>;

/// Scale and least of a group by weighted least squares over the q of 21 tried scales; the best of them, and its q.
Affine fit_affine(const float* x, const Group& weights, Group& best_q) {
  constexpr int count = Q4_K::group, most = 15, steps = 20;
  const auto at = [](int i) { return static_cast<std::size_t>(i); };
  float low = x[0], high = x[0], sum_w = weights.front(), sum_x = sum_w * x[0];
  for (int i = 1; i < count; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
    sum_w += weights[at(i)];
    sum_x += weights[at(i)] * x[i];
  }
  low = std::min(low, 0.0F);
  best_q = {};
  if (high == low) return {0, -low};
  Group q;
  const auto quantize = [&](float by, float from) {
    for (int i = 0; i < count; ++i)
      q[at(i)] = static_cast<float>(std::clamp(nearest(by * (x[i] - from)), 0, most));
  };
  const auto error_of = [&](float scale, float from) {
    float error = 0;
    for (int i = 0; i < count; ++i) {
      const float difference = scale * q[at(i)] + from - x[i];
      error += weights[at(i)] * (difference * difference);
    }
    return error;
  };
  float by = most / (high - low), scale = 1 / by, from = low;
  quantize(by, from);
  float best = error_of(scale, from);
  best_q = q;
  for (int step = 0; step <= steps; ++step) {
    by = (-1.0F + 0.1F * static_cast<float>(step) + most) / (high - from);
    quantize(by, from);
    float sum_q = 0, sum_qq = 0, sum_xq = 0;
    for (int i = 0; i < count; ++i) {
      const float wq = weights[at(i)] * q[at(i)];
      sum_q += wq;
      sum_qq += wq * q[at(i)];
      sum_xq += wq * x[i];
    }
    const float determinant = sum_w * sum_qq - sum_q * sum_q;
    if (!(determinant > 0)) continue;
    float tried_scale = (sum_w * sum_xq - sum_x * sum_q) / determinant;
    float tried_from = (sum_qq * sum_x - sum_q * sum_xq) / determinant;
    if (tried_from > 0) {
      tried_from = 0;
      tried_scale = sum_xq / sum_qq;
    }
    if (const float error = error_of(tried_scale, tried_from); error < best) {
      best = error;
      scale = tried_scale;
      from = tried_from;
      best_q = q;
    }
  }
  return {scale, -from};
}

void encode(const float* x, Q4_K& block) {
  constexpr int groups = Q4_K::elements / Q4_K::group, size = Q4_K::group;
  std::array<Affine, groups> fits;
  std::array<Group, groups> fitted;
  float most_scale = 0, most_least = 0;
  for (int g = 0; g < groups; ++g) {
    const float* const from = x + g * size;
    float squares = 0;
    for (int i = 0; i < size; ++i) squares += from[i] * from[i];
    const float usual = std::sqrt(squares / size);
    Group weights;
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = usual + std::abs(from[i]);
    Affine& fit = fits[static_cast<std::size_t>(g)];
    fit = fit_affine(from, weights, fitted[static_cast<std::size_t>(g)]);
    most_scale = std::max(most_scale, fit.scale);
    most_least = std::max(most_least, fit.least);
  }
  const float scale_by = most_scale > 0 ? 63 / most_scale : 0, least_by = most_least > 0 ? 63 / most_least : 0;
  block = {};
  block.d = f16(most_scale / 63);
  block.dmin = f16(most_least / 63);
  std::uint8_t* const packed = block.scales.bytes;
  for (int g = 0; g < groups; ++g) {
    // As bytes first: a scale below 0 becomes the largest.
    const Affine& fit = fits[static_cast<std::size_t>(g)];
    const int scale = std::min<int>(63, static_cast<std::uint8_t>(nearest(scale_by * fit.scale)));
    const int least = std::min<int>(63, static_cast<std::uint8_t>(nearest(least_by * fit.least)));
    if (g < 4) {
      packed[g] = static_cast<std::uint8_t>(scale);
      packed[g + 4] = static_cast<std::uint8_t>(least);
    } else {
      packed[g + 4] = static_cast<std::uint8_t>((scale & 15) | (least & 15) << 4);
      packed[g - 4] |= static_cast<std::uint8_t>(scale >> 4 << 6);
      packed[g] |= static_cast<std::uint8_t>(least >> 4 << 6);
    }
  }
  for (int g = 0; g < groups; ++g) {
    const float scale = block.scale(g), least = block.least(g);
    for (int i = 0; i < size; ++i) {
      const int q = scale != 0 ? std::clamp(nearest((x[g * size + i] + least) / scale), 0, 15)
                               : static_cast<int>(fitted[static_cast<std::size_t>(g)][static_cast<std::size_t>(i)]);
      block.nibbles[g / 2 * size + i] |= static_cast<std::uint8_t>(q << g % 2 * 4);
    }
  }
}

// ---- Q6_K: sixteen groups of 16, x ~ scale q, where scale is an 8-bit multiple of the block's

/// The scale of a group whose squared error, weighted by x^2, is least over 19 tried ones.
float fit_scale(const float* x, std::array<std::int8_t, 16>& q) {
  constexpr int count = 16, most = 32;
  const float extreme = extreme_of(x, count);
  q.fill(-most);
  if (std::abs(extreme) < least_group) return 0;
  float scale = 0, best = 0;
  const auto try_one = [&](float by, bool first) {
    float sum_xq = 0, sum_qq = 0;
    std::array<std::int8_t, 16> tried;
    for (int i = 0; i < count; ++i) {
      const int l = std::clamp(nearest(by * x[i]), -most, most - 1);
      tried[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(l);
      const float weight = x[i] * x[i], number = static_cast<float>(l);
      sum_xq += weight * x[i] * number;
      sum_qq += weight * number * number;
    }
    if (!first && !(sum_qq > 0 && sum_xq * sum_xq > best * sum_qq)) return;
    scale = sum_qq != 0 ? sum_xq / sum_qq : 0;
    best = scale * sum_xq;
    q = tried;
  };
  try_one(-most / extreme, true);
  for (int step = -9; step <= 9; ++step)
    if (step != 0) try_one(-(most + 0.1F * static_cast<float>(step)) / extreme, false);
  return scale;
}

void encode(const float* x, Q6_K& block) {
  constexpr int groups = Q6_K::elements / Q6_K::group, size = Q6_K::group;
  std::array<std::array<std::int8_t, size>, groups> q;
  std::array<float, groups> scales;
  for (std::size_t g = 0; g < scales.size(); ++g) scales[g] = fit_scale(x + g * size, q[g]);
  const float extreme = extreme_of(scales.data(), groups);
  block = {};
  if (std::abs(extreme) < least_group) return;
  const float by = -128 / extreme;
  block.d = f16(1 / by);
  for (int g = 0; g < groups; ++g) {
    const auto group = static_cast<std::size_t>(g);
    block.scales[g] = static_cast<std::int8_t>(std::min(127, nearest(by * scales[group])));
    const float scale = block.scale(g);
    for (int i = 0; i < size; ++i) {
      const float value = x[g * size + i];
      const int bits = 32 + (scale != 0 ? std::clamp(nearest(value / scale), -32, 31)
                                        : int{q[group][static_cast<std::size_t>(i)]});
      const int half = g / 8, k = g % 8 / 2, at = g % 2 * size + i;
      block.low[half * 64 + k % 2 * 32 + at] |= static_cast<std::uint8_t>((bits & 15) << k / 2 * 4);
      block.high[half * 32 + at] |= static_cast<std::uint8_t>(bits >> 4 << 2 * k);
    }
  }
}

bool is_finite(f16 value) { return (value.bits & 0x7c00U) != 0x7c00U; }

/// What a block of numbers that are not finite becomes: its scale is no number.
template <class Block>
void make_nan(Block& block) {
  block = {};
  block.d = f16(std::nanf(""));
}

template <class Block>
bool encode_blocks(const float* x, Index columns, std::byte* to) {
  bool finite = true;
  for (Index first = 0; first < columns; first += Block::elements, to += sizeof(Block)) {
    const float* const numbers = x + first;
    Block block;
    if (std::all_of(numbers, numbers + Block::elements, [](float value) { return std::isfinite(value); }))
      encode(numbers, block);
    else
      make_nan(block);
    finite = finite && is_finite(block.d);
    if constexpr (requires { block.dmin; }) finite = finite && is_finite(block.dmin);
    std::memcpy(to, &block, sizeof block);
  }
  return finite;
}

template <class T>
bool encode_plain(const float* x, Index columns, std::byte* to) {
  bool finite = true;
  for (Index i = 0; i < columns; ++i, to += sizeof(T)) {
    const T number(x[i]);
    finite = finite && std::isfinite(static_cast<float>(number));
    std::memcpy(to, &number, sizeof number);
  }
  return finite;
}

}  // namespace

bool can_encode(Format format) {
  switch (format) {
    case Format::f32:
    case Format::f16:
    case Format::bf16:
    case Format::q8_0:
    case Format::q4_0:
    case Format::q5_0:
    case Format::q4_k:
    case Format::q6_k:
      return true;
    default:
      return false;
  }
}

bool encode_row(Format format, const float* x, Index columns, std::byte* to) {
  switch (format) {
    case Format::f32:
      return encode_plain<float>(x, columns, to);
    case Format::f16:
      return encode_plain<f16>(x, columns, to);
    case Format::bf16:
      return encode_plain<bf16>(x, columns, to);
    case Format::q8_0:
      return encode_blocks<Q8_0>(x, columns, to);
    case Format::q4_0:
      return encode_blocks<Q4_0>(x, columns, to);
    case Format::q5_0:
      return encode_blocks<Q5_0>(x, columns, to);
    case Format::q4_k:
      return encode_blocks<Q4_K>(x, columns, to);
    case Format::q6_k:
      return encode_blocks<Q6_K>(x, columns, to);
    default:
      throw InternalError("numbers cannot be written as {}", name_of(format));
  }
}

bool encode_rows(Format format, const float* x, Index rows, Index columns, std::byte* to) {
  const Index bytes = row_bytes(format, columns);
  Index bad = 0;
  const HostExec host;
  Kokkos::parallel_reduce(
      "grist::quantize::rows", Indices<HostExec>(host, 0, rows),
      [=](Index row, Index& count) { count += !encode_row(format, x + row * columns, columns, to + row * bytes); },
      bad);
  return bad == 0;
}

}  // namespace grist
