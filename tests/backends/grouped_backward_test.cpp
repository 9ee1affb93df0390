// Both backward products of experts, by every provider, against double precision.
#include <grist/backends/products.hpp>
#include <grist/core/errors.hpp>

#include <backends/product.hpp>
#include <support/refuses.hpp>

namespace {

using namespace grist;
using namespace grist::test;

constexpr Index experts = 5, gate_rows = 7, up_rows = 20, all_rows = gate_rows + up_rows, in_width = 33, tokens = 48;

/// None, one, two, many rows, and rows of no expert before and after.
const std::vector<std::vector<int>> every_offsets{
    {0, 3, 3, 10, 11, 48}, {0, 0, 0, 48, 48, 48}, {1, 2, 4, 7, 11, 46}, {0, 0, 0, 0, 0, 0}};

std::size_t at(Index row, Index width, Index column) { return static_cast<std::size_t>(row * width + column); }

/// The sum over k < size of f(k), with the error of sums in float.
template <class F>
Expected sum_of(Index size, double before, F&& f) {
  double value = before, magnitude = std::abs(before);
  for (Index k = 0; k < size; ++k) {
    value += f(k);
    magnitude += std::abs(f(k));
  }
  return {value, static_cast<double>(size + 2) * float_rounding * magnitude};
}

template <class Pair>
struct ExpertsBackward : testing::Test {
  using T = Pair::T;
  using Y = Pair::Y;

  std::vector<float> dy = stored<T>(normals("dy", tokens * all_rows)), x = stored<T>(normals("x", tokens * in_width));
  std::vector<float> gate = stored<T>(normals("gate", experts * gate_rows * in_width));
  std::vector<float> up = stored<T>(normals("up", experts * up_rows * in_width));
  Buffer<T> on_dy = on_device<T>(dy), on_x = on_device<T>(x), on_gate = on_device<T>(gate), on_up = on_device<T>(up);

  [[nodiscard]] Weight weight() const {
    Weight w(in_width, experts);
    w.add({format_of(dtype_of<T>), gate_rows, on_gate.data()});
    w.add({format_of(dtype_of<T>), up_rows, on_up.data()});
    return w;
  }
  [[nodiscard]] double w(Index e, Index row, Index column) const {
    return row < gate_rows ? gate[at(e * gate_rows + row, in_width, column)]
                           : up[at(e * up_rows + row - gate_rows, in_width, column)];
  }
};
TYPED_TEST_SUITE(ExpertsBackward, ProductTypes);

TYPED_TEST(ExpertsBackward, RowsGetDyTimesTheirExpert) {
  using Y = TypeParam::Y;
  for (const auto name : gemm_providers()) {
    Products products(name);
    for (const auto& offsets : every_offsets) {
      const auto on_offsets = on_device<int>(offsets);
      const auto dx = on_device<Y>(std::vector<float>(tokens * in_width, 7));
      products.grouped_backward(Exec(), as_const(this->on_dy.view(tokens, all_rows)), as_const(on_offsets.view()),
                                this->weight(), dx.view(tokens, in_width));
      std::vector<Expected> expected(tokens * in_width, {7, 0});
      for (Index e = 0; e < experts; ++e) {
        for (Index t = offsets[static_cast<std::size_t>(e)]; t < offsets[static_cast<std::size_t>(e + 1)]; ++t) {
          for (Index c = 0; c < in_width; ++c) {
            const auto term = [&](Index row) { return double{this->dy[at(t, all_rows, row)]} * this->w(e, row, c); };
            auto sum = sum_of(all_rows, 0, term);
            const double first = sum_of(gate_rows, 0, term).value;  // is rounded before the second panel is added
            sum.bound += rounding<Y> * 1.01 * (std::abs(sum.value) + std::abs(first) + sum.bound);
            expected[at(t, in_width, c)] = sum;
          }
        }
      }
      EXPECT_LE(worst_error(on_host(dx), expected), 1) << name;
    }
  }
}

TYPED_TEST(ExpertsBackward, ExpertsGainDyTimesTheirRows) {
  const auto before = normals("before", experts * all_rows * in_width);
  for (const auto name : gemm_providers()) {
    Products products(name);
    for (const auto& offsets : every_offsets) {
      const auto on_offsets = on_device<int>(offsets);
      const auto dw = on_device<float>(before);
      products.grouped_weights_backward(Exec(), as_const(this->on_dy.view(tokens, all_rows)),
                                        as_const(this->on_x.view(tokens, in_width)), as_const(on_offsets.view()),
                                        View3<float>(dw.data(), experts, all_rows, in_width));
      std::vector<Expected> expected;
      for (Index e = 0; e < experts; ++e) {
        const Index first = offsets[static_cast<std::size_t>(e)], end = offsets[static_cast<std::size_t>(e + 1)];
        for (Index r = 0; r < all_rows; ++r)
          for (Index c = 0; c < in_width; ++c)
            expected.push_back(sum_of(end - first, before[at(e * all_rows + r, in_width, c)], [&](Index k) {
              return double{this->dy[at(first + k, all_rows, r)]} * this->x[at(first + k, in_width, c)];
            }));
      }
      EXPECT_LE(worst_error(on_host(dw), expected), 1) << name;
    }
  }
}

TEST(ExpertsBackwardShapes, ThatDisagreeAreNamed) {
  Products products;
  const Buffer<float> memory("memory", 100);
  const auto m = [&](Index r, Index c) { return View2<float>(memory.data(), r, c); };
  const auto offsets = on_device<int>(std::vector<int>{0, 1, 2});
  Weight w(3, 2);
  w.add({Format::f32, 4, memory.data()});
  EXPECT_EQ(
      refusal([&] { products.grouped_backward(Exec(), as_const(m(2, 5)), as_const(offsets.view()), w, m(2, 3)); }),
      "grouped backward product: dy [2, 5], offsets [3], w [2, 4, 3] do not give dx [2, 3]");
  EXPECT_EQ(refusal([&] {
              products.grouped_weights_backward(Exec(), as_const(m(2, 4)), as_const(m(2, 3)), as_const(offsets.view()),
                                                View3<float>(memory.data(), 3, 4, 3));
            }),
            "grouped backward product: dy [2, 4], x [2, 3], offsets [3] do not give dw [3, 4, 3]");
  Weight quantized(32, 2);
  quantized.add({Format::q4_0, 4, memory.data()});
  EXPECT_EQ(refusal([&] {
              products.grouped_backward(Exec(), as_const(m(1, 4)), as_const(offsets.view()), quantized, m(1, 32));
            }),
            "grouped backward product: a panel is stored as q4_0, expected f32");
}

}  // namespace
