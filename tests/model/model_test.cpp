// What a caller may ask of a forward pass: which tokens see which, what goes in and comes out of the stream, what is
// refused. At every layout of the ranks that run this test.
#include "support/files.hpp"
#include "support/layouts.hpp"
#include "support/ranks.hpp"
#include "support/refuses.hpp"
#include "support/views.hpp"

#include <grist/core/errors.hpp>
#include <grist/model/model.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <format>
#include <functional>

namespace {

using namespace grist;

const std::vector<int> prompt_ids = {7, 2, 101, 55, 30, 9, 64};
constexpr Index tokens = 7;

ModelFiles tiny(const std::string& name) { return open_model(test::data_file("tiny/" + name)); }

/// test(model) at each layout of all ranks.
void at_each_layout(const ModelFiles& files, const std::function<void(Model&)>& test) {
  const auto layouts = test::layouts_for(files.spec);
  ASSERT_FALSE(layouts.empty());
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make_model(files, grid, {.limits = {.batch_tokens = 16, .logit_rows = 4}});
    test(*model);
  }
}

BatchItem whole(std::span<const int> sequence) {
  return {.ids = sequence, .prompt_length = static_cast<int>(sequence.size())};
}

/// Rows of device memory one after the other.
std::vector<float> read_back(const Exec& exec, View2<float> x) {
  exec.fence("grist::test: results for the host");
  const auto copy = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, x);
  return {copy.data(), copy.data() + copy.size()};
}

