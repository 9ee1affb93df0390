// Products of activations with weights, and the decoding of their blocks.
#include "kernel.hpp"

#include <grist/backends/convert_rows.hpp>
#include <grist/backends/matvec.hpp>
#include <grist/backends/products.hpp>
#include <grist/layers/linear.hpp>

#include <algorithm>
#include <memory>

namespace grist::benchmarks {
namespace {

constexpr Index megabyte = 1 << 20;
constexpr Format formats[] = {Format::f32,  Format::bf16, Format::f16,  Format::q8_0, Format::q4_0,
                              Format::q4_1, Format::q5_0, Format::q5_1, Format::q2_k, Format::q3_k,
                              Format::q4_k, Format::q5_k, Format::q6_k, Format::iq4_nl, Format::iq4_xs};

/// Rows of any format, of about so many bytes.
struct Rows {
  Format format;
  Index rows;
  Buffer<std::byte> memory;

  Rows(Format format_, Index bytes)
      : format(format_), rows(bytes / row_bytes(format, hidden) / 64 * 64),
        memory("rows", rows * row_bytes(format, hidden)) {
    with_format(format, [&]<class Block>(Block block) {
      for (std::size_t byte = 0; byte < sizeof(Block); ++byte) reinterpret_cast<unsigned char*>(&block)[byte] = 0x11;
      const auto blocks = static_cast<std::size_t>(memory.size()) / sizeof(Block);
      Kokkos::deep_copy(Exec(), View1<Block>(reinterpret_cast<Block*>(memory.data()), blocks), block);
    });
  }
  /// As a model of activations of type x holds them.
  [[nodiscard]] Weight weight(DType x) const {
    Weight w(hidden, 1);
    w.add({format, rows, memory.data(), reads_interleaved(x, format)});
    return w;
  }
};

/// A weight too large for the caches, so that it is read from memory as in a model of many layers.
template <class X>
Kernel matvec_of(Format format, Index tokens) {
  const Rows w(format, (tokens == 1 ? 512 : 64) * megabyte);
  const auto x = varied<X>(tokens * hidden);
  const Buffer<X> y("y", tokens * w.rows);
  const auto scratch = std::make_shared<Reserve<Memory>>();
  return {bench::product_work(w.weight(dtype_of<X>), tokens), [=](const Exec& exec) {
            matvec(exec, as_const(x.view(tokens, hidden)), {}, w.weight(dtype_of<X>), y.view(tokens, w.rows), *scratch);
          }};
}

template <class T>
Kernel product(Index tokens) {
  const auto products = std::make_shared<Products>();
  const auto x = varied<T>(tokens * hidden), w = varied<T>(intermediate * hidden);
  const Buffer<T> y("y", tokens * intermediate);
  const Weight weight(as_const(w.view(intermediate, hidden)));
  return {bench::product_work(weight, tokens), [=](const Exec& exec) {
            products->multiply(exec, as_const(x.view(tokens, hidden)), Weight(as_const(w.view(intermediate, hidden))),
                               y.view(tokens, intermediate));
          }};
}

/// Gradients of x and of w, into which they are added.
template <class T>
Kernel product_backward(Index tokens) {
  const auto products = std::make_shared<Products>();
  const auto x = varied<T>(tokens * hidden), w = varied<T>(intermediate * hidden),
             dy = varied<T>(tokens * intermediate);
  const Buffer<T> dx("dx", tokens * hidden);
  const auto dw = constants(intermediate * hidden, 0.0F);
  const Work forward = bench::product_work(as_const(w.view(intermediate, hidden)), tokens);
  const double dw_bytes = 8.0 * static_cast<double>(intermediate * hidden);
  return {{2 * forward.flops, forward.bytes + dw_bytes}, [=](const Exec& exec) {
            layers::linear_backward(exec, *products, as_const(x.view(tokens, hidden)),
                                    Weight(as_const(w.view(intermediate, hidden))),
                                    as_const(dy.view(tokens, intermediate)), dx.view(tokens, hidden),
                                    dw.view(intermediate, hidden));
          }};
}

Kernel bias_backward(Index tokens) {
  const auto dy = varied<bf16>(tokens * intermediate);
  const auto db = constants(intermediate, 0.0F);
  const Buffer<float> scratch("scratch", layers::bias_backward_scratch(tokens, intermediate));
  return {moving_work(tokens * intermediate, 2), [=](const Exec& exec) {
            layers::bias_backward(exec, as_const(dy.view(tokens, intermediate)), scratch.view(), db.view());
          }};
}

/// Rows of tokens that chose their experts evenly.
struct ExpertRows {
  Index rows;
  Index served;  // experts that have rows
  Buffer<int> offsets, token_of;
  Buffer<bf16> w = varied<bf16>(experts * intermediate * hidden);

