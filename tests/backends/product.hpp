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

/// The least error of y among those of what a backend may multiply by a weight in blocks, whose numbers are w: numbers
/// and tokens as they are, numbers rounded to T, or tokens rounded to 8 bits.
template <class Y, class T>
double error_with_blocks(const std::vector<float>& y, Factors<T> factors, const std::vector<float>& w) {
  const auto error = [&] { return worst_error(y, factors.template expected<Y>(factors.tokens)); };
  factors.w = w;
  const double as_they_are = error();
  factors.w = stored<T>(w);
  const double rounded = error();
  if (std::is_same_v<T, float>) return std::min(as_they_are, rounded);
  factors.w = w;
  factors.x = rounded_to_8_bits(factors.x);
  return std::min({as_they_are, rounded, error()});
}

/// Storage types of the factors and of the product.
template <class Factor, class Product>
struct Types {
  using T = Factor;
  using Y = Product;
};
using ProductTypes = testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>>;

}  // namespace grist::test
