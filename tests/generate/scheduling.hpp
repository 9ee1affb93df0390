// The fixture of the scheduler's tests: a model whose logits show any fault of its KV cache, and requests to it.
#pragma once

#include "generate/fake_model.hpp"
#include "support/ranks.hpp"

#include <grist/generate/scheduler.hpp>

#include <gtest/gtest.h>

namespace grist::test {

constexpr int context = 2000;

/// Every token is a letter or a word; the last three are special.
class FakeTokenizer : public text::Tokenizer {
public:
  FakeTokenizer() {
    eos = {60};
    for (const int id : {58, 59, 60}) special_texts_.push_back("<|" + std::to_string(id) + "|>");
  }
  [[nodiscard]] std::vector<int> encode(std::string_view, bool, text::WrittenSpecial) const override { return {}; }
  [[nodiscard]] std::string decode(std::span<const int> ids, bool skip_special) const override {
    std::string text;
    for (const int id : ids) {
      if (!is_special(id)) text += id < 26 ? std::string(1, static_cast<char>('a' + id)) : " w" + std::to_string(id);
      else if (!skip_special) text += special_text(id);
    }
    return text;
  }
  [[nodiscard]] std::string decode_next(text::DecodeState&, int id, bool skip_special) const override {
    return decode({&id, 1}, skip_special);
  }
  [[nodiscard]] std::string decode_end(text::DecodeState&) const override { return {}; }
  [[nodiscard]] int vocab_size() const override { return fake_vocabulary; }
  [[nodiscard]] bool is_special(int id) const override { return id >= 58; }
  [[nodiscard]] std::string_view special_text(int id) const override {
    return is_special(id) ? special_texts_[static_cast<std::size_t>(id - 58)] : std::string_view();
  }

private:
  std::vector<std::string> special_texts_;
};

inline std::vector<int> prompt_of(int length, int kind = 0) {
  std::vector<int> ids;
  for (int i = 0; i < length; ++i) ids.push_back((i * i + 3 * i * (kind + 1) + kind) % 58);
  return ids;
}

inline Request greedy(int length, int new_tokens = 8, int kind = 0) {
  return {.prompt = prompt_of(length, kind), .max_new_tokens = new_tokens, .ignore_eos = true};
}

/// Steps until nothing is left; the events that came.
inline std::vector<TokenEvent> finish(Scheduler& scheduler) {
  std::vector<TokenEvent> events;
  while (!scheduler.idle())
    for (auto& event : scheduler.step()) events.push_back(std::move(event));
  return events;
}

class Scheduling : public testing::Test {
protected:
  /// As much tensor parallelism as there can be, on two stages where the ranks are even.
  static Layout layout() {
    return ranks() % 2 == 0 ? Layout{.pp = 2, .tp = ranks() / 2} : Layout{.tp = ranks()};
  }
  static ModelLimits limits(int sequences) {
    return {.batch_tokens = 512 + sequences - 1,
            .batch_sequences = sequences,
            .logit_rows = sequences,
            .context = context,
            .kv_tokens = 8 * context};
  }
  [[nodiscard]] Scheduler scheduler(Index kv_tokens = 8 * context) { return {exec, model, {.kv_tokens = kv_tokens}}; }
  Completion alone(Request request) {
    auto one = scheduler();
    const int number = one.submit(std::move(request));
    finish(one);
    return one.take(number);
  }
  [[nodiscard]] std::vector<int> expected(const Request& request) const {
    return model.continuation(request.prompt, request.max_new_tokens);
  }
  static std::vector<Request> many() {
    std::vector<Request> requests;
    for (const int length : {1, 4, 5, 63, 64, 65, 511, 512, 513, 516, 1025, 1300})
      requests.push_back(greedy(length, 3 + length % 9, length % 5));
    return requests;
  }

  Exec exec;
  ProcessGrid grid{world(), layout()};
  FakeModel model{grid, limits(4)};
};

}  // namespace grist::test
