// Tokenizers of Hugging Face folders, written into a GGUF file and read from it, against the ids of the tokenizers
// library.
#include <grist/core/errors.hpp>
#include <grist/io/gguf.hpp>
#include <grist/text/gguf_tokenizer_writer.hpp>
#include <grist/text/tokenizer.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>

namespace grist::text {
namespace {

using nlohmann::json;
using test::contents_of;
using test::data_file;
using test::Refuses;
using test::TemporaryFolder;

/// Room for tokens beyond the vocabulary, as models have it.
Index rows_for(const std::filesystem::path& folder) { return load_tokenizer(folder)->vocab_size() + 5; }

std::vector<std::string> write(const std::filesystem::path& folder, const std::filesystem::path& file, Index rows,
                               const std::vector<int>& eos = {}) {
  io::GgufWriter writer(file);
  auto notes = set_gguf_tokenizer(writer, folder, rows, eos);
  writer.close();
  return notes;
}

/// Tokens with rules of their place, and a space in front, which a tokenizer.json may treat otherwise.
bool cannot_be_said(const std::string& text) {
  for (const char* const token : {"<left>", "<right>", "<word>", "<pad>"})
    if (text.find(token) != std::string::npos) return true;
  return text.starts_with(' ') || text.starts_with("\u2581");
}

class Written : public testing::TestWithParam<std::string> {};

TEST_P(Written, GivesTheIdsOfTheTokenizersLibrary) {
  const TemporaryFolder folder;
  const auto from = data_file("tokenizers/" + GetParam()), file = folder / "x.gguf";
  const auto notes = write(from, file, rows_for(from));
  EXPECT_THAT(notes, testing::Contains(testing::HasSubstr("3 added tokens")));
  const bool at_start_alone = std::ranges::any_of(
      notes, [](const std::string& note) { return note.find("behind each special token") != std::string::npos; });
  EXPECT_EQ(at_start_alone, GetParam() == "mistral");
  check_gguf_tokenizer(file, from);
  const auto tokenizer = load_tokenizer(file);
  EXPECT_EQ(tokenizer->vocab_size(), rows_for(from));
  const auto vectors = json::parse(contents_of(from / "vectors.json"));
  ASSERT_FALSE(vectors.empty());
  for (const auto& vector : vectors) {
    const auto text = vector.at("text").get<std::string>();
    if (cannot_be_said(text) || (at_start_alone && text.find_first_of("<[") != std::string::npos)) continue;
    EXPECT_EQ(tokenizer->encode(text, false), vector.at("ids").get<std::vector<int>>()) << vector.at("text");
  }
}

INSTANTIATE_TEST_SUITE_P(Small, Written, testing::Values("gpt2", "llama3", "qwen2", "smollm", "llama2", "mistral"),
                         [](const auto& which) { return which.param; });

TEST(WrittenTokenizer, NamesItsTokensAndTemplate) {
  const TemporaryFolder folder;
  const auto from = data_file("tokenizers/llama3"), file = folder / "x.gguf";
  const auto wanted = load_tokenizer(from);
  write(from, file, rows_for(from), {wanted->eos.at(0), 7});
  const auto found = load_tokenizer(file);
  EXPECT_EQ(found->bos, wanted->bos);
  EXPECT_EQ(found->eos, (std::vector{wanted->eos.at(0), 7})) << "the second end, of generation_config.json";
  EXPECT_EQ(found->chat_template, wanted->chat_template);
  EXPECT_EQ(found->encode("a", true), wanted->encode("a", true));
  EXPECT_EQ(io::open_gguf(file).get<std::string>("tokenizer.ggml.pre"), "llama-bpe");
}

TEST(WrittenTokenizer, IsRefusedWhereLlamaCppHasNoWordForIt) {
  const TemporaryFolder folder;
  const auto from = data_file("tokenizers/gpt2");
  const auto attempt = [&] { write(folder.path(), folder / "x.gguf", 1000); };
  EXPECT_THAT(attempt, Refuses({folder.path(), "neither tokenizer.json nor tokenizer.model"}));
  auto tokenizer = json::parse(contents_of(from / "tokenizer.json"));
  const json split = {{"type", "Split"}, {"pattern", {{"Regex", "x+"}}}, {"behavior", "Isolated"}, {"invert", false}};
  auto bytes = tokenizer["pre_tokenizer"];
  bytes["use_regex"] = false;
  tokenizer["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
  folder.write("tokenizer.json", tokenizer.dump());
  EXPECT_THAT(attempt, Refuses({"tokenizer.json", "tokenizer.ggml.pre has no name", "x+"}));
  std::filesystem::copy(data_file("tokenizers/seeds/unigram.json"), folder / "tokenizer.json",
                        std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(attempt, Refuses({"tokenizer.json"}));
  EXPECT_THAT([&] { write(from, folder / "x.gguf", 10); }, Refuses({"the tokenizer has", "the embedding 10 rows"}));
}

TEST(WrittenTokenizer, IsRefusedWhereTextsAreNormalizedAsNoNameSays) {
  const TemporaryFolder folder;
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", "``"}}}, {"content", "\""}};
  for (const std::string name : {"gpt2", "llama2"}) {
    auto tokenizer = json::parse(contents_of(data_file("tokenizers/" + name) / "tokenizer.json"));
    auto steps = json::array({replace});
    if (tokenizer["normalizer"].is_object()) steps.push_back(tokenizer["normalizer"]);
    tokenizer["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
    folder.write("tokenizer.json", tokenizer.dump());
    EXPECT_THAT([&] { write(folder.path(), folder / "x.gguf", 1000); },
                Refuses({"tokenizer.json", "normalized by 'Replace', which GGUF cannot say"})) << name;
  }
}

TEST(WrittenTokenizer, IsRefusedWhereItWouldGiveOtherIds) {
  const TemporaryFolder folder;
  write(data_file("tokenizers/qwen2"), folder / "x.gguf", rows_for(data_file("tokenizers/qwen2")));
  EXPECT_THAT([&] { check_gguf_tokenizer(folder / "x.gguf", data_file("tokenizers/smollm")); },
              Refuses({"smollm", "cannot be said in GGUF"}));
}

}  // namespace
}  // namespace grist::text
