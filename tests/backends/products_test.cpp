// The service that chooses: which rows the provider gets, weights of every format for many tokens, experts, and
// products of any two matrices where a provider declines.
#include <grist/backends/matvec.hpp>
#include <grist/backends/products.hpp>
#include <grist/core/errors.hpp>

#include <backends/product.hpp>
#include <support/refuses.hpp>
#include <support/weights.hpp>

#include <sys/mman.h>

namespace {

using namespace grist;
using namespace grist::test;

/// A provider that notes what it is asked for and declines.
struct Asked final : Gemm {
  std::vector<Index>& rows;
  explicit Asked(std::vector<Index>& rows_) : rows(rows_) {}
  [[nodiscard]] std::string_view name() const override { return "asked"; }
  bool run(const Exec&, const Product& product) override {
    rows.push_back(product.rows());
    return false;
  }
};

template <class Pair>
struct ProductsOf : testing::Test {
  using T = Pair::T;
  using Y = Pair::Y;

  static std::vector<float> multiply(Products& products, const std::vector<float>& x, const Weight& w) {
    const auto device_x = on_device<T>(x);
    const Index tokens = static_cast<Index>(x.size()) / w.columns;
    const Buffer<Y> y("y", tokens * w.rows);
    products.multiply(Exec(), as_const(device_x.view(tokens, w.columns)), w, y.view(tokens, w.rows));
    return on_host(y);
  }