/// x after this rank's last layer, of one sequence without a cache.
std::vector<float> stream(Model& model, std::span<const int> sequence) {
  const Exec exec;
  const BatchItem item = whole(sequence);
  return read_back(exec, model.run(exec, nullptr, {.items = {&item, 1}}));
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// The rows of the embedding, scaled as the model does.
std::vector<float> embedding_rows(const ModelFiles& files) {
  const auto hidden = static_cast<std::size_t>(files.spec.hidden_size);
  const auto* table = files.weights.find(files.names.base + files.names.embedding + ".weight");
  std::vector<float> rows(prompt_ids.size() * hidden);
  for (std::size_t i = 0; i < prompt_ids.size(); ++i)
    files.weights.read(*table, {prompt_ids[i], 1, 0, files.spec.hidden_size}, rows.data() + i * hidden);
  for (float& value : rows) value *= files.spec.embedding_scale;
  return rows;
}

TEST(Model, WithoutCausalityTheFirstTokenSeesTheLast) {
  auto other = prompt_ids;
  other.back() = 65;
  for (const bool causal : {true, false}) {
    auto files = tiny("llama2");
    for (auto& layer : files.spec.layers) layer.attention.causal = causal;
    at_each_layout(files, [&](Model& model) {
      const auto a = stream(model, prompt_ids), b = stream(model, other);
      const auto row = [&](const std::vector<float>& x, Index token) {
        return std::span(x).subspan(static_cast<std::size_t>(token * model.spec().hidden_size),
                                    static_cast<std::size_t>(model.spec().hidden_size));
      };
      for (Index token = 0; token < tokens - 1; ++token)
        EXPECT_EQ(same_bits(row(a, token), row(b, token)), causal) << "causal " << causal << ", token " << token;
      EXPECT_FALSE(same_bits(row(a, tokens - 1), row(b, tokens - 1)));
    });
  }
}

/// A scale, learned positions or a norm come after what is handed in.
TEST(Model, EmbeddingsThatAreRowsOfTheTableGiveTheBitsOfTheirIds) {
  for (const auto* name : {"llama2", "gemma1", "gpt2", "bloom"}) {
    SCOPED_TRACE(name);
    const auto files = tiny(name);
    const auto rows = test::on_device<float>(embedding_rows(files));
    at_each_layout(files, [&](Model& model) {
      const Exec exec;
      const auto expected = stream(model, prompt_ids);
      const std::vector<int> ignored(prompt_ids.size(), 1);
      const BatchItem item = whole(ignored);
      const auto x = model.run(
          exec, nullptr, {.items = {&item, 1}, .embeddings = as_const(rows.view(tokens, model.spec().hidden_size))});
      EXPECT_TRUE(same_bits(read_back(exec, x), expected));
      EXPECT_FALSE(same_bits(stream(model, ignored), expected));
    });
  }
}

TEST(Model, AHiddenStateIsTheStreamAfterItsLayer) {
  const auto files = tiny("llama2");
  const Index hidden = files.spec.hidden_size;
  const int last = static_cast<int>(files.spec.layer_count()) - 1;
  ASSERT_GE(last, 1);
  at_each_layout(files, [&](Model& model) {
    const Exec exec;
    const std::vector<float> untouched(static_cast<std::size_t>(tokens * hidden), -77);
    const auto first_out = test::on_device<float>(untouched), last_out = test::on_device<float>(untouched);
    const HiddenState states[] = {{last, last_out.view(tokens, hidden)}, {0, first_out.view(tokens, hidden)}};
    const BatchItem item = whole(prompt_ids);
    const auto x = read_back(exec, model.run(exec, nullptr, {.items = {&item, 1}, .hidden = states}));
    const auto first = test::on_host(first_out), end = test::on_host(last_out);
    EXPECT_TRUE(same_bits(x, stream(model, prompt_ids)));  // asking changes nothing
    EXPECT_TRUE(same_bits(end, model.last_stage() ? x : untouched));
    EXPECT_EQ(same_bits(first, untouched), !model.first_stage());
    EXPECT_FALSE(same_bits(first, end));
  });
}

TEST(Model, EmbeddingsAndHiddenStatesOfAnotherShapeAreRefusedWithTheNumbers) {
  const auto files = tiny("llama2");
  const Index hidden = files.spec.hidden_size;
  const int layers = static_cast<int>(files.spec.layer_count());
  at_each_layout(files, [&](Model& model) {
    const Exec exec;
    const Buffer<float> memory("memory", (tokens + 1) * (hidden + 1));
    const BatchItem item = whole(prompt_ids);
    const auto embedded = [&](Index rows, Index columns) {
      return [&, rows, columns] {
        model.run(exec, nullptr, {.items = {&item, 1}, .embeddings = as_const(memory.view(rows, columns))});
      };
    };
    const auto after = [&](int layer, Index rows, Index columns) {
      return [&, layer, rows, columns] {
        const HiddenState state{layer, memory.view(rows, columns)};
        model.run(exec, nullptr, {.items = {&item, 1}, .hidden = {&state, 1}});
      };
    };
    const auto words = [&](const char* what, Index rows, Index columns) {
      return test::Refuses<ShapeError>(
          {std::format("{} [{}, {}] for {} tokens of {}", what, rows, columns, tokens, hidden)});
    };
    EXPECT_THAT(embedded(tokens - 1, hidden), words("embeddings", tokens - 1, hidden));
    EXPECT_THAT(embedded(tokens, hidden + 1), words("embeddings", tokens, hidden + 1));
    EXPECT_THAT(after(0, tokens + 1, hidden), words("a hidden state", tokens + 1, hidden));
    EXPECT_THAT(after(layers - 1, tokens, hidden - 1), words("a hidden state", tokens, hidden - 1));
    for (const int layer : {-1, layers})
      EXPECT_THAT(after(layer, tokens, hidden),
                  test::Refuses<ShapeError>({std::format("after layer {}, there are {}", layer, layers)}));
    EXPECT_NO_THROW(stream(model, prompt_ids));  // the model goes on
  });
}

TEST(Model, ScoresWantATargetOfTheVocabularyForEachToken) {
  const auto files = tiny("llama2");
  const int vocab_size = static_cast<int>(files.spec.vocab_size);
  at_each_layout(files, [&](Model& model) {
    const Exec exec;
    const auto score = [&](std::vector<int> targets) {
      return [&, targets] { return model.score(exec, nullptr, whole(prompt_ids), targets); };
    };
    std::vector<int> targets(prompt_ids.begin() + 1, prompt_ids.end());
    EXPECT_THAT(score(targets), test::Refuses<ShapeError>({"6 targets for 7 tokens"}));
    targets.push_back(vocab_size - 1);
    EXPECT_EQ(score(targets)().size(), prompt_ids.size());
    for (const int outside : {-1, vocab_size}) {
      targets.back() = outside;
      EXPECT_THAT(score(targets), test::Refuses({std::format("target {} is out of range", outside)}));
    }
    targets.back() = 0;
    targets.push_back(0);
    EXPECT_THAT(score(targets), test::Refuses<ShapeError>({"8 targets for 7 tokens"}));
  });
}

}  // namespace
