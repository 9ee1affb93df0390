// Attention's gradients, by every provider, against PyTorch's autograd, against finite differences of attention in
// double precision; and their promises.
#include <grist/core/errors.hpp>
#include <grist/layers/attention.hpp>

#include <support/files.hpp>
#include <support/views.hpp>

#include <nlohmann/json.hpp>

#include <numeric>

namespace {

using namespace grist;
using namespace grist::test;

using layers::attention_backward;
using layers::attention_backward_plain;

/// A packed batch with the gradient that comes back to attention.
struct Batch {
  AttentionConfig config;
  std::vector<float> alibi;
  std::vector<int> sequences;  // tokens of each
  std::vector<float> qkv, dout;

  Batch(AttentionConfig config_, std::vector<int> sequences_, std::vector<float> alibi_ = {})
      : config(config_), alibi(std::move(alibi_)), sequences(std::move(sequences_)) {
    config.scale = 1 / std::sqrt(static_cast<float>(config.head_dim));
    for (std::size_t s = 0; s < sequences.size(); ++s) {  // a sequence's numbers depend on its place and size alone
      const std::string name = std::to_string(s) + " of " + std::to_string(sequences[s]);
      const auto append = [](std::vector<float>& to, const std::vector<float>& more) {
        to.insert(to.end(), more.begin(), more.end());
      };
      append(qkv, stored<bf16>(normals("qkv " + name, sequences[s] * width())));
      append(dout, stored<bf16>(normals("dout " + name, sequences[s] * out_width())));
    }
  }
  /// What layers_backward_attention.py wrote.
  explicit Batch(const nlohmann::json& json)
      : Batch({.heads = json["heads"],
               .kv_heads = json["kv_heads"],
               .head_dim = json["head_dim"],
               .softcap = json.value("softcap", 0.0F),
               .window = json.value("window", 0),
               .causal = json.value("causal", true)},
              json["sequences"], json.value("alibi", std::vector<float>())) {
    qkv = json["qkv"].get<std::vector<float>>();
    dout = json["dout"].get<std::vector<float>>();
  }

  [[nodiscard]] Index tokens() const { return std::accumulate(sequences.begin(), sequences.end(), 0); }
  [[nodiscard]] Index out_width() const { return Index{config.heads} * config.head_dim; }
  [[nodiscard]] Index width() const { return Index{config.heads + 2 * config.kv_heads} * config.head_dim; }
  [[nodiscard]] std::vector<int> begins() const {
    std::vector<int> begin{0};
    for (const int count : sequences) begin.push_back(begin.back() + count);
    return begin;
  }

  /// dqkv after forward in storage of type X; all memory that is written held NaN.
  template <class X>
  [[nodiscard]] std::vector<float> gradient(bool plain) const {
    const auto nan = [](Index size) { return std::vector<float>(static_cast<std::size_t>(size), std::nanf("")); };
    const auto x = on_device<X>(qkv), dy = on_device<X>(dout), out = on_device<X>(nan(tokens() * out_width()));
    const auto dx = on_device<X>(nan(tokens() * width()));
    const auto slopes = on_device<float>(alibi), lse = on_device<float>(nan(tokens() * config.heads));
    const auto begin = on_device<int>(begins()), length = on_device<int>(sequences);
    AttentionConfig full = config;
    full.alibi_slopes = as_const(slopes.view());
    const AttentionLimits limits{tokens(), static_cast<int>(sequences.size()), tokens()};
    std::vector<AttentionItem> items(static_cast<std::size_t>(max_attention_items(config, limits))),
        merges(items.size());
    const auto plan =
        plan_attention(config, {tokens(), 0, 0}, begins(), sequences, items.data(), merges.data());  // no partial sums
    const Buffer<AttentionItem> device_items("items", plan.items);
    Kokkos::deep_copy(device_items.view(), HostView<const AttentionItem>(items.data(), device_items.view().extent(0)));
    const PackedSequences packed{as_const(begin.view()), as_const(length.view()), as_const(device_items.view()), {}, 0};
    const auto x_view = as_const(x.view(tokens(), width()));
    const auto forward_scratch = on_device<float>(nan(attention_scratch(config, limits)));
    (plain ? layers::attention_plain<X>
           : layers::attention<X>)(Exec(), full, x_view, layers::packed_kv(full, x_view, as_const(begin.view())),
                                   packed, forward_scratch.view(), out.view(tokens(), out_width()),
                                   lse.view(config.heads, tokens()));
    const auto scratch = on_device<float>(nan(attention_backward_scratch(config, limits)));
    (plain ? attention_backward_plain<X>
           : attention_backward<X>)(Exec(), full, x_view, as_const(out.view(tokens(), out_width())),
                                    as_const(lse.view(config.heads, tokens())),
                                    as_const(dy.view(tokens(), out_width())), as_const(begin.view()), scratch.view(),
                                    dx.view(tokens(), width()));
    return on_host(dx);
  }

