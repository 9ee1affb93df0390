// --data is a token file or a text.
#include <grist/core/errors.hpp>
#include <grist/io/token_file_writer.hpp>
#include <grist/train/token_source.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

namespace {

using namespace grist;
using test::data_file;
using test::Refuses;
using test::TemporaryFolder;
using train::token_source;

std::vector<int> ids_of(const io::TokenFile& file) {
  std::vector<int> ids(file.tokens());
  file.read(0, ids);
  return ids;
}

TEST(TokenSource, OfATextIsWhatTheTokenizerMakesOfItWithBos) {
  const TemporaryFolder folder;
  const auto tokenizer = text::load_tokenizer(data_file("tiny/llama2"));
  const auto expected = tokenizer->encode("hello world\n", true);
  EXPECT_EQ(expected.front(), tokenizer->bos);
  for (const std::string mark : {"", "\xEF\xBB\xBF"}) {
    const auto file = token_source(folder.write("a.txt", mark + "hello world\n"), tokenizer.get());
    EXPECT_EQ(ids_of(file), expected);
    EXPECT_EQ(file.documents(), 1U);
    EXPECT_EQ(file.origin().vocab_size, static_cast<std::uint64_t>(tokenizer->vocab_size()));
  }
}

TEST(TokenSource, OfATokenFileIsTheFileWhereTheTokenizerAgrees) {
  const TemporaryFolder folder;
  const auto llama = text::load_tokenizer(data_file("tiny/llama2")),
             gpt2 = text::load_tokenizer(data_file("tokenizers/gpt2"));
  io::TokenFileWriter writer(folder / "a", {.vocab_size = 288, .fingerprint = text::fingerprint(*llama)});
  writer.append(std::vector<int>{5, 6}, {});
  writer.close();
  for (const auto* tokenizer :
       {static_cast<const text::Tokenizer*>(llama.get()), static_cast<const text::Tokenizer*>(nullptr)})
    EXPECT_EQ(ids_of(token_source(folder / "a", tokenizer)), (std::vector<int>{5, 6}));
  EXPECT_THAT([&] { token_source(folder / "a", gpt2.get()); }, Refuses({"a: has tokens of another tokenizer"}));
}

TEST(TokenSource, ThatIsNeitherIsRefusedByName) {
  const TemporaryFolder folder;
  const auto tokenizer = text::load_tokenizer(data_file("tiny/llama2"));
  const auto open = [&](const std::string& name) {
    return [&, name] { token_source(folder / name, tokenizer.get()); };
  };
  folder.write("a.txt", "ab\xFF");
  folder.write("a.tokens", "GRI");
  EXPECT_THAT(open("a.txt"), Refuses({"a.txt: neither a token file nor UTF-8", "0xff at offset 2"}));
  EXPECT_THAT(open("a.tokens"), Refuses({"a.tokens: is no token file"}));
  EXPECT_THAT(open("none.txt"), Refuses({"none.txt: cannot be opened"}));
  EXPECT_THAT([&] { token_source(folder.write("b.txt", "ab"), nullptr); },
              Refuses({"b.txt: is a text", "no tokenizer"}));
}

}  // namespace
