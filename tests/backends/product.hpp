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

/// Storage types of the factors and of the product.
template <class Factor, class Product>
struct Types {
  using T = Factor;
  using Y = Product;
};
using ProductTypes = testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>>;

}  // namespace grist::test
