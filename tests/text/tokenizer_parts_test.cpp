// Every part of a tokenizer.json, by itself: ids and texts are those of the tokenizers library.
#include <grist/text/tokenizer.hpp>
#include <support/files.hpp>

#include <nlohmann/json.hpp>

namespace grist::text {
namespace {

using nlohmann::json;
using test::contents_of;
using test::data_file;

const json& vectors() {
  static const json all = json::parse(contents_of(data_file("tokenizers/parts.json")));
  return all;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int>& ids) {
  StreamDecoder decoder(tokenizer, false);
  std::string text;
  for (const int id : ids) text += decoder.put(id);
  return text + decoder.finish();
}

class TokenizerPart : public testing::TestWithParam<std::size_t> {};

TEST_P(TokenizerPart, GivesTheIdsAndTextsOfTheTokenizersLibrary) {
  const json& golden = vectors().at("cases").at(GetParam());
  json file =
      json::parse(contents_of(data_file("tokenizers/" + golden.at("base").get<std::string>() + "/tokenizer.json")));
  for (const auto& [pointer, value] : golden.at("changes").items()) file[json::json_pointer(pointer)] = value;
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", file.dump());
  const auto tokenizer = load_tokenizer(folder.path());
  const json& texts = vectors().at("texts");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::vector<int> ids = golden.at("ids").at(i);
    EXPECT_EQ(tokenizer->encode(texts[i].get<std::string>(), true), ids) << golden.at("name") << " " << texts[i];
    EXPECT_EQ(tokenizer->decode(ids, false), golden.at("decoded").at(i).get<std::string>())
        << golden.at("name") << " " << texts[i];
    EXPECT_EQ(streamed(*tokenizer, ids), golden.at("decoded").at(i).get<std::string>())
        << golden.at("name") << " " << texts[i];
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerPart, testing::Range(std::size_t{0}, vectors().at("cases").size()));

}  // namespace
}  // namespace grist::text
