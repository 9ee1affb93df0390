// y = x w^T in double precision, as the judge of every matrix product.
#pragma once

#include <support/views.hpp>

namespace grist::test {

/// x [tokens, in] and w [out, in], as T stores them, and the product of the first rows.
template <class T>
struct Factors {
  Index tokens, in, out;
  std::vector<float> x, w;

  Factors(Index tokens_, Index in_, Index out_)
      : tokens(tokens_),
        in(in_),
        out(out_),
        x(stored<T>(normals("x", tokens * in))),
        w(stored<T>(normals("w", out * in))) {}

  /// Products of stored values are exact or rounded once, and so is each of the `in` additions, in whatever order:
  /// (in + 1) roundings of the sum of magnitudes. Then y is rounded to its type.
  template <class Y>
  [[nodiscard]] std::vector<Expected> expected(Index rows) const {
    std::vector<Expected> y;
    for (Index t = 0; t < rows; ++t) {
      for (Index o = 0; o < out; ++o) {
        double value = 0, magnitude = 0;
        for (Index k = 0; k < in; ++k) {
          const double product =
              double{x[static_cast<std::size_t>(t * in + k)]} * w[static_cast<std::size_t>(o * in + k)];
          value += product;
          magnitude += std::abs(product);
        }
        const double summed = static_cast<double>(in + 1) * float_rounding * magnitude;
        y.push_back({value, summed + rounding<Y> * (std::abs(value) + summed)});
      }
    }
    return y;
  }
};

/// Each 32 numbers as multiples of a 127th of the greatest of them.
inline std::vector<float> rounded_to_8_bits(std::vector<float> x) {
  for (auto run = x.begin(); run != x.end(); run += 32) {
    float most = 0;
    for (int i = 0; i < 32; ++i) most = std::max(most, std::abs(run[i]));
    for (int i = 0; i < 32; ++i) run[i] = std::nearbyint(run[i] * (127 / most)) * (most / 127);
  }
  return x;
}

/// The error of y, of each token the least among those of what a backend may multiply by a weight in blocks, whose
/// numbers are w: numbers and token as they are, numbers rounded to T, or with `rounds_tokens` the token to 8 bits.
template <class Y, class T>
double error_with_blocks(const std::vector<float>& y, Factors<T> factors, const std::vector<float>& w,
                         bool rounds_tokens) {
  std::vector<double> least(static_cast<std::size_t>(factors.tokens), std::numeric_limits<double>::infinity());
  const auto compare = [&] {
    const auto expected = factors.template expected<Y>(factors.tokens);
    for (Index t = 0; t < factors.tokens; ++t) {
      const Index first = t * factors.out, last = first + factors.out;
      const double error = worst_error({y.begin() + first, y.begin() + last},
                                       {expected.begin() + first, expected.begin() + last});
      auto& best = least[static_cast<std::size_t>(t)];
      best = std::min(best, error);
    }
  };
  factors.w = w;
  compare();
  factors.w = stored<T>(w);
  compare();
  if (rounds_tokens) {
    factors.w = w;
    factors.x = rounded_to_8_bits(factors.x);
    compare();
  }
  return std::ranges::max(least);
}

/// Storage types of the factors and of the product.
template <class Factor, class Product>
struct Types {
  using T = Factor;
  using Y = Product;
};
using ProductTypes = testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>>;

}  // namespace grist::test
