// Conversations for training: which tokens are the assistant's.
#include <grist/core/errors.hpp>
#include <grist/text/conversation.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

namespace grist::text {
namespace {

using test::data_file;
using test::Refuses;

/// The trained text of every run of trained tokens, and whether the others and these together are the rendered text.
std::vector<std::string> answers(const Tokenizer& tokenizer, const std::vector<Message>& messages) {
  const auto [ids, trained] = encode_conversation(tokenizer, messages);
  const auto whole = apply_chat_template(tokenizer.chat_template, messages, false, tokenizer.special_tokens);
  EXPECT_EQ(ids, tokenizer.encode(whole, false));
  EXPECT_EQ(trained.size(), ids.size());
  std::vector<std::string> found;
  std::vector<int> run;
  for (std::size_t t = 0; t <= ids.size(); ++t) {
    if (t < ids.size() && trained[t] != 0) {
      run.push_back(ids[t]);
    } else if (!run.empty()) {
      found.push_back(tokenizer.decode(run, false));
      run.clear();
    }
  }
  return found;
}

const std::vector<Message> talk = {
    {"user", "one"}, {"assistant", "The first."}, {"user", "two"}, {"assistant", "A second answer"}};

std::unique_ptr<Tokenizer> tokenizer_with(const std::string& model, const std::string& chat_template) {
  auto tokenizer = load_tokenizer(data_file(model));
  tokenizer->chat_template = test::contents_of(data_file("chat/" + chat_template));
  return tokenizer;
}

TEST(Conversation, TrainsTheAnswersWithTheirEndOfTurn) {
  const auto llama2 = tokenizer_with("tokenizers/llama2", "llama2.jinja");
  EXPECT_EQ(answers(*llama2, talk), (std::vector<std::string>{"The first. </s>", "A second answer </s>"}));
  for (const char* const chatml : {"qwen2.jinja", "smollm2.jinja"}) {
    const auto qwen2 = tokenizer_with("tokenizers/qwen2", chatml);
    EXPECT_EQ(answers(*qwen2, talk),
              (std::vector<std::string>{"The first.<|im_end|>\n", "A second answer<|im_end|>\n"}));
  }
  const auto llama3 = tokenizer_with("tokenizers/llama3", "llama3.jinja");
  EXPECT_EQ(answers(*llama3, talk), (std::vector<std::string>{"The first.<|eot_id|>", "A second answer<|eot_id|>"}));
}

TEST(Conversation, OfOneAnswerTrainsNothingBeforeIt) {
  const auto tokenizer = tokenizer_with("tokenizers/qwen2", "qwen2.jinja");
  EXPECT_EQ(answers(*tokenizer, {{"system", "S"}, {"user", "assistant"}, {"assistant", "user"}}),
            (std::vector<std::string>{"user<|im_end|>\n"}));
}

// The line feed of the prompt and that of the answer are one token.
TEST(Conversation, CountsATokenAcrossTheBorderAsTheAnswers) {
  const auto tokenizer = tokenizer_with("tokenizers/qwen2", "qwen2.jinja");
  const auto prompt = tokenizer->encode("assistant\n", false), joined = tokenizer->encode("assistant\n\nhello", false);
  ASSERT_NE(std::vector(joined.begin(), joined.begin() + static_cast<std::ptrdiff_t>(prompt.size())), prompt);
  EXPECT_EQ(answers(*tokenizer, {{"user", "one"}, {"assistant", "\nhello"}}),
            (std::vector<std::string>{"\n\nhello<|im_end|>\n"}));
}

TEST(Conversation, IsRefusedWhereTheTemplateRewritesWhatWasSaid) {
  const auto tokenizer = load_tokenizer(data_file("tokenizers/qwen2"));
  const auto with = [&](const std::string& source) {
    tokenizer->chat_template = source;
    return [&] { encode_conversation(*tokenizer, talk); };
  };
  // As templates do that leave out the thoughts of earlier answers.
  EXPECT_THAT(
      with("{% for m in messages %}<{{ m.content if loop.last or m.role == 'user' else m.content[0] }}>{% endfor %}"
           "{% if add_generation_prompt %}<{% endif %}"),
      Refuses({"messages[1]", "writes it otherwise where messages follow"}));
  EXPECT_THAT(with("{% for m in messages %}<{{ m.content }}>{% endfor %}{% if add_generation_prompt %}?{% endif %}"),
              Refuses({"messages[1]", "does not begin the answered conversation with its prompt"}));
  EXPECT_THAT(with(""), Refuses({"no chat template"}));
}

TEST(Conversation, WithoutAnAnswerIsRefused) {
  const auto tokenizer = tokenizer_with("tokenizers/qwen2", "qwen2.jinja");
  EXPECT_THAT([&] { encode_conversation(*tokenizer, {{"user", "one"}}); }, Refuses({"nothing to train on"}));
}

TEST(Fingerprint, IsThatOfTheVocabularyInEveryForm) {
  EXPECT_EQ(fingerprint(*load_tokenizer(data_file("tiny/llama2"))),
            fingerprint(*load_tokenizer(data_file("gguf/llama2.gguf"))));
  std::vector<std::uint64_t> seen;
  for (const char* const name : {"tiny/llama2", "tokenizers/gpt2", "tokenizers/qwen2", "tokenizers/llama3"})
    seen.push_back(fingerprint(*load_tokenizer(data_file(name))));
  for (std::size_t a = 0; a < seen.size(); ++a)
    for (std::size_t b = 0; b < a; ++b) EXPECT_NE(seen[a], seen[b]) << a << ' ' << b;
}

}  // namespace
}  // namespace grist::text