  /// What y held before is 7 everywhere.
  static std::vector<float> grouped(Products& products, const std::vector<float>& x, const std::vector<int>& offsets,
                                    const Weight& w, const std::vector<int>& token_of = {}) {
    const auto device_x = on_device<T>(x);
    const auto device_offsets = on_device<int>(offsets);
    const Index tokens = static_cast<Index>(x.size()) / w.columns;
    const auto y = on_device<Y>(std::vector<float>(static_cast<std::size_t>(tokens * w.rows), 7));
    const auto device_token_of = on_device<int>(token_of);
    products.grouped(Exec(), as_const(device_x.view(tokens, w.columns)), as_const(device_offsets.view()), w,
                     y.view(tokens, w.rows), as_const(device_token_of.view()));
    return on_host(y);
  }
};
TYPED_TEST_SUITE(ProductsOf, ProductTypes);

TYPED_TEST(ProductsOf, GiveTheProviderExactlyTheRowsAfterTheFew) {
  const Factors<typename TypeParam::T> factors(6, 8, 4);
  const auto w = on_device<typename TypeParam::T>(factors.w);
  std::vector<Index> rows;
  Products products(std::make_unique<Asked>(rows));
  for (const Index few : {0, 2, 5, 6, 9}) {
    rows.clear();
    products.serve(few);
    EXPECT_LE(worst_error(this->multiply(products, factors.x, as_const(w.view(4, 8))),
                          factors.template expected<typename TypeParam::Y>(6)),
              1);
    EXPECT_EQ(rows, few < 6 ? std::vector<Index>{6 - few} : std::vector<Index>{}) << "few " << few;
  }
}

// More rows than are converted at a time, and a last piece of one row.
TYPED_TEST(ProductsOf, ManyTokensMultiplyEveryFormatWithEveryProvider) {
  using T = TypeParam::T;
  for (const auto name : gemm_providers()) {
    Products products(name);
    for (const Format format : every_format) {
      const StoredRows large(format, 513, 256, "large"), small(Format::q8_0, 5, 256, "small"),
          plain(Format::f32, 2, 256, "plain");  // so that not all are in blocks
      Weight w(256, 1);
      for (const StoredRows* rows : {&large, &small, &plain}) w.add(rows->panel());
      Factors<T> factors(11, 256, 520);
      factors.w = large.numbers;
      for (const StoredRows* rows : {&small, &plain})
        factors.w.insert(factors.w.end(), rows->numbers.begin(), rows->numbers.end());
      factors.w = stored<T>(factors.w);  // what is multiplied is of the activations' type
      EXPECT_LE(
          worst_error(this->multiply(products, factors.x, w), factors.template expected<typename TypeParam::Y>(11)), 1)
          << name << ", " << name_of(format);
    }
  }
}

TEST(ProductsOfBlocks, ManyTokensGoToTheProviderUnlessTheKernelOfFewIsFaster) {
  std::vector<Index> rows;
  Products products(std::make_unique<Asked>(rows));
  products.serve(2);
  const StoredRows stored(Format::q8_0, 5, 64);
  const auto x = on_device<bf16>(normals("x", 6 * 64));
  const Buffer<bf16> y("y", 6 * 5);
  products.multiply(Exec(), as_const(x.view(6, 64)), stored.weight(), y.view(6, 5));
  EXPECT_EQ(rows, serves_many_tokens(DType::bf16, stored.weight()) ? std::vector<Index>{} : std::vector<Index>{4});
}

TYPED_TEST(ProductsOf, FewTokensHaveTheBitsThatTheyHaveAlone) {
  Products products;
  for (const Format format : {Format::bf16, Format::f32, Format::q4_k, Format::q5_0}) {
    const StoredRows rows(format, 33, 256);
    const auto x = normals("x", 12 * 256);
    products.serve(3);
    const auto alone = this->multiply(products, {x.begin(), x.begin() + 3 * 256}, rows.weight());
    for (const Index others : {1, 2, 9}) {
      const auto all = this->multiply(products, {x.begin(), x.begin() + (3 + others) * 256}, rows.weight());
      EXPECT_TRUE(std::ranges::equal(alone, std::span(all).first(alone.size())))
          << name_of(format) << ", " << others << " others";
    }
  }
}

// The number of tokens that experts get is the router's affair: none, one, many, and rows of no expert before and
// after.
TYPED_TEST(ProductsOf, ExpertsMultiplyTheirOwnRows) {
  constexpr Index experts = 5, rows = 37, columns = 256;
  const auto x = normals("x", 48 * columns);
  for (const auto name : gemm_providers()) {
    Products products(name);
    for (const Format format : {Format::f32, Format::bf16, Format::q4_k, Format::iq4_nl}) {
      const StoredRows gate(format, experts * rows, columns, "gate"), up(Format::q6_k, experts * rows, columns, "up");
      Weight w(columns, experts);
      w.add({format, rows, gate.memory.data()});
      w.add({Format::q6_k, rows, up.memory.data()});
      for (const std::vector<int>& offsets :
           {std::vector<int>{0, 3, 3, 10, 11, 48}, {0, 0, 0, 48, 48, 48}, {1, 2, 4, 7, 11, 46}, {0, 0, 0, 0, 0, 0}}) {
        const auto y = this->grouped(products, x, offsets, w);
        for (std::size_t e = 0; e < experts; ++e) {
          Weight one(columns, 1);
          one.add(gate.panel(static_cast<Index>(e) * rows, rows));
          one.add(up.panel(static_cast<Index>(e) * rows, rows));
          products.serve(48);
          for (int t = offsets[e]; t < offsets[e + 1]; ++t) {
            const auto row = this->multiply(products, {x.begin() + t * columns, x.begin() + (t + 1) * columns}, one);
            EXPECT_TRUE(std::ranges::equal(row, std::span(y).subspan(static_cast<std::size_t>(t) * 2 * rows, 2 * rows)))
                << name << ", " << name_of(format) << ", expert " << e << ", row " << t;
          }
        }
        for (int t = 0; t < 48; ++t)
          if (t < offsets.front() || t >= offsets.back()) {
            EXPECT_EQ(y[static_cast<std::size_t>(t) * 2 * rows], 7) << "a row of no expert";
          }
      }
    }
  }
}

// Rows of the first three tokens are few, the others many: of an expert none, one, two or all.
TYPED_TEST(ProductsOf, ExpertsMultiplyManyRowsByTheProviderWithTheBitsOfEachAlone) {
  using T = TypeParam::T;
  constexpr Index experts = 4, columns = 96;
  const StoredRows gate(format_of(dtype_of<T>), experts * 33, columns, "gate"),
      up(format_of(dtype_of<T>), experts * 5, columns, "up");
  Weight w(columns, experts);
  w.add({gate.format, 33, gate.memory.data()});
  w.add({up.format, 5, up.memory.data()});
  const std::vector<int> offsets{0, 6, 7, 8, 20};
  const std::vector<int> token_of{0, 2, 3, 7, 8, 9, 1, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const auto x = stored<T>(normals("x", 20 * columns));
  for (const auto name : gemm_providers()) {
    Products products(name);
    products.serve(3);
    const auto by_kernel = this->grouped(products, x, offsets, w), y = this->grouped(products, x, offsets, w, token_of);
    std::vector<Expected> expected;
    for (const float value : by_kernel)
      expected.push_back({value, 4 * columns * float_rounding + 2 * rounding<typename TypeParam::Y> * std::abs(value)});
    EXPECT_LE(worst_error(y, expected), 1) << name;
    for (std::size_t e = 0; e < experts; ++e) {
      for (auto row = static_cast<std::size_t>(offsets[e]); row < static_cast<std::size_t>(offsets[e + 1]); ++row) {
        std::vector<int> own(experts + 1, 0);
        std::fill(own.begin() + static_cast<Index>(e) + 1, own.end(), 1);
        const auto first = x.begin() + static_cast<Index>(row) * columns;
        const auto alone = this->grouped(products, {first, first + columns}, own, w, {token_of[row]});
        const std::span<const float> together(y.data() + row * 38, 38);
        EXPECT_TRUE(std::ranges::equal(alone, together)) << name << ", row " << row << " of expert " << e;
        if (token_of[row] < 3) {
          EXPECT_TRUE(std::ranges::equal(together, std::span(by_kernel).subspan(row * 38, 38)))
              << name << ", row " << row;
        }
      }
    }
  }
}

TEST(ProductsGrouped, GiveTheProviderTheRowsOfManyAlone) {
  if (!host_reaches_memory) GTEST_SKIP() << "the host does not read offsets";
  std::vector<Index> rows;
  Products products(std::make_unique<Asked>(rows));
  products.serve(3);
  const StoredRows stored(Format::f32, 2 * 4, 8);
  Weight w(8, 2);
  w.add({Format::f32, 4, stored.memory.data()});
  const auto x = on_device<float>(normals("x", 6 * 8));
  const auto offsets = on_device<int>(std::vector<int>{0, 4, 6});
  const auto token_of = on_device<int>(std::vector<int>{0, 1, 3, 4, 0, 9});
  const Buffer<float> y("y", 6 * 4);
  products.grouped(Exec(), as_const(x.view(6, 8)), as_const(offsets.view()), w, y.view(6, 4),
                   as_const(token_of.view()));
  EXPECT_EQ(rows, (std::vector<Index>{2, 2})) << "two rows, and one twice";
}

// Pages that nobody may read: an expert without rows is not touched.
TYPED_TEST(ProductsOf, WeightsOfExpertsWithoutRowsAreNotRead) {
  if (!host_reaches_memory) GTEST_SKIP() << "the host protects its own memory alone";
  constexpr Index page = 1 << 16, columns = 256;
  const Index rows = 3 * page / row_bytes(Format::q8_0, columns);
  const Index bytes = rows * row_bytes(Format::q8_0, columns);
  void* const memory = ::mmap(nullptr, static_cast<std::size_t>(3 * bytes + page), PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const Index first = (bytes + page - 1) / page * page,
              last = 2 * bytes / page * page;  // whole pages of the second expert
  ASSERT_LT(first, last);
  ASSERT_EQ(::mprotect(static_cast<std::byte*>(memory) + first, static_cast<std::size_t>(last - first), PROT_NONE), 0);
  Weight w(columns, 3);
  w.add({Format::q8_0, rows, memory});
  Products products;
  const auto y = this->grouped(products, normals("x", 4 * columns), {0, 2, 2, 4}, w);
  EXPECT_EQ(y, std::vector<float>(y.size(), 0));
  ::munmap(memory, static_cast<std::size_t>(3 * bytes + page));
}

TYPED_TEST(ProductsOf, OfNoTokensAreNothing) {
  const StoredRows rows(Format::q4_0, 4, 32);
  Products products;
  EXPECT_TRUE(this->multiply(products, {}, rows.weight()).empty());
  EXPECT_TRUE(this->grouped(products, {}, {0, 0}, rows.weight()).empty());
}

TEST(ProductsRun, TakesThePortableWayWhereTheProviderDeclines) {
  std::vector<Index> rows;
  Products products(std::make_unique<Asked>(rows));
  const Factors<float> factors(5, 9, 4);
  const auto x = on_device<float>(factors.x), w = on_device<float>(factors.w);
  const Buffer<float> y("y", 20);
  products.run(Exec(), as_const(x.view(5, 9)), Op::none, as_const(w.view(4, 9)), Op::transposed, 0, y.view(5, 4));
  EXPECT_EQ(rows, std::vector<Index>{5});
  EXPECT_LE(worst_error(on_host(y), factors.expected<float>(5)), 1);
}

TEST(ProductsRun, BothProductsOfABackwardPass) {
  Products products;
  constexpr Index tokens = 33, in = 48, out = 20;
  const auto dy = normals("dy", tokens * out), w = normals("w", out * in), x = normals("x", tokens * in),
             dw = normals("dw", out * in);
  const auto on_dy = on_device<float>(dy), on_w = on_device<float>(w), on_x = on_device<float>(x),
             on_dw = on_device<float>(dw);
  const Buffer<float> dx("dx", tokens * in);
  products.run(Exec(), as_const(on_dy.view(tokens, out)), Op::none, as_const(on_w.view(out, in)), Op::none, 0,
               dx.view(tokens, in));
  products.run(Exec(), as_const(on_dy.view(tokens, out)), Op::transposed, as_const(on_x.view(tokens, in)), Op::none, 1,
               on_dw.view(out, in));
  const auto got_dx = on_host(dx), got_dw = on_host(on_dw);
  for (Index t = 0; t < tokens; ++t) {
    for (Index i = 0; i < in; ++i) {
      double sum = 0;
      for (Index o = 0; o < out; ++o)
        sum += double{dy[static_cast<std::size_t>(t * out + o)]} * w[static_cast<std::size_t>(o * in + i)];
      EXPECT_NEAR(got_dx[static_cast<std::size_t>(t * in + i)], sum, 1e-4);
    }
  }
  for (Index o = 0; o < out; ++o) {
    for (Index i = 0; i < in; ++i) {
      double sum = dw[static_cast<std::size_t>(o * in + i)];
      for (Index t = 0; t < tokens; ++t)
        sum += double{dy[static_cast<std::size_t>(t * out + o)]} * x[static_cast<std::size_t>(t * in + i)];
      EXPECT_NEAR(got_dw[static_cast<std::size_t>(o * in + i)], sum, 1e-4);
    }
  }
}

TEST(ProductShapes, ThatDisagreeAreNamedWithTheRule) {
  Products products;
  const Buffer<float> x("x", 6), w("w", 12), y("y", 8);
  const auto offsets = on_device<int>(std::vector<int>{0, 2});
  const std::string rule = ": y is [x rows, w rows], x and w have equal columns, w has one expert";
  const auto multiply = [&](const Weight& weight, View2<float> given_y) {
    return refusal([&] { products.multiply(Exec(), as_const(x.view(2, 3)), weight, given_y); });
  };
  EXPECT_EQ(multiply(w.view(4, 3), y.view(2, 4)), "no error");
  EXPECT_EQ(multiply(w.view(3, 4), y.view(2, 4)), "product: x [2, 3], w [1, 3, 4] do not give y [2, 4]" + rule);
  EXPECT_EQ(multiply(w.view(4, 3), y.view(1, 4)), "product: x [2, 3], w [1, 4, 3] do not give y [1, 4]" + rule);
  EXPECT_EQ(multiply(w.view(4, 3), y.view(2, 2)), "product: x [2, 3], w [1, 4, 3] do not give y [2, 2]" + rule);
  Weight two(3, 2);
  two.add({Format::f32, 2, w.data()});
  EXPECT_EQ(multiply(two, y.view(2, 2)), "product: x [2, 3], w [2, 2, 3] do not give y [2, 2]" + rule);
  EXPECT_EQ(
      refusal([&] { products.grouped(Exec(), as_const(x.view(2, 3)), as_const(offsets.view()), two, y.view(2, 2)); }),
      "grouped product: x [2, 3], offsets [2], w [2, 2, 3] do not give y [2, 2]: y is [x rows, w rows], x and w have "
      "equal "
      "columns, offsets are one more than the experts");
  EXPECT_EQ(refusal([&] {
              products.run(Exec(), as_const(x.view(2, 3)), Op::transposed, as_const(w.view(3, 4)), Op::none, 0,
                           y.view(2, 4));
            }),
            "product: 1 x op(A) [3, 2], 1 x op(B) [3, 4] do not give 1 x C [2, 4]");
}

TEST(WeightShapes, RowsOfPartOfABlockAreRefused) {
  EXPECT_EQ(refusal([] { Weight(300, 1).add({Format::q4_k, 1, nullptr}); }),
            "a weight of 300 columns is stored as q4_k, whose blocks hold 256");
}

TEST(WeightShapes, BytesAreThoseOfAllPanelsAndExperts) {
  Weight w(256, 4);
  w.add({Format::q4_k, 3, nullptr});
  w.add({Format::bf16, 2, nullptr});
  EXPECT_EQ(bytes_of(w), 4 * (3 * 144 + 2 * 512));
}

}  // namespace
