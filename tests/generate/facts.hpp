// Questions with choices, and the log-likelihoods that transformers gives of them.
#pragma once

#include "support/files.hpp"
#include "support/layouts.hpp"
#include "support/ranks.hpp"

#include <grist/generate/loglikelihood.hpp>
#include <grist/generate/perplexity.hpp>
#include <grist/model/family.hpp>
#include <grist/text/tokenizer.hpp>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

namespace grist::test {

/// The questions of evaluate/facts.jsonl and what tests/reference/evaluate.py says of them.
struct Facts {
  explicit Facts(const std::string& model)
      : expected(nlohmann::json::parse(contents_of(data_file("evaluate/" + model + ".json")))) {
    std::istringstream lines(contents_of(data_file("evaluate/facts.jsonl")));
    for (std::string line; std::getline(lines, line);) questions.push_back(nlohmann::json::parse(line));
  }
  nlohmann::json expected;
  std::vector<nlohmann::json> questions;
};

/// The last `most` questions on every layout of these ranks, in f32. `tolerance`: in nats, of a choice's sum.
inline void expect_facts(const std::string& name, const std::filesystem::path& path, double tolerance,
                         std::size_t most) {
  const Facts facts(name);
  const auto files = open_model(path);
  const auto tokenizer = text::load_tokenizer(path);
  const int kept = facts.expected.at("context");
  for (const auto& layout : layouts_for(files.spec)) {
    SCOPED_TRACE(to_string(layout));
    const Exec exec;
    const ProcessGrid grid(world(), layout);
    const auto model = make_model(files, grid, {.limits = limits_for_windows(256)});
    LogLikelihood scorer(exec, *model, 256);
    Index cut = 0;
    ASSERT_EQ(facts.questions.size(), facts.expected.at("questions").size());
    const std::size_t count = facts.questions.size();
    for (std::size_t i = count - std::min(most, count); i < count; ++i) {
      const auto& question = facts.questions[i];
      const auto& expected = facts.expected.at("questions")[i];
      const std::vector<std::string> choices = question.at("choices");
      std::vector<Continuation> continuations;
      for (const auto& choice : choices) {
        const std::string query = question.at(question.contains("query") ? "query" : "context");
        continuations.push_back(encode_continuation(*tokenizer, query, " " + choice));
        if (cut_left(continuations.back(), kept)) ++cut;
      }
      const auto sums = scorer.sums(continuations);
      ASSERT_EQ(sums.size(), choices.size());
      for (std::size_t c = 0; c < sums.size(); ++c)
        EXPECT_NEAR(sums[c], expected.at("loglikelihoods")[c].get<double>(), tolerance) << question << ", choice " << c;
      const auto [choice, by_length] = preferred(sums, choices);
      EXPECT_EQ(choice, expected.at("pred").get<int>()) << question;
      EXPECT_EQ(by_length, expected.at("pred_norm").get<int>()) << question;
    }
    EXPECT_EQ(cut, facts.expected.at("cut_choices").get<Index>());
  }
}

}  // namespace grist::test