  explicit ExpertRows(Index tokens)
      : rows(tokens * chosen), served(std::min(rows, experts)),
        offsets(made<int>(experts + 1, [&](Index e) { return e * rows / experts; })),
        token_of(made<int>(rows, [&](Index row) { return row % std::max<Index>(1, rows / experts) * chosen; })) {}
  [[nodiscard]] Weight weight() const {
    Weight weight(hidden, experts);
    weight.add({Format::bf16, intermediate, w.data()});
    return weight;
  }
  /// Of one product for each row: a weight of an expert that has rows moves `bytes`.
  [[nodiscard]] Work work(double bytes) const {
    const auto size = static_cast<double>(intermediate * hidden);
    return {2.0 * static_cast<double>(rows) * size, static_cast<double>(served) * size * bytes};
  }
};

Kernel grouped(Index tokens) {
  const auto products = std::make_shared<Products>();
  const ExpertRows e(tokens);
  const auto x = varied<bf16>(e.rows * hidden);
  const Buffer<bf16> y("y", e.rows * intermediate);
  return {e.work(2), [=](const Exec& exec) {
            products->grouped(exec, as_const(x.view(e.rows, hidden)), as_const(e.offsets.view()), e.weight(),
                              y.view(e.rows, intermediate), as_const(e.token_of.view()));
          }};
}

Kernel grouped_backward(Index tokens) {
  const auto products = std::make_shared<Products>();
  const ExpertRows e(tokens);
  const auto dy = varied<bf16>(e.rows * intermediate);
  const Buffer<bf16> dx("dx", e.rows * hidden);
  return {e.work(2), [=](const Exec& exec) {
            products->grouped_backward(exec, as_const(dy.view(e.rows, intermediate)), as_const(e.offsets.view()),
                                       e.weight(), dx.view(e.rows, hidden));
          }};
}

Kernel grouped_weights_backward(Index tokens) {
  const auto products = std::make_shared<Products>();
  const ExpertRows e(tokens);
  const auto dy = varied<bf16>(e.rows * intermediate), x = varied<bf16>(e.rows * hidden);
  const auto dw = constants(experts * intermediate * hidden, 0.0F);
  return {e.work(8), [=](const Exec& exec) {
            products->grouped_weights_backward(exec, as_const(dy.view(e.rows, intermediate)),
                                               as_const(x.view(e.rows, hidden)), as_const(e.offsets.view()),
                                               View3<float>(dw.data(), experts, intermediate, hidden));
          }};
}

/// Of so many rows that neither they nor the numbers fit the caches.
Kernel convert_rows_of(Format format) {
  const Rows from(format, 64 * megabyte);
  const Buffer<bf16> to("to", from.rows * hidden);
  return {moving_work(from.rows, static_cast<double>(row_bytes(format, hidden) + 2 * hidden)), [=](const Exec& exec) {
            convert_rows(exec, from.weight(DType::bf16).panel[0], 0, to.view(from.rows, hidden));
          }};
}

}  // namespace

void add_products() {
  for (const Format format : formats) {
    for (const Index tokens : {1, 2, 4, 8, 16, 32, 64})
      add(std::format("matvec/bf16/{}/{}", name_of(format), tokens), [=] { return matvec_of<bf16>(format, tokens); });
    for (const Index tokens : {1, 8})
      add(std::format("matvec/f32/{}/{}", name_of(format), tokens), [=] { return matvec_of<float>(format, tokens); });
    add(std::format("convert_rows/{}", name_of(format)), [=] { return convert_rows_of(format); });
  }
  for (const Index tokens : {64, 512}) {
    add(std::format("product/bf16/{}", tokens), [=] { return product<bf16>(tokens); });
    add(std::format("product/f32/{}", tokens), [=] { return product<float>(tokens); });
  }
  add("product_backward/bf16/512", [] { return product_backward<bf16>(512); });
  add("product_backward/f32/512", [] { return product_backward<float>(512); });
  add("bias_backward/512", [] { return bias_backward(512); });
  for (const Index tokens : token_counts) add(std::format("grouped/{}", tokens), [=] { return grouped(tokens); });
  add("grouped_backward/512", [] { return grouped_backward(512); });
  add("grouped_weights_backward/512", [] { return grouped_weights_backward(512); });
}

}  // namespace grist::benchmarks
