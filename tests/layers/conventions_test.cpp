// The rules that every layer keeps, seen through Kokkos Tools: its kernels bear its name, and it asks for no fence, no
// allocation and no copy. Calls are warm: the first one sizes the scratch of Kokkos itself.
#include <grist/layers/attention.hpp>
#include <grist/layers/cross_entropy.hpp>
#include <grist/layers/embedding.hpp>
#include <grist/layers/linear.hpp>
#include <grist/layers/residual.hpp>
#include <grist/layers/rms_norm.hpp>
#include <grist/layers/rope.hpp>
#include <grist/layers/softmax.hpp>
#include <grist/layers/swiglu.hpp>

#include <support/files.hpp>
#include <support/tools_recorder.hpp>
#include <support/views.hpp>

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

/// Memory for one call of every layer.
template <class T>
struct Memory {
  Buffer<float> x = on_device<float>(normals("x", tokens * hidden));
  Buffer<float> y = on_device<float>(normals("y", tokens * hidden));
  Buffer<T> a = on_device<T>(normals("a", tokens * 2 * hidden)), b = on_device<T>(normals("b", tokens * hidden));
  Buffer<T> w = on_device<T>(normals("w", hidden * hidden));
  Buffer<float> vector = on_device<float>(normals("vector", hidden)), more = on_device<float>(normals("more", hidden));
  Buffer<int> ids = on_device<int>(std::vector<int>{0, 1, 2, 3, 4, 5});
  Buffer<int> begin = on_device<int>(std::vector<int>{0, 6}), length = on_device<int>(std::vector<int>{6});
  Buffer<int> zero = on_device<int>(std::vector<int>{0});
  Buffer<Index> first_row = on_device<Index>(std::vector<Index>{0});
  std::unique_ptr<Gemm> portable = make_gemm("portable");
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
  const layers::AttentionConfig config{.heads = 4, .kv_heads = 2, .head_dim = 8};
  const View3<const T> cache(m.w.data(), 2, tokens, 8);
  const layers::PackedSequences sequences{as_const(m.begin.view()), as_const(m.first_row.view()),
                                          as_const(m.length.view()), as_const(m.zero.view()), as_const(m.zero.view())};
  return {
      {"rms_norm", [=, &m](const Exec& e) { layers::rms_norm(e, x, as_const(m.vector.view()), 1e-5F, b); }},
      {"embedding", [=, &m](const Exec& e) { layers::embedding(e, ids, w, 0, m.y.view(tokens, hidden)); }},
      {"linear", [=, &m](const Exec& e) { layers::linear(e, *m.portable, a, w, bias, tokens, b); }},
      {"linear", [=, &m](const Exec& e) { layers::linear(e, *m.portable, a, w, bias, 2, b); }},
      {"rope", [=, &m](const Exec& e) {
         layers::rope_turns(e, ids, as_const(View1<float>(m.vector.data(), 4)), m.y.view(tokens, 8));
         layers::rope(e, as_const(m.y.view(tokens, 8)), 4, b);
       }},
      {"swiglu", [=, &m](const Exec& e) { layers::swiglu(e, as_const(m.a.view(tokens, 2 * hidden)), b); }},
      {"residual", [=, &m](const Exec& e) { layers::residual(e, x, m.y.view(tokens, hidden)); }},
      {"softmax", [=, &m](const Exec& e) { layers::softmax(e, 1, m.y.view(tokens, hidden)); }},
      {"cross_entropy", [=, &m](const Exec& e) {
         const auto highest = View1<float>(m.more.data(), tokens);
         layers::cross_entropy_highest(e, x, highest);
         layers::cross_entropy_sums(e, x, ids, 0, as_const(highest), View1<float>(m.more.data() + tokens, tokens),
                                    View1<float>(m.more.data() + 2 * tokens, tokens));
       }},
      {"attention", [=](const Exec& e) { layers::attention(e, config, a, cache, cache, sequences, b); }},
      {"attention", [=](const Exec& e) { layers::attention_plain(e, config, a, cache, cache, sequences, b); }},
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
      EXPECT_THAT(seen.kernels, Each(AnyOf(own, StartsWith("grist::gemv"), StartsWith("grist::gemm::portable"))));
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
