// The Walsh-Hadamard transform of heads against its sum in double precision, and what it is there for.
#include <grist/core/errors.hpp>
#include <grist/layers/hadamard.hpp>

#include <support/refuses.hpp>
#include <support/views.hpp>

#include <bit>
#include <numeric>

namespace {

using namespace grist;
using namespace grist::test;

constexpr Index rows = 3;
constexpr int kv_heads = 2;

/// Of rows of `kv_heads` heads and three columns more.
template <class X>
std::vector<float> transformed(const std::vector<float>& x, int head_dim) {
  const auto device = on_device<X>(x);
  layers::hadamard(Exec(), kv_heads, head_dim, device.view(rows, kv_heads * head_dim + 3));
  return on_host(device);
}

template <class T>
struct Hadamard : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Hadamard, Storage);

TYPED_TEST(Hadamard, IsItsFormulaInRunsOfAPowerOfTwo) {
  const std::vector<std::pair<int, int>> runs{{1, 1}, {5, 1}, {6, 2}, {64, 64}, {80, 16}, {128, 64}};
  for (const auto& [head_dim, n] : runs) {
    const Index width = kv_heads * head_dim + 3;
    const auto x = stored<TypeParam>(normals("x", rows * width));
    std::vector<Expected> expected;
    for (Index i = 0; i < rows * width; ++i) {
      const Index column = i % width, begin = i - column % n;
      double sum = 0, magnitude = 0;
      for (int j = 0; j < n && column < kv_heads * head_dim; ++j) {
        const double term = x[static_cast<std::size_t>(begin + j)] / std::sqrt(double(n));
        sum += std::popcount(static_cast<unsigned>(column % n & j)) % 2 == 0 ? term : -term;
        magnitude += std::abs(term);
      }
      if (column >= kv_heads * head_dim) sum = x[static_cast<std::size_t>(i)];
      expected.push_back({sum, 8 * float_rounding * magnitude + rounding<TypeParam> * 1.001 * std::abs(sum)});
    }
    EXPECT_LE(worst_error(transformed<TypeParam>(x, head_dim), expected), 1) << "head_dim " << head_dim;
  }
}

TEST(HadamardOfHeads, LeavesProductsOfQueriesAndKeysAsTheyAre) {
  const int head_dim = 96;
  const auto x = normals("x", rows * (kv_heads * head_dim + 3)), y = transformed<float>(x, head_dim);
  const auto product = [&](const std::vector<float>& row) {
    return std::inner_product(row.begin(), row.begin() + head_dim, row.begin() + head_dim, 0.0);
  };
  EXPECT_NEAR(product(y), product(x), 1e-4);
  EXPECT_NE(y, x);
}

TEST(HadamardOfHeads, SpreadsOneLargeChannelOverAll) {
  std::vector<float> x(rows * (kv_heads * 64 + 3));
  x[5] = 64;
  const auto y = transformed<float>(x, 64);
  for (std::size_t c = 0; c < 64; ++c) EXPECT_EQ(std::abs(y[c]), 8);
}

TEST(HadamardOfHeads, ShapesThatDisagreeAreNamed) {
  const Buffer<float> x("x", 24);
  EXPECT_THAT([&] { layers::hadamard(Exec(), 3, 3, x.view(3, 8)); },
              Refuses<ShapeError>({"hadamard: 3 heads of 3 are not in x [3, 8]"}));
}

}  // namespace
