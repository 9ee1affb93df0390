// The rules that every layer keeps, seen through Kokkos Tools: its kernels bear its name, and it asks for no fence, no
// allocation and no copy. Calls are warm: the first one sizes the scratch of Kokkos itself.
#include <grist/layers/activation.hpp>
#include <grist/layers/attention.hpp>
#include <grist/layers/cross_entropy.hpp>
#include <grist/layers/embedding.hpp>
#include <grist/layers/experts.hpp>
#include <grist/layers/hadamard.hpp>
#include <grist/layers/hadamard.hpp>
#include <grist/layers/linear.hpp>
#include <grist/layers/norm.hpp>
#include <grist/layers/norm_over_heads.hpp>
#include <grist/layers/residual.hpp>
#include <grist/layers/rope.hpp>
#include <grist/layers/sample.hpp>
#include <grist/layers/scale.hpp>

#include <support/files.hpp>
#include <support/tools_recorder.hpp>
#include <support/views.hpp>
#include <support/weights.hpp>

#include <gmock/gmock.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

namespace {

using namespace grist;
using namespace grist::test;
using testing::AnyOf;
using testing::Each;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr Index tokens = 6, hidden = 32;

template <class T>
Buffer<T> filled(const T& value, Index size) {
  const Buffer<T> buffer("test", size);
  Kokkos::deep_copy(buffer.view(), value);
  return buffer;
}

/// Memory for one call of every layer.
template <class T>
struct Memory {
  Buffer<float> x = on_device<float>(normals("x", tokens* hidden));
  Buffer<float> y = on_device<float>(normals("y", tokens* hidden));
  Buffer<T> a = on_device<T>(normals("a", tokens * 2 * hidden)), b = on_device<T>(normals("b", tokens*hidden));
  Buffer<T> w = on_device<T>(normals("w", hidden* hidden));
  Buffer<float> vector = on_device<float>(normals("vector", hidden)), more = on_device<float>(normals("more", hidden));
  Buffer<int> ids = on_device<int>(std::vector<int>{0, 1, 2, 3, 4, 5});
  Buffer<int> begin = on_device<int>(std::vector<int>{0, 6}), length = on_device<int>(std::vector<int>{6});
  std::unique_ptr<Products> products = std::make_unique<Products>("portable");
  StoredRows stored{Format::q4_0, hidden, hidden};
  Buffer<layers::Penalty> penalties = filled(layers::Penalty{0, 1, 2}, 1);
  Buffer<layers::Draw> draws = filled(layers::Draw{.top_p = 0.5F}, 1);
  Buffer<layers::Choice> highest{"highest", tokens}, chosen{"chosen", 1};
  Buffer<Index> histograms = filled(Index{0}, layers::digit_values);
  Buffer<int> choices{"choices", 2 * tokens}, row_of{"row of", 2 * tokens}, token_of{"token of", 2 * tokens},
      offsets{"offsets", hidden + 1};
  Buffer<T> rows{"rows", 2 * tokens * hidden};
  Buffer<float> outputs = on_device<float>(normals("outputs", 2 * tokens * hidden));
  Buffer<double> exact{"exact sums", tokens};
  Buffer<float> scratch, backward_scratch;
  Buffer<T> dqkv = Buffer<T>("dqkv", tokens * 2 * hidden), drows = Buffer<T>("drows", 2 * tokens * hidden);
  Buffer<float> sums{"sums", layers::norm_backward_scratch(tokens, hidden)}, dw{"dw", hidden * hidden};
  Buffer<AttentionItem> items = Buffer<AttentionItem>("items", 2);

