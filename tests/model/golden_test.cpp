// Logits of random tiny models against transformers, at every layout of the ranks that run this test.
#include "support/compare.hpp"
#include "support/golden.hpp"
#include "support/layouts.hpp"
#include "support/providers.hpp"
#include "support/ranks.hpp"
#include "support/sequences.hpp"
#include "support/specs.hpp"

#include <grist/core/errors.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace {

using namespace grist;
using test::columns_of;
using test::GoldenCase;
using test::in_bf16;
using test::in_f32;
using test::row_of;

constexpr Index sequence_tokens = 128;  // more than a case ever takes

struct Which {
  std::string model;
  ModelNumbers numbers;
};

class Golden : public testing::TestWithParam<Which> {
protected:
  void SetUp() override {
    files = open_model(test::data_file("tiny/" + GetParam().model));
    cases = test::read_golden(GetParam().model);
    vocabulary = static_cast<std::size_t>(files.spec.vocab_size);
    layouts = test::layouts_for(files.spec);
    ASSERT_FALSE(layouts.empty());
  }

  [[nodiscard]] std::unique_ptr<Model> make(const ProcessGrid& grid, bool replay = false,
                                            const std::string& products = "auto") const {
    const int count = static_cast<int>(cases.size());
    return make_model(files, grid,
                      {.numbers = GetParam().numbers,
                       .products = products,
                       .limits = {.batch_tokens = 256,
                                  .batch_sequences = count,
                                  .logit_rows = count,
                                  .kv_tokens = sequence_tokens * count},
                       .replay = replay});
  }

  /// In bf16 at least twice what torch's own bfloat16 strays with this model.
  [[nodiscard]] double tolerance() const {
    double most = test::logit_tolerance(GetParam().numbers.type);
    for (const auto& c : cases) most = GetParam().numbers.type == DType::f32 ? most : std::max(most, 2 * c.bf16_error);
    return most;
  }

  /// This rank's columns of logits against golden rows. Ranks without logits have nothing to compare.
  void check(const Model& model, std::span<const float> actual, std::span<const float> golden) {
    if (actual.empty()) return;
    const auto expected = columns_of(golden, vocabulary, model.vocabulary());
    const auto [least, most] = std::ranges::minmax(golden);
    const auto comparison = test::compare(actual, expected);
    EXPECT_LE(comparison.worst, tolerance() * (most - least)) << comparison.text;
    worst = std::max(worst, comparison.worst / (most - least));
    compared = true;
  }

  /// A model that says bf16 and computed in f32 would be as near as rounding weights and activations never is.
  void TearDown() override {
    if (compared && GetParam().numbers.type == DType::bf16) {
      EXPECT_GT(worst, 5e-4) << "this was not computed in bf16";
    }
  }

  ModelFiles files;
  std::vector<GoldenCase> cases;
  std::vector<Layout> layouts;
  std::size_t vocabulary = 0;
  double worst = 0;
  bool compared = false;
  Exec exec;
};

TEST_P(Golden, PrefillGivesTheLogitsOfEveryPosition) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make(grid);
    test::Sequences sequences(*model, sequence_tokens, static_cast<int>(cases.size()));
    for (std::size_t s = 0; s < cases.size(); ++s)
      check(*model, sequences.all_logits(exec, sequences.next(s, cases[s].ids, false, std::ssize(cases[s].ids))),
            cases[s].logits);
  }
}

TEST_P(Golden, PrefillWithoutACacheGivesThemToo) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make(grid);
    for (const auto& c : cases) {
      const BatchItem item{.ids = c.ids, .prompt_length = static_cast<int>(c.ids.size())};
      model->run(exec, nullptr, {.items = {&item, 1}});
      const auto logits = model->logits(exec);
      exec.fence("grist::test: logits");
      const auto copy = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, logits);
      check(*model, std::span<const float>(copy.data(), copy.size()), row_of(c.logits, c.ids.size() - 1, vocabulary));
    }
  }
}

