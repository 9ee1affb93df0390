// Tiny models in training: the batches of tests/reference/training.py, and runs over the ranks of a test.
#pragma once

#include "stored_model.hpp"

#include <grist/train/trainer.hpp>

#include <nlohmann/json.hpp>

#include <format>
#include <string>
#include <vector>

namespace grist::test {

/// The data and learning rate of a run, as in tests/data/train/losses.json.
struct TrainingCase {
  Index steps = 3, batch = 8, sequence = 16;
  double peak = 3e-3, least = 3e-4;
  Index warmup = 2, masked = 3;
  bool documents = false;  // every third sample is two of them

  [[nodiscard]] train::LearningRate learning_rate() const {
    return {.schedule = train::LearningRate::Schedule::cosine, .peak = peak, .least = least, .warmup = warmup,
            .steps = steps};
  }
  /// Samples first ... first + count - 1 as one micro-batch.
  [[nodiscard]] train::MicroBatch samples(Index first, Index count, Index vocab_size) const {
    static const std::string text = contents_of(data_file("text/sample.txt"));
    train::MicroBatch made;
    const auto token = [&](Index i) {
      return static_cast<int>(static_cast<unsigned char>(text[static_cast<std::size_t>(i) % text.size()]) % vocab_size);
    };
    for (Index k = first; k < first + count; ++k) {
      made.begins.push_back(static_cast<int>(made.ids.size()));
      if (documents && k % 3 == 1) made.begins.push_back(static_cast<int>(std::ssize(made.ids) + sequence / 3));
      for (Index i = k * sequence; i < (k + 1) * sequence; ++i) {
        made.ids.push_back(token(i));
        made.targets.push_back(masked != 0 && i * (i + 1) / 2 % masked == 0 ? -1 : token(i + 1));
      }
    }
    return made;
  }
};

/// A trainer and the grid that it runs on.
struct TrainedModel {
  TrainedModel(const ModelFiles& files_, CommHandle comm, const Layout& layout, const TrainingCase& data_,
               train::TrainerOptions options)
      : files(files_), data(data_), grid(comm, layout) {
    options.learning_rate = data.learning_rate();
    options.sequence = data.sequence;
    options.micro_batches = static_cast<int>(data.batch / layout.dp / options.micro_batch);
    options.documents = 2;
    micro = options.micro_batch;
    trainer.emplace(exec, files, grid, options, "auto", 0);
  }

  /// This rank's micro-batches of a step, which counts from 1.
  [[nodiscard]] train::MicroBatches batches(Index step) const {
    const Index share = data.batch / grid.layout().dp, first = (step - 1) * data.batch + share * grid.dp().rank();
    return [this, first](int i) { return data.samples(first + i * micro, micro, files.spec.vocab_size); };
  }
  train::StepResult step(Index number) { return trainer->step(exec, number, batches(number)); }
  std::vector<train::StepResult> steps(Index first, Index last) {
    std::vector<train::StepResult> results;
    for (Index number = first; number <= last; ++number) results.push_back(step(number));
    return results;
  }
  std::vector<train::StepResult> all_steps() { return steps(1, data.steps); }
  [[nodiscard]] std::vector<float> weights() const { return values_of(trainer->groups().front().values); }
  [[nodiscard]] double evaluate(Index number) {
    return trainer->evaluate(exec, static_cast<int>(data.batch / grid.layout().dp / micro), batches(number))
        .value();
  }

  const ModelFiles& files;
  const TrainingCase data;
  ProcessGrid grid;
  Exec exec;
  Index micro = 1;
  std::optional<train::Trainer> trainer;
};

/// One way to run the same steps.
struct Way {
  Layout layout;
  train::TrainerOptions options;
  [[nodiscard]] std::string name() const {
    const char* kinds[] = {"gpipe", "1f1b", "interleaved"};
    const char* recomputed[] = {"none", "selective", "block"};
    return std::format("{}, {}, zero {}, recompute {}, sequence parallel {}, micro-batch {}", to_string(layout),
                       kinds[static_cast<int>(options.pipeline)], options.zero,
                       recomputed[static_cast<int>(options.recompute)], options.sequence_parallel, options.micro_batch);
  }
};

/// Losses and gradient norms within a relative error; every step counted as many tokens.
inline void expect_same_steps(const std::vector<train::StepResult>& actual,
                              const std::vector<train::StepResult>& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i].loss, expected[i].loss, tolerance * expected[i].loss) << "step " << i + 1;
    EXPECT_NEAR(actual[i].gradient_norm, expected[i].gradient_norm, 10 * tolerance * expected[i].gradient_norm)
        << "step " << i + 1;
    EXPECT_EQ(actual[i].tokens, expected[i].tokens);
    EXPECT_FALSE(actual[i].skipped);
  }
}

}  // namespace grist::test