  Memory() {
    const AttentionConfig config{.heads = 4, .kv_heads = 2, .head_dim = 8};
    scratch = Buffer<float>("scratch", attention_scratch(config, {tokens, 1, tokens}));
    backward_scratch = Buffer<float>("scratch", attention_backward_scratch(config, {tokens, 1, tokens}));
    const std::vector<AttentionItem> both{{0, 0, 0, 1, -1}, {0, 0, 0, 1, 0}};
    Kokkos::deep_copy(items.view(), HostView<const AttentionItem>(both.data(), both.size()));
  }
};

/// A layer by its name, and a call of it.
struct Call {
  std::string layer;
  std::function<void(const Exec&)> run;
};

template <class T>
std::vector<Call> calls(const Memory<T>& m) {
  const auto x = as_const(m.x.view(tokens, hidden));
  const auto a = as_const(m.a.view(tokens, hidden));
  const auto b = m.b.view(tokens, hidden);
  const auto w = as_const(m.w.view(hidden, hidden));
  const auto bias = as_const(m.vector.view());
  const auto ids = as_const(m.ids.view());
  const auto dx = m.y.view(tokens, hidden);
  const auto dw = m.dw.view(hidden, hidden);
  const View1<float> d_norm(m.dw.data(), hidden), d_head(m.dw.data(), 8);
  // A whole tile, and one that is merged from the partial results of two chunks.
  const AttentionConfig config{.heads = 4, .kv_heads = 2, .head_dim = 8};
  const KvPages kv = layers::packed_kv(config, as_const(m.a.view(tokens, 2 * hidden)), as_const(m.begin.view()));
  const View1<const AttentionItem> item(m.items.data(), 1), split(m.items.data() + 1, 1);
  const PackedSequences whole{as_const(m.begin.view()), as_const(m.length.view()), item, {}, 0};
  const PackedSequences merged{as_const(m.begin.view()), as_const(m.length.view()), split, split, 4};
  const auto linear = [=, &m](Index few, const Weight& weight) {
    return [=, &m](const Exec& e) {
      m.products->serve(few);
      layers::linear(e, *m.products, a, weight, bias, b);
    };
  };
  return {
      {"norm",
       [=, &m](const Exec& e) {
         layers::rms_norm(e, x, as_const(m.vector.view()), 1e-5F, b);
         layers::layer_norm(e, x, as_const(m.vector.view()), as_const(m.more.view()), 1e-5F, b);
         layers::rms_norm_heads(e, 0, 4, as_const(View1<float>(m.vector.data(), 8)), 1e-5F, b);
         layers::residual_rms_norm(e, x, m.y.view(tokens, hidden), as_const(m.vector.view()), 1e-5F, b);
         layers::no_norm(e, x, b);
       }},
      {"norm",
       [=, &m](const Exec& e) {
         layers::rms_norm_backward(e, x, bias, 1e-5F, a, m.sums.view(), dx, d_norm);
         layers::layer_norm_backward(e, x, bias, 1e-5F, a, m.sums.view(), dx, d_norm, d_norm);
         layers::rms_norm_heads_backward(e, a, 0, 4, as_const(View1<float>(m.vector.data(), 8)), 1e-5F, m.sums.view(),
                                         b, d_head);
         layers::no_norm_backward(e, a, dx);
       }},
      {"hadamard", [=](const Exec& e) { layers::hadamard(e, 4, 8, b); }},
      {"norm_over_heads",
       [=, &m](const Exec& e) {
         const auto sums = m.y.view(tokens, 4);
         const auto w8 = as_const(View1<float>(m.vector.data(), 8));
         layers::head_sums(e, a, a, 0, 8, {}, sums);
         layers::rms_norm_over_heads(e, as_const(sums), 0, 8, w8, 1e-5F, b);
         layers::rms_norm_over_heads_backward(e, a, as_const(sums), as_const(sums), 1, 0, 8, w8, 1e-5F, m.sums.view(),
                                              b, d_head);
       }},
      {"embedding", [=, &m](const Exec& e) { layers::embedding(e, ids, w, 0, m.y.view(tokens, hidden)); }},
      {"embedding",
       [=, &m](const Exec& e) { layers::embedding(e, ids, m.stored.weight(), 0, m.y.view(tokens, hidden)); }},
      {"embedding", [=](const Exec& e) { layers::embedding_backward(e, ids, ids, x, 0, dw); }},
      {"linear", linear(tokens, w)},
      {"linear", linear(2, w)},
      {"linear", linear(2, m.stored.weight())},
      {"linear", linear(tokens, m.stored.weight())},
      {"linear",
       [=, &m](const Exec& e) {
         layers::linear_backward(e, *m.products, a, w, a, b, dw);
         layers::bias_backward(e, a, m.sums.view(), d_norm);
       }},
      {"rope",
       [=, &m](const Exec& e) {
         layers::rope_cos_sin(e, ids, ids, {as_const(View1<float>(m.vector.data(), 4))}, m.y.view(tokens, 8));
         layers::rope(e, as_const(m.y.view(tokens, 8)), 4, 8, b);
         layers::rope_backward(e, as_const(m.y.view(tokens, 8)), 4, 8, b);
       }},
      {"activation",
       [=, &m](const Exec& e) {
         layers::gated_activation(e, layers::Activation::silu, as_const(m.a.view(tokens, 2 * hidden)), b);
         layers::activation(e, layers::Activation::gelu, a, b);
         layers::activation_backward(e, layers::Activation::gelu, a, a, b);
         layers::gated_activation_backward(e, layers::Activation::silu, as_const(m.a.view(tokens, 2 * hidden)), a,
                                           m.rows.view(tokens, 2 * hidden));
       }},
      {"residual", [=, &m](const Exec& e) { layers::residual(e, x, m.y.view(tokens, hidden)); }},
      {"scale",
       [=](const Exec& e) {
         layers::scale(e, 1.0F, b);
         layers::soft_cap(e, 3.0F, dx);
         layers::soft_cap_backward(e, 3.0F, x, b);
       }},
      {"sample",
       [=, &m](const Exec& e) {
         const auto logits = m.y.view(tokens, hidden);
         layers::sample_penalize(e, as_const(m.penalties.view()), logits);
         layers::sample_highest(e, as_const(logits), 0, m.highest.view());
         layers::sample_count(e, layers::Search::top_p, 0, as_const(logits), as_const(m.highest.view()),
                              as_const(m.draws.view()), m.histograms.view(1, layers::digit_values));
         layers::sample_narrow(e, layers::Search::top_p, 0, m.histograms.view(1, layers::digit_values), m.draws.view());
         layers::sample_draw(e, as_const(logits), 0, as_const(m.highest.view()), as_const(m.draws.view()),
                             m.chosen.view());
       }},
      {"experts",
       [=, &m](const Exec& e) {
         const auto choices = m.choices.view(tokens, 2), row_of = m.row_of.view(tokens, 2);
         const auto weights = View2<float>(m.more.data(), tokens, 2);
         layers::choose_experts(e, x, true, choices, weights);
         layers::sort_by_expert(e, as_const(choices), m.offsets.view(), m.token_of.view(), row_of);
         layers::dispatch(e, a, as_const(m.token_of.view()), View2<T>(m.rows.data(), 2 * tokens, hidden));
         layers::combine(e, as_const(m.outputs.view(2 * tokens, hidden)), as_const(row_of), as_const(weights),
                         m.y.view(tokens, hidden));
         layers::add_shared(e, x, as_const(View1<float>(m.more.data(), tokens)), m.y.view(tokens, hidden));
         const auto dlogits = m.y.view(tokens, hidden);
         const auto drows = m.drows.view(2 * tokens, hidden);
         const auto sums = View2<float>(m.outputs.data(), 2, hidden);
         layers::choose_experts_backward(e, x, true, as_const(choices), as_const(weights), as_const(weights), dlogits);
         layers::dispatch_backward(e, as_const(drows), as_const(row_of), b);
         layers::combine_backward(e, as_const(m.outputs.view(2 * tokens, hidden)), as_const(row_of), as_const(weights),
                                  x, drows, weights);
         layers::add_shared_backward(e, x, as_const(View1<float>(m.more.data(), tokens)), x, b,
                                     View1<float>(m.more.data() + tokens, tokens));
         layers::load_balancing_sums(e, x, as_const(choices), {}, m.backward_scratch.view(), sums);
         layers::load_balancing_backward(e, x, {}, as_const(sums), 2, 1, dlogits);
       }},
      {"cross_entropy",
       [=, &m](const Exec& e) {
         const auto highest = View1<float>(m.more.data(), tokens);
         layers::cross_entropy_highest(e, x, highest);
         layers::cross_entropy_sums(e, x, ids, 0, as_const(highest), m.exact.view(),
                                    View1<float>(m.more.data() + tokens, tokens));
         layers::cross_entropy_backward(e, x, ids, 0, as_const(highest), as_const(m.exact.view()), as_const(highest),
                                        b);
       }},
      {"hadamard", [=](const Exec& e) { layers::hadamard(e, 4, 8, b); }},
      {"attention", [=, &m](const Exec& e) { layers::attention(e, config, a, kv, whole, m.scratch.view(), b); }},
      {"attention", [=, &m](const Exec& e) { layers::attention(e, config, a, kv, merged, m.scratch.view(), b); }},
      {"attention", [=, &m](const Exec& e) { layers::attention_plain(e, config, a, kv, whole, m.scratch.view(), b); }},
      {"attention", [=, &m](const Exec& e) { layers::attention_plain(e, config, a, kv, merged, m.scratch.view(), b); }},
      {"attention", [=, &m](const Exec& e) {
         const auto run = [&](auto&& backward) {
           backward(e, config, as_const(m.a.view(tokens, 2 * hidden)), a, as_const(m.y.view(4, tokens)), a,
                    as_const(m.begin.view()), m.backward_scratch.view(), m.dqkv.view(tokens, 2 * hidden));
         };
         run(layers::attention_backward<T>);
         run(layers::attention_backward_plain<T>);
       }},
  };
}

template <class T>
struct Conventions : testing::Test {};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(Conventions, Storage);

TYPED_TEST(Conventions, ALayerLaunchesKernelsOfItsNameAndDoesNothingElse) {
  const Memory<TypeParam> memory;
  const Exec exec;
  for (const auto& [layer, run] : calls(memory)) {
    SCOPED_TRACE(layer);
    run(exec);
    exec.fence();
    const ToolsRecorder seen;
    run(exec);
    const auto own = StartsWith("grist::" + layer + "::");
    EXPECT_THAT(seen.kernels, Not(IsEmpty()));
    if (layer == "linear") {
      EXPECT_THAT(seen.kernels, Each(AnyOf(own, StartsWith("grist::matvec"), StartsWith("grist::products::"),
                                           StartsWith("grist::gemm::portable"))));
    } else {
      EXPECT_THAT(seen.kernels, Each(own));
    }
    EXPECT_THAT(seen.fences, IsEmpty());
    EXPECT_THAT(seen.allocations, IsEmpty());
    EXPECT_THAT(seen.copies, IsEmpty());
  }
}

TEST(ConventionsList, CoversEveryFileOfLayers) {
  std::set<std::string> files, tried;
  for (const auto& entry : std::filesystem::directory_iterator(data_file("../../layers")))
    if (entry.path().extension() == ".cpp") files.insert(entry.path().stem());
  const Memory<float> memory;
  for (const auto& call : calls(memory)) tried.insert(call.layer);
  EXPECT_EQ(tried, files);
}

}  // namespace