TEST_P(Golden, TokenByTokenGivesThemToo) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make(grid, true);
    test::Sequences sequences(*model, sequence_tokens, static_cast<int>(cases.size()));
    for (std::size_t s = 0; s < cases.size(); ++s) {
      const auto& c = cases[s];
      std::vector<int> ids = c.ids;
      ids.insert(ids.end(), c.greedy_ids.begin(), c.greedy_ids.end());
      for (std::size_t t = 0; t < ids.size(); ++t) {
        const auto one = sequences.next(s, std::span(ids).subspan(t, 1), true, std::ssize(c.ids));
        const auto logits = sequences.logits(exec, {&one, 1});
        check(
            *model, logits,
            t < c.ids.size() ? row_of(c.logits, t, vocabulary) : row_of(c.greedy_logits, t - c.ids.size(), vocabulary));
      }
    }
  }
}

TEST_P(Golden, AMixedBatchGivesEachSequenceItsOwn) {
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make(grid);
    test::Sequences sequences(*model, sequence_tokens, static_cast<int>(cases.size()));
    // All but the last are prefilled together; then they decode while the last one's prompt comes in.
    const std::size_t last = cases.size() - 1;
    const auto few_first = [](std::vector<BatchItem> items) {
      std::ranges::stable_partition(items, [](const BatchItem& item) { return item.few; });
      return items;
    };
    const auto logits_after = [&](const std::vector<BatchItem>& items, const auto& expected_of) {
      const auto logits = sequences.logits(exec, items);
      const auto columns = static_cast<std::size_t>(model->vocabulary().size());
      for (std::size_t i = 0; i < items.size() && !logits.empty(); ++i)
        check(*model, row_of(logits, i, columns), expected_of(items[i]));
    };
    std::vector<BatchItem> items;
    const auto prompt = [&](std::size_t s) {
      return sequences.next(s, cases[s].ids, cases[s].ids.size() <= 4, std::ssize(cases[s].ids));
    };
    for (std::size_t s = 0; s < last; ++s) items.push_back(prompt(s));
    logits_after(few_first(items), [&](const BatchItem& item) {
      const auto& c =
          *std::ranges::find_if(cases, [&](const GoldenCase& g) { return g.ids.data() == item.ids.data(); });
      return row_of(c.logits, c.ids.size() - 1, vocabulary);
    });
    items.clear();
    for (std::size_t s = 0; s < last; ++s)
      items.push_back(sequences.next(s, std::span(cases[s].greedy_ids).first(1), true, std::ssize(cases[s].ids)));
    items.push_back(prompt(last));
    logits_after(few_first(items), [&](const BatchItem& item) {
      for (const auto& c : cases) {
        if (c.ids.data() == item.ids.data()) return row_of(c.logits, c.ids.size() - 1, vocabulary);
        if (c.greedy_ids.data() == item.ids.data()) return row_of(c.greedy_logits, 0, vocabulary);
      }
      throw std::runtime_error("an item of no case");
    });
  }
}

/// Each key stays as its token turned it; a new token turns by the table for the length that it brings.
TEST_P(Golden, DecodingAcrossTheLimitOfARopeTableGivesThemToo) {
  const auto late = test::read_golden(GetParam().model, "cached_cases");
  if (late.empty()) return;  // only tables that depend on the length have such cases
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make(grid);
    for (const auto& c : late) {
      test::Sequences sequences(*model, sequence_tokens, 1);
      check(*model, sequences.all_logits(exec, sequences.next(0, c.ids, false, std::ssize(c.ids))), c.logits);
      for (std::size_t t = 0; t < c.greedy_ids.size(); ++t) {
        const auto one = sequences.next(0, std::span(c.greedy_ids).subspan(t, 1), true, std::ssize(c.ids));
        check(*model, sequences.logits(exec, {&one, 1}), row_of(c.greedy_logits, t, vocabulary));
      }
    }
  }
}

/// In bf16 sums over ranks are rounded otherwise.
class GoldenBits : public Golden {};