  /// The sum of dout times attention's output, of one sequence, in double precision.
  [[nodiscard]] double loss(const double* x, const float* dy, int count) const {
    double sum = 0;
    for (int query = 0; query < count; ++query) {
      for (int head = 0; head < config.heads; ++head) {
        const int dim = config.head_dim, kv_head = config.heads + head / (config.heads / config.kv_heads);
        double total = 0, weighted = 0;
        for (int key = 0; key < count; ++key) {
          if (config.causal && key > query) continue;
          if (config.window > 0 && key <= query - config.window) continue;
          double score = 0, value = 0;
          for (int c = 0; c < dim; ++c) {
            score += x[query * width() + head * dim + c] * x[key * width() + kv_head * dim + c];
            value += double{dy[query * out_width() + head * dim + c]} *
                     x[key * width() + (kv_head + config.kv_heads) * dim + c];
          }
          score *= double{config.scale};
          if (config.softcap > 0) score = config.softcap * std::tanh(score / double{config.softcap});
          if (!alibi.empty()) score += double{alibi[static_cast<std::size_t>(head)]} * (key - query);
          total += std::exp(score);
          weighted += std::exp(score) * value;
        }
        sum += weighted / total;
      }
    }
    return sum;
  }

  /// Central differences of the loss: exact to about 1e-7.
  [[nodiscard]] std::vector<float> differences() const {
    std::vector<float> gradient;
    Index first = 0;
    for (const int count : sequences) {
      std::vector<double> x(qkv.begin() + first * width(), qkv.begin() + (first + count) * width());
      const float* const dy = dout.data() + first * out_width();
      for (double& value : x) {
        const double before = value, step = 1e-4;
        value = before + step;
        const double higher = loss(x.data(), dy, count);
        value = before - step;
        gradient.push_back(static_cast<float>((higher - loss(x.data(), dy, count)) / (2 * step)));
        value = before;
      }
      first += count;
    }
    return gradient;
  }
};

/// A score has (head_dim + 8) roundings of magnitudes of about 10, and its error is one of p; sums have as many
/// roundings as terms, of which there are hundreds at most: 300 roundings of the largest gradient. In bf16 the
/// results have one rounding of 2^-9, and `out`, which enters through D, has that and its weights'.
template <class X>
std::vector<Expected> near(const std::vector<float>& gradient) {
  double largest = 0;
  for (const float value : gradient) largest = std::max(largest, std::abs(double{value}));
  std::vector<Expected> expected;
  const double of_out = rounding<X> == float_rounding ? 0 : 3 * 0x1p-9;
  for (const float value : gradient)
    expected.push_back({value, rounding<X> * std::abs(value) + largest * (300 * float_rounding + of_out)});
  return expected;
}

AttentionConfig heads(int heads, int kv_heads, int head_dim) {
  return {.heads = heads, .kv_heads = kv_heads, .head_dim = head_dim};
}

template <class X>
struct AttentionBackward : testing::Test {
  static void judge(const Batch& batch, const std::vector<float>& gradient) {
    for (const bool plain : {false, true})
      EXPECT_LE(worst_error(batch.gradient<X>(plain), near<X>(gradient)), 1) << (plain ? "plain" : "the best provider");
  }
};
using Storage = testing::Types<float, bf16>;
TYPED_TEST_SUITE(AttentionBackward, Storage);

TYPED_TEST(AttentionBackward, IsPyTorchs) {
  for (const auto* name : {"one", "causal", "packed", "windowed", "capped", "alibi", "bidirectional", "all"}) {
    SCOPED_TRACE(name);
    const auto json = nlohmann::json::parse(contents_of(data_file("layers/attention_" + std::string(name) + ".json")));
    const std::vector<float> expected = json["dqkv"];
    this->judge(Batch(json), expected);
  }
}

TYPED_TEST(AttentionBackward, IsTheDifferenceQuotientForEveryShape) {
  for (const auto& [h, kv, dim] : std::vector<std::array<int, 3>>{
           {1, 1, 1}, {2, 1, 4}, {3, 3, 5}, {6, 2, 3}, {7, 1, 16}, {2, 1, 17}, {1, 1, 80}}) {
    SCOPED_TRACE(testing::Message() << h << " heads, " << kv << " KV heads of " << dim);
    const Batch batch(heads(h, kv, dim), {1, 2, 13, 3});
    this->judge(batch, batch.differences());
  }
}

TYPED_TEST(AttentionBackward, IsTheDifferenceQuotientOverSeveralTiles) {
  for (const int window : {0, 1, 2, 64, 65, 70}) {
    SCOPED_TRACE(testing::Message() << "window " << window);
    auto config = heads(2, 1, 2);
    config.window = window;
    const Batch batch(config, {65, 1, 90});
    this->judge(batch, batch.differences());
  }
}

TYPED_TEST(AttentionBackward, IsTheDifferenceQuotientOfEveryMechanism) {
  const std::vector<float> slopes{0.5F, 0.1F, 0.25F, 1};
  for (const float softcap : {0.0F, 0.5F, 20.0F}) {
    for (const bool causal : {true, false}) {
      for (const bool alibi : {true, false}) {
        SCOPED_TRACE(testing::Message() << "soft cap " << softcap << ", causal " << causal << ", slopes " << alibi);
        auto config = heads(4, 2, 4);
        config.softcap = softcap;
        config.causal = causal;
        const Batch batch(config, {17, 0, 9}, alibi ? slopes : std::vector<float>());
        this->judge(batch, batch.differences());
      }
    }
  }
}

TYPED_TEST(AttentionBackward, TheReferenceTellsEveryMechanismFromItsNeighbour) {
  auto config = heads(2, 1, 4);
  config.window = 7;
  config.softcap = 2;
  const Batch batch(config, {5, 40}, {0.5F, 0.25F});
  const auto expected = near<TypeParam>(batch.differences());
  const auto differs = [&](auto&& change) {
    auto other = batch;
    change(other);
    return worst_error(other.template gradient<TypeParam>(false), expected) > 1;
  };
  EXPECT_FALSE(differs([](auto&) {}));
  EXPECT_TRUE(differs([](auto& o) { o.config.window = 8; }));
  EXPECT_TRUE(differs([](auto& o) { o.config.softcap = 2.2F; }));
  EXPECT_TRUE(differs([](auto& o) { o.config.scale *= 1.05F; }));
  EXPECT_TRUE(differs([](auto& o) { std::swap(o.alibi[0], o.alibi[1]); }));
  EXPECT_TRUE(differs([](auto& o) { o.sequences = {6, 39}; }));
}

// Alone a sequence has fewer parts than there are threads, and its queries and keys are worked on apart.
TYPED_TEST(AttentionBackward, TheBitsOfASequenceDependNotOnTheBatchAroundIt) {
  for (const int window : {0, 90}) {
    auto config = heads(4, 2, 20);
    config.window = window;
    config.softcap = window > 0 ? 5.0F : 0.0F;
    const std::vector<int> counts{200, 3, 64, 65, 1, 128, 17, 90, 300};
    const std::vector<float> slopes{0.5F, 0.1F, 0.25F, 1};
    const Batch batch(config, counts, slopes);
    for (const bool plain : {false, true}) {
      const auto all = batch.gradient<TypeParam>(plain);
      EXPECT_EQ(all, batch.gradient<TypeParam>(plain)) << "in two runs";
      Index first = 0;
      for (const int count : counts) {
        auto single = batch;
        single.sequences = {count};
        const auto part = [&](const std::vector<float>& of, Index width) {
          return std::vector<float>(of.begin() + first * width, of.begin() + (first + count) * width);
        };
        single.qkv = part(batch.qkv, batch.width());
        single.dout = part(batch.dout, batch.out_width());
        EXPECT_EQ(single.gradient<TypeParam>(plain), part(all, batch.width())) << count << " tokens, plain " << plain;
        first += count;
      }
    }
  }
}

TYPED_TEST(AttentionBackward, ABrokenTokenBreaksNoOtherSequenceAndNoTokenThatItDoesNotMeet) {
  const Batch sound(heads(2, 1, 4), {70, 70});
  auto broken = sound;
  broken.qkv[static_cast<std::size_t>(69 * broken.width())] = std::nanf("");  // q of the last token of the first
  for (const bool plain : {false, true}) {
    const auto before = sound.gradient<TypeParam>(plain), after = broken.gradient<TypeParam>(plain);
    for (std::size_t i = 0; i < before.size(); ++i) {
      const auto token = static_cast<Index>(i) / broken.width(), column = static_cast<Index>(i) % broken.width();
      const bool met = token == 69 || (token < 70 && column >= broken.out_width());
      if (!met) {
        EXPECT_EQ(before[i], after[i]) << "token " << token;
      }
    }
    EXPECT_TRUE(std::isnan(after[static_cast<std::size_t>(69 * broken.width())])) << "a NaN is hidden";
  }
}

TYPED_TEST(AttentionBackward, OfNoTokensIsNothing) {
  for (const bool plain : {false, true}) EXPECT_TRUE(Batch(heads(2, 1, 4), {}).gradient<TypeParam>(plain).empty());
}

TEST(AttentionBackwardShapes, ThatDisagreeAreNamed) {
  const Buffer<float> memory("memory", 10000);
  const Buffer<int> begin("begin", 2);
  const auto message = [&](const AttentionConfig& config, Index width, Index floats) -> std::string {
    const auto m = [&](Index rows, Index columns) { return View2<float>(memory.data(), rows, columns); };
    try {
      attention_backward(Exec(), config, as_const(m(3, width)), as_const(m(3, 8)), as_const(m(2, 3)), as_const(m(3, 8)),
                         as_const(begin.view()), View1<float>(memory.data(), floats), m(3, 16));
      return "no error";
    } catch (const ShapeError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(
      message(heads(2, 1, 4), 15, 10000),
      "attention_backward: qkv [3, 15], out [3, 8], lse [2, 3], dout [3, 8], query_begin [2], dqkv [3, 16] do not "
      "go with 2 heads and 1 KV heads of 4");
  EXPECT_NE(message(heads(2, 3, 4), 16, 10000).find("2 heads and 3 KV heads of 4"), std::string::npos);
  EXPECT_EQ(message(heads(2, 1, 4), 16, 5), "attention_backward: scratch has 5 floats, expected " +
                                                std::to_string(attention_backward_scratch(heads(2, 1, 4), {3, 1, 3})) +
                                                " or more");
  auto windowed = heads(2, 1, 4);
  windowed.window = 3;
  windowed.causal = false;
  EXPECT_EQ(message(windowed, 16, 10000),
            "attention: a window of 3 keys, expected 0 (all), or 1 or more where attention is causal");
}

}  // namespace
