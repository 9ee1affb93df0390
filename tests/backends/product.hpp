// y = x w^T in double precision, as the judge of every matrix product.
#pragma once

#include <support/views.hpp>

#include <utility>

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

/// Products of tokens by a weight in blocks, whose numbers are w, in each way that a backend may take: numbers and
/// token as they are, numbers rounded to T, or with `rounds_tokens` the token to 8 bits.
template <class Y>
class BlockProducts {
public:
  template <class T>
  BlockProducts(Factors<T> factors, const std::vector<float>& w, bool rounds_tokens) : out_(factors.out) {
    const auto add_way = [&] { ways_.push_back(factors.template expected<Y>(factors.tokens)); };
    factors.w = w;
    add_way();
    if (rounds_tokens) {
      const auto x = std::exchange(factors.x, rounded_to_8_bits(factors.x));
      add_way();
      factors.x = x;
    }
    factors.w = stored<T>(w);
    if (factors.w != w) add_way();
  }

  /// Of y, the products of the first tokens: the worst token's, which is the least among the ways.
  [[nodiscard]] double error(const std::vector<float>& y) const {
    double worst = 0;
    for (Index first = 0; first < std::ssize(y); first += out_) {
      double least = std::numeric_limits<double>::infinity();
      for (const auto& way : ways_) {
        const auto begin = way.begin() + first;
        least = std::min(least, worst_error({y.begin() + first, y.begin() + first + out_}, {begin, begin + out_}));
      }
      worst = std::max(worst, least);
    }
    return worst;
  }

private:
  Index out_;
  std::vector<std::vector<Expected>> ways_;
};

/// Storage types of the factors and of the product.
template <class Factor, class Product>
struct Types {
  using T = Factor;
  using Y = Product;
};
using ProductTypes = testing::Types<Types<float, float>, Types<bf16, bf16>, Types<bf16, float>>;

}  // namespace grist::test
