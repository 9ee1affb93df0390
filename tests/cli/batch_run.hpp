// Runs of batch inference, and what is read of their answers.
#pragma once

#include "training_run.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <random>

namespace grist::test {

using nlohmann::json;

class Batch : public TrainingRun {
protected:
  /// Prompts of very different lengths; a third of them draws its tokens, a fourth begins alike.
  std::string prompts(int count, const std::string& name = "prompts.jsonl") const {
    std::mt19937 draw(7);
    std::string lines;
    for (int i = 0; i < count; ++i) {
      json line{{"id", "prompt " + std::to_string(i)}, {"max_new_tokens", 1 + draw() % 24}};
      std::vector<int> ids;
      for (int at = 0; i % 4 == 1 && at < 70; ++at) ids.push_back(3 + at * at % 90);
      for (unsigned left = 1 + (i % 7 == 0 ? draw() % 90 : draw() % 9); left > 0; --left)
        ids.push_back(static_cast<int>(3 + draw() % 90));
      line["prompt_ids"] = ids;
      if (i % 3 == 0) line.update({{"temperature", 0.8}, {"top_k", 20}, {"seed", i}});
      lines += line.dump() + "\n";
    }
    return folder.write(name, lines);
  }
  [[nodiscard]] Words batch(const std::string& prompts, const std::string& answers, const Words& more = {}) const {
    Words all{"generate", "--model", model, "--dtype", "f32", "--prompts", prompts, "--output", answers};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static Outcome run(const Words& given, int ranks = 1) { return grist::test::grist(given, ranks); }
  /// The answers by id; each once.
  static std::map<std::string, json> read(const std::string& answers) {
    std::map<std::string, json> found;
    std::ifstream lines(answers);
    for (std::string line; std::getline(lines, line);) {
      const auto answer = json::parse(line);
      EXPECT_TRUE(found.emplace(answer.at("id").dump(), answer).second) << "twice: " << line;
    }
    return found;
  }
  static std::size_t whole_lines(const std::string& answers) {
    const auto text = contents_of(answers);
    return static_cast<std::size_t>(std::ranges::count(text, '\n'));
  }
  /// Those of each prompt alone.
  std::map<std::string, json> alone(const std::string& prompts) const {
    const std::string answers = folder / "alone.jsonl";
    EXPECT_EQ(quiet(batch(prompts, answers, {"--max-sequences", "1"})), "");
    return read(answers);
  }
};

}  // namespace grist::test
