#include <grist/backends/products.hpp>

#include <grist/backends/convert_rows.hpp>
#include <grist/backends/matvec.hpp>
#include <grist/core/errors.hpp>

#include <algorithm>

namespace grist {
namespace {

constexpr Index piece_rows =
    host_reaches_memory ? 512 : 2048;  // converted at a time: fit a cache, or keep a device busy

template <class T>
View2<T> rows_of(View2<T> v, Index first, Index count) {
  return View2<T>(v.data() + first * v.extent(1), count, v.extent(1));
}

/// Each row of `to` = the first of `from`.
template <class T>
void copy_row(const Exec& exec, View2<const T> from, View2<T> to) {
  const Index columns = to.extent(1);
  Kokkos::parallel_for(
      "grist::products::copy_row", Indices<Exec>(exec, 0, to.size()),
      KOKKOS_LAMBDA(Index i) { to.data()[i] = from.data()[i % columns]; });
}

/// Whether all panels hold plain numbers of a type.
bool stored_as(DType type, const Weight& w) {
  return std::all_of(w.panel, w.panel + w.panels, [&](const Panel& p) { return p.format == format_of(type); });
}

/// Elements of a panel that are converted at a time.
Index piece_of(const Panel& panel, Index columns) { return std::min(piece_rows, panel.rows) * columns; }

/// Bytes of two rows of x and of their product with a weight.
Index pair_bytes(const Weight& w, std::size_t x, std::size_t y) {
  return 2 * (w.columns * static_cast<Index>(x) + w.rows * static_cast<Index>(y));
}

/// One expert of a weight that is stored as X.
template <class X>
Weight expert_of(const Weight& w, Index expert) {
  Weight one(w.columns, 1);
  for (int p = 0; p < w.panels; ++p) {
    Panel panel = w.panel[p];
    panel.data = static_cast<const X*>(panel.data) + expert * panel.rows * w.columns;
    one.add(panel);
  }
  return one;
}

struct Shape {
  Index rows, columns;
};
Shape shape_of(const ConstMatrix& m, Op op) {
  return op == Op::none ? Shape{m.rows, m.columns} : Shape{m.columns, m.rows};
}

}  // namespace

Products::Products(std::unique_ptr<Gemm> provider) : gemm_(std::move(provider)), portable_(make_gemm("portable")) {}

template <class X, class Y>
bool Products::multiply_by_provider(const Exec& exec, View2<const X> x, const Weight& w, View2<Y> y) {
  const Matrix all(y);
  const auto multiply = [&](const void* rows, Index first, Index count) {
    const ConstMatrix b(rows, dtype_of<X>, count, w.columns, w.columns);
    return gemm_->run(exec, {x, Op::none, b, Op::transposed, 0, all.column_range(first, count)});
  };
  Index first = 0;
  for (int p = 0; p < w.panels; ++p) {
    const Panel& panel = w.panel[p];
    if (panel.format == format_of(dtype_of<X>)) {
      if (!multiply(panel.data, first, panel.rows)) return false;
    } else {
      for (Index row = 0; row < panel.rows; row += piece_rows) {
        const Index count = std::min(piece_rows, panel.rows - row);
        const Index most = piece_of(panel, w.columns);
        const View2<X> piece(panel_.room<X>(most, most), count, w.columns);
        convert_rows(exec, panel, row, piece);
        if (!multiply(piece.data(), first + row, count)) return false;
      }
    }
    first += panel.rows;
  }
  return true;
}

template <class X, class Y>
void Products::multiply(const Exec& exec, View2<const X> x, const Weight& w, View2<Y> y) {
  const Index tokens = x.extent(0);
  if (static_cast<Index>(x.extent(1)) != w.columns || y.extent(0) != x.extent(0) ||
      static_cast<Index>(y.extent(1)) != w.rows || w.experts != 1) {
    throw ShapeError(
        "product: x [{}, {}], w [{}, {}, {}] do not give y [{}, {}]: y is [x rows, w rows], x and w have equal "
        "columns, w has one expert",
        tokens, x.extent(1), w.experts, w.rows, w.columns, y.extent(0), y.extent(1));
  }
  const Index few = serves_many_tokens(dtype_of<X>, w) ? tokens : std::min(few_, tokens);
  if (few > 0) matvec(exec, rows_of(x, 0, few), {}, w, rows_of(y, 0, few), matvec_);
  if (few == tokens) return;
  const auto many_x = rows_of(x, few, tokens - few);
  const auto many_y = rows_of(y, few, tokens - few);
  if (!multiply_by_provider(exec, many_x, w, many_y)) matvec(exec, many_x, {}, w, many_y, matvec_);
}

template <class X, class Y>
void Products::grouped(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y,
                       View1<const int> token_of) {
  if (static_cast<Index>(x.extent(1)) != w.columns || y.extent(0) != x.extent(0) ||
      static_cast<Index>(y.extent(1)) != w.rows || static_cast<Index>(offsets.extent(0)) != w.experts + 1 ||
      (token_of.size() != 0 && token_of.extent(0) != x.extent(0))) {
    throw ShapeError(
        "grouped product: x [{}, {}], offsets [{}], w [{}, {}, {}] do not give y [{}, {}]: y is [x rows, w rows], x "
        "and w have equal columns, offsets are one more than the experts",
        x.extent(0), x.extent(1), offsets.extent(0), w.experts, w.rows, w.columns, y.extent(0), y.extent(1));
  }
  if (x.extent(0) == 0) return;
  if (token_of.size() != 0 && host_reaches_memory && gemm_->batch_invariant() && stored_as(dtype_of<X>, w)) {
    const int* const tokens = offsets_.load(exec, token_of);
    if (std::any_of(tokens, tokens + token_of.size(), [&](int token) { return token >= few_; })) {
      for_experts(exec, offsets, x.extent(0), [&](Index e, Index first, Index count) {
        const Weight expert = expert_of<X>(w, e);
        const Index few = std::lower_bound(tokens + first, tokens + first + count, few_) - (tokens + first);
        if (few > 0) matvec(exec, rows_of(x, first, few), {}, expert, rows_of(y, first, few), matvec_);
        if (few == count) return;
        multiply_by_expert(exec, rows_of(x, first + few, count - few), expert, rows_of(y, first + few, count - few));
      });
      return;
    }
  }
  if (w.panels == 1 && w.panel[0].format == format_of(dtype_of<X>)) {
    ConstMatrix experts(w.panel[0].data, dtype_of<X>, w.rows, w.columns, w.columns);
    experts.batches = w.experts;
    if (gemm_->grouped(exec, x, offsets, experts, y)) return;
  }
  matvec(exec, x, offsets, w, y, matvec_);
}

template <class X, class Y>
void Products::multiply_by_expert(const Exec& exec, View2<const X> x, const Weight& expert, View2<Y> y) {
  if (x.extent(0) > 1) {
    if (!multiply_by_provider(exec, x, expert, y)) matvec(exec, x, {}, expert, y, matvec_);
    return;
  }
  // One row is twice the same: a library takes another algorithm for one, with other bits.
  const Index in = expert.columns, out = expert.rows, x_bytes = 2 * in * static_cast<Index>(sizeof(X));
  const Index bytes = pair_bytes(expert, sizeof(X), sizeof(Y));
  auto* const memory = pair_.room<std::byte>(bytes, bytes);
  const View2<X> two(reinterpret_cast<X*>(memory), 2, in);
  const View2<Y> both(reinterpret_cast<Y*>(memory + x_bytes), 2, out);
  copy_row(exec, x, two);
  if (multiply_by_provider(exec, as_const(two), expert, both))
    copy_row(exec, as_const(both), y);
  else
    matvec(exec, x, {}, expert, y, matvec_);
}

ProductScratch ProductScratch::covering(const ProductScratch& other) const {
  return {std::max(panel, other.panel), std::max(pair, other.pair), std::max(matvec, other.matvec),
          std::max(provider, other.provider)};
}

ProductScratch Products::scratch(Index tokens, DType x, const Weight& w, DType y) {
  ProductScratch scratch;
  scratch.matvec = matvec_scratch(tokens, x, w);
  if (serves_many_tokens(x, w)) return scratch;
  if (w.experts > 1) {
    if (!stored_as(x, w)) return scratch;  // these are multiplied by a kernel of our own
    scratch.pair = pair_bytes(w, size_of(x), size_of(y));
  }
  for (int p = 0; p < w.panels; ++p) {
    const Panel& panel = w.panel[p];
    const bool converted = panel.format != format_of(x);
    const Index elements = piece_of(panel, w.columns);
    if (converted) scratch.panel = std::max(scratch.panel, elements * static_cast<Index>(size_of(x)));
    const Index rows = converted ? elements / w.columns : panel.rows;
    const ConstMatrix a(nullptr, x, tokens, w.columns, w.columns), b(nullptr, x, rows, w.columns, w.columns);
    const Matrix c(nullptr, y, tokens, rows, w.rows);
    scratch.provider =
        std::max(scratch.provider, gemm_->scratch_bytes({a, Op::none, b, Op::transposed, 0, c}));
  }
  return scratch;
}

template <class F>
void Products::for_experts(const Exec& exec, View1<const int> offsets, Index rows, F&& f) {
  if (rows == 0) return;
  const int* const first = offsets_.load(exec, offsets);
  for (std::size_t e = 0; e + 1 < offsets.extent(0); ++e)
    if (first[e + 1] > first[e]) f(static_cast<Index>(e), Index{first[e]}, Index{first[e + 1] - first[e]});
}

template <class X, class D>
void Products::grouped_backward(const Exec& exec, View2<const X> dy, View1<const int> offsets, const Weight& w,
                                View2<D> dx) {
  if (static_cast<Index>(dy.extent(1)) != w.rows || dx.extent(0) != dy.extent(0) ||
      static_cast<Index>(dx.extent(1)) != w.columns || static_cast<Index>(offsets.extent(0)) != w.experts + 1)
    throw ShapeError("grouped backward product: dy [{}, {}], offsets [{}], w [{}, {}, {}] do not give dx [{}, {}]",
                     dy.extent(0), dy.extent(1), offsets.extent(0), w.experts, w.rows, w.columns, dx.extent(0),
                     dx.extent(1));
  for (int p = 0; p < w.panels; ++p)
    if (w.panel[p].format != format_of(dtype_of<X>))
      throw ShapeError("grouped backward product: a panel is stored as {}, expected {}", name_of(w.panel[p].format),
                       name_of(dtype_of<X>));
  for_experts(exec, offsets, dy.extent(0), [&](Index e, Index first, Index count) {
    const Weight expert = expert_of<X>(w, e);
    Index column = 0;
    for (int p = 0; p < w.panels; ++p) {
      const Index rows = w.panel[p].rows;
      const ConstMatrix panel(expert.panel[p].data, dtype_of<X>, rows, w.columns, w.columns);
      const ConstMatrix from = ConstMatrix(dy).row_range(first, count).column_range(column, rows);
      const float beta = p == 0 ? 0 : 1;
      if (count > 1) {
        run(exec, from, Op::none, panel, Op::none, beta, Matrix(dx).row_range(first, count));
      } else {  // libraries are better at one column than at one row
        const Matrix to(dx.data() + first * w.columns, dtype_of<D>, w.columns, 1, 1);
        run(exec, panel, Op::transposed, from, Op::transposed, beta, to);
      }
      column += rows;
    }
  });
}

template <class X>
void Products::grouped_weights_backward(const Exec& exec, View2<const X> dy, View2<const X> x, View1<const int> offsets,
                                        View3<float> dw) {
  const Index rows = dw.extent(1), columns = dw.extent(2);
  if (dy.extent(0) != x.extent(0) || static_cast<Index>(dy.extent(1)) != rows ||
      static_cast<Index>(x.extent(1)) != columns || offsets.extent(0) != dw.extent(0) + 1)
    throw ShapeError("grouped backward product: dy [{}, {}], x [{}, {}], offsets [{}] do not give dw [{}, {}, {}]",
                     dy.extent(0), dy.extent(1), x.extent(0), x.extent(1), offsets.extent(0), dw.extent(0), rows,
                     columns);
  for_experts(exec, offsets, dy.extent(0), [&](Index e, Index first, Index count) {
    run(exec, ConstMatrix(dy).row_range(first, count), Op::transposed, ConstMatrix(x).row_range(first, count), Op::none,
        1, View2<float>(dw.data() + e * rows * columns, rows, columns));
  });
}

void Products::run(const Exec& exec, ConstMatrix a, Op op_a, ConstMatrix b, Op op_b, float beta, Matrix c) {
  const auto [a_rows, a_columns] = shape_of(a, op_a);
  const auto [b_rows, b_columns] = shape_of(b, op_b);
  if (a_columns != b_rows || c.rows != a_rows || c.columns != b_columns || a.batches != b.batches ||
      a.batches != c.batches) {
    throw ShapeError("product: {} x op(A) [{}, {}], {} x op(B) [{}, {}] do not give {} x C [{}, {}]", a.batches, a_rows,
                     a_columns, b.batches, b_rows, b_columns, c.batches, c.rows, c.columns);
  }
  if (c.rows == 0 || c.columns == 0 || c.batches == 0) return;
  const Product product{a, op_a, b, op_b, beta, c};
  // Libraries leave C as it is where there is nothing to sum.
  if ((product.inner() > 0 && gemm_->run(exec, product)) || portable_->run(exec, product)) return;
  throw ShapeError("product: no provider multiplies {} by {} to {}", name_of(a.type), name_of(b.type), name_of(c.type));
}

#define GRIST_INSTANTIATE(X, Y)                                                                           \
  template void Products::multiply(const Exec&, View2<const X>, const Weight&, View2<Y>);                 \
  template void Products::grouped(const Exec&, View2<const X>, View1<const int>, const Weight&, View2<Y>, \
                                  View1<const int>);                                                      \
  template void Products::grouped_backward(const Exec&, View2<const X>, View1<const int>, const Weight&, View2<Y>);
GRIST_INSTANTIATE(float, float)
GRIST_INSTANTIATE(bf16, bf16)
GRIST_INSTANTIATE(bf16, float)
#undef GRIST_INSTANTIATE
template void Products::grouped_weights_backward(const Exec&, View2<const float>, View2<const float>, View1<const int>,
                                                 View3<float>);
template void Products::grouped_weights_backward(const Exec&, View2<const bf16>, View2<const bf16>, View1<const int>,
                                                 View3<float>);

}  // namespace grist