TEST_P(GoldenBits, InF32EveryLayoutGivesTheBitsOfOneRank) {
  const ProcessGrid alone(comm_self(), {});
  const auto reference = make(alone, false, test::invariant_gemm());
  const auto logits_of = [&](Model& model) {
    test::Sequences sequences(model, sequence_tokens, static_cast<int>(cases.size()));
    std::vector<std::vector<float>> all;
    for (std::size_t s = 0; s < cases.size(); ++s) {
      const auto length = static_cast<int>(cases[s].ids.size());
      const auto prompt = sequences.next(s, cases[s].ids, false, length);
      all.push_back(sequences.logits(exec, {&prompt, 1}));
      const auto next = sequences.next(s, std::span(cases[s].greedy_ids).first(1), true, length);
      all.push_back(sequences.logits(exec, {&next, 1}));
    }
    return all;
  };
  const auto expected = logits_of(*reference);
  for (const auto& layout : layouts) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make(grid, false, test::invariant_gemm());
    const auto actual = logits_of(*model);
    for (std::size_t i = 0; i < actual.size() && model->last_stage(); ++i) {
      const auto mine = columns_of(expected[i], vocabulary, model->vocabulary());
      ASSERT_EQ(actual[i].size(), mine.size());
      EXPECT_EQ(std::memcmp(actual[i].data(), mine.data(), mine.size() * sizeof(float)), 0) << "pass " << i;
    }
  }
}

/// Every model under tests/data/tiny that has a layout for the ranks of this test.
std::vector<Which> all(const std::vector<ModelNumbers>& numbers) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_file("tiny")))
    if (std::filesystem::exists(entry.path() / "golden.json") &&
        !test::layouts_for(read_spec(entry.path()).spec).empty())
      names.push_back(entry.path().filename());
  std::ranges::sort(names);
  std::vector<Which> which;
  for (const auto& model : names)
    for (const auto& each : numbers) which.push_back({model, each});
  return which;
}
std::string name_of_test(const testing::TestParamInfo<Which>& which) {
  const auto& [type, kv_type, weights] = which.param.numbers;
  const std::string name = which.param.model + "_" + std::string(name_of(type));
  return kv_type == kv_type_of(type) ? name : name + "_cache_in_" + std::string(name_of(kv_type));
}
INSTANTIATE_TEST_SUITE_P(Tiny, Golden, testing::ValuesIn(all({in_f32, in_bf16})), name_of_test);
INSTANTIATE_TEST_SUITE_P(Tiny, GoldenBits, testing::ValuesIn(all({in_f32, {.kv_type = KvType::int8}})), name_of_test);

// The same weights in a GGUF file, in mixed storage types that hold them exactly.
class GoldenGguf : public testing::TestWithParam<std::string> {};

TEST_P(GoldenGguf, GivesTheLogitsOfItsHuggingFaceTwin) {
  const auto files = open_model(test::data_file("gguf/" + GetParam() + ".gguf"));
  const auto cases = test::read_golden(GetParam());
  const Exec exec;
  for (const auto& layout : test::layouts_for(files.spec)) {
    SCOPED_TRACE(to_string(layout));
    const ProcessGrid grid(test::world(), layout);
    const auto model = make_model(files, grid, {.limits = {.batch_tokens = 256, .kv_tokens = sequence_tokens}});
    test::Sequences sequences(*model, sequence_tokens, 1);
    for (const auto& c : cases) {
      const auto logits = sequences.all_logits(exec, sequences.next(0, c.ids, false, std::ssize(c.ids)));
      if (!logits.empty())
        EXPECT_CLOSE(logits, columns_of(c.logits, static_cast<std::size_t>(files.spec.vocab_size), model->vocabulary()),
                     test::logit_tolerance(DType::f32));
      sequences.release(0);
    }
  }
}

/// Every file under tests/data/gguf whose twin is under tests/data/tiny, and that has a layout for so many ranks.
std::vector<std::string> twins() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(test::data_file("gguf"))) {
    const std::string name = entry.path().stem();
    if (entry.path().extension() == ".gguf" && std::filesystem::exists(test::data_file("tiny/" + name)) &&
        !test::layouts_for(read_spec(entry.path()).spec).empty())
      names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Tiny, GoldenGguf, testing::ValuesIn(twins()),
                         [](const testing::TestParamInfo<std::string>& twin) { return twin.param; });

}  // namespace
