// Token files: what is appended is read, an interruption costs nothing, what is wrong is refused by name.
#include <grist/core/errors.hpp>
#include <grist/io/token_file_writer.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <optional>
#include <random>

namespace {

using namespace grist;
using io::TokenFile;
using io::TokenFileWriter;
using io::TokenOrigin;
using test::bytes_of;
using test::contents_of;
using test::Refuses;
using test::TemporaryFolder;
using test::write_file;

constexpr TokenOrigin origin{.vocab_size = 1000, .fingerprint = 7, .sources = 8};

struct Document {
  std::vector<int> ids;
  std::vector<char> trained;
};

/// Documents of 0 to 40 tokens, every third with a mask.
std::vector<Document> some_documents(int vocab_size, std::size_t count = 50) {
  std::mt19937 random(3);
  std::vector<Document> documents(count);
  for (std::size_t d = 0; d < count; ++d) {
    auto& [ids, trained] = documents[d];
    ids.resize(random() % 41);
    for (int& id : ids) id = static_cast<int>(random() % static_cast<unsigned>(vocab_size));
    if (d % 3 == 0)
      for (std::size_t i = 0; i < ids.size(); ++i) trained.push_back(static_cast<char>(random() % 2));
  }
  return documents;
}

void append(TokenFileWriter& writer, const std::vector<Document>& documents, std::size_t end) {
  for (std::size_t d = writer.documents(); d < end; ++d) writer.append(documents[d].ids, documents[d].trained);
}

void write(const std::filesystem::path& path, const std::vector<Document>& documents,
           const TokenOrigin& from = origin) {
  TokenFileWriter writer(path, from);
  append(writer, documents, documents.size());
  writer.close();
}

void expect_holds(const TokenFile& file, const std::vector<Document>& documents) {
  ASSERT_EQ(file.documents(), documents.size());
  std::uint64_t token = 0;
  for (std::size_t d = 0; d < documents.size(); ++d) {
    SCOPED_TRACE(d);
    EXPECT_EQ(file.document_begin(d), token);
    std::vector<int> ids(documents[d].ids.size());
    file.read(token, ids);
    EXPECT_EQ(ids, documents[d].ids);
    for (std::size_t i = 0; i < ids.size(); ++i)
      EXPECT_EQ(file.trained(token + i), documents[d].trained.empty() || documents[d].trained[i] != 0) << i;
    token += ids.size();
  }
  EXPECT_EQ(file.tokens(), token);
  EXPECT_EQ(file.document_begin(documents.size()), token);
}

TEST(TokenFiles, AreReadAsTheyWereWritten) {
  const TemporaryFolder folder;
  for (const int vocab_size : {1, 1000, 65536, 65537, 200000}) {
    SCOPED_TRACE(vocab_size);
    const auto documents = some_documents(vocab_size);
    const TokenOrigin from{static_cast<std::uint64_t>(vocab_size), 11, 12};
    write(folder / "a.tokens", documents, from);
    const TokenFile file(folder / "a.tokens");
    expect_holds(file, documents);
    EXPECT_TRUE(file.masked());
    EXPECT_EQ(file.origin().vocab_size, from.vocab_size);
    EXPECT_EQ(file.origin().fingerprint, 11U);
    EXPECT_EQ(file.origin().sources, 12U);
  }
}

TEST(TokenFiles, TakeTwoBytesATokenWhereTheVocabularyAllowsAndNoMaskWhereAllAreTrained) {
  const TemporaryFolder folder;
  const std::vector<Document> documents(1, {std::vector<int>(800, 5), {}});
  write(folder / "small", documents, {.vocab_size = 65536});
  write(folder / "large", documents, {.vocab_size = 65537});
  EXPECT_EQ(std::filesystem::file_size(folder / "small"), 64U + 1600 + 8);
  EXPECT_EQ(std::filesystem::file_size(folder / "large"), 64U + 3200 + 8);
  EXPECT_FALSE(TokenFile(folder / "small").masked());
  write(folder / "masked", {{std::vector<int>(800, 5), std::vector<char>(800, 0)}});
  EXPECT_EQ(std::filesystem::file_size(folder / "masked"), 64U + 1600 + 8 + 100);
}

TEST(TokenFiles, MayBeEmpty) {
  const TemporaryFolder folder;
  write(folder / "none", {});
  EXPECT_EQ(TokenFile(folder / "none").documents(), 0U);
  write(folder / "empty", {{}, {}});
  EXPECT_EQ(TokenFile(folder / "empty").documents(), 2U);
  EXPECT_EQ(TokenFile(folder / "empty").tokens(), 0U);
}

TEST(TokenFiles, ThatWereInterruptedAnywhereAreContinuedToTheSameBytes) {
  const TemporaryFolder folder;
  const auto documents = some_documents(1000);
  write(folder / "whole", documents);
  for (const std::size_t step : {1U, 7U, 49U}) {
    for (std::size_t done = 0; done <= documents.size(); done += step) {
      TokenFileWriter writer(folder / "parts", origin);
      ASSERT_EQ(writer.documents(), done == 0 ? 0 : done - step);
      append(writer, documents, done);
      EXPECT_FALSE(std::filesystem::exists(folder / "parts"));
    }
    write(folder / "parts", documents);
    EXPECT_EQ(contents_of(folder / "parts"), contents_of(folder / "whole")) << step;
    std::filesystem::remove(folder / "parts");
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);  // nothing stays beside it
}

// A kill leaves tokens behind the last end, or a file that was just being finished.
TEST(TokenFiles, AreContinuedAfterTheLastDocumentThatIsWhole) {
  const TemporaryFolder folder;
  const auto documents = some_documents(1000);
  write(folder / "whole", documents);
  const std::string whole = contents_of(folder / "whole");
  {
    TokenFileWriter writer(folder / "a", origin);
    append(writer, documents, 20);
  }
  const std::string part = contents_of(folder / "a.part"), ends = contents_of(folder / "a.part.ends");
  const std::string mask = contents_of(folder / "a.part.mask");
  const std::string finishing = whole.substr(0, 64) + part.substr(64) + "rest of what followed";
  for (const auto& killed : {part + "tokens without an end", finishing}) {
    write_file(folder / "a.part", killed);
    write_file(folder / "a.part.ends", ends + "half");
    write_file(folder / "a.part.mask", mask + "bits");
    write(folder / "a", documents);
    EXPECT_EQ(contents_of(folder / "a"), whole);
  }
}

TEST(TokenFiles, AreNotContinuedFromSomethingElse) {
  const TemporaryFolder folder;
  const auto documents = some_documents(1000);
  {
    TokenFileWriter writer(folder / "a", origin);
    append(writer, documents, 3);
  }
  for (const TokenOrigin& other : {TokenOrigin{1001, 7, 8}, TokenOrigin{1000, 6, 8}, TokenOrigin{1000, 7, 9}})
    EXPECT_THAT([&] { TokenFileWriter(folder / "a", other); },
                Refuses({"a.part: was begun with another", "remove it"}));
  std::filesystem::resize_file(folder / "a.part", 66);
  EXPECT_THAT([&] { TokenFileWriter(folder / "a", origin); }, Refuses({"a.part: holds fewer tokens than the"}));
}

TEST(TokenFiles, AreWrittenByOneProcess) {
  const TemporaryFolder folder;
  const std::optional<TokenFileWriter> first(std::in_place, folder / "a", origin);
  EXPECT_THAT([&] { TokenFileWriter(folder / "a", origin); }, Refuses({"a.part: another process writes it"}));
}

TEST(TokenFiles, ThatAreUnfinishedAreRefused) {
  const TemporaryFolder folder;
  TokenFileWriter writer(folder / "a", origin);
  writer.append(std::vector<int>{1, 2}, {});
  writer.flush();
  EXPECT_THAT([&] { TokenFile(folder / "a.part"); }, Refuses({"a.part: is unfinished", "continues it"}));
  EXPECT_TRUE(io::is_token_file(folder / "a.part"));
}

TEST(TokenFiles, ThatCannotBeWrittenAreRefusedByName) {
  EXPECT_THAT([&] { TokenFileWriter("/nowhere/a", origin); }, Refuses({"/nowhere/a.part", "No such file"}));
}

TEST(TokenFiles, AreKnownByTheirFirstBytesOrTheirName) {
  const TemporaryFolder folder;
  write(folder / "a", some_documents(1000));
  EXPECT_TRUE(io::is_token_file(folder / "a"));
  EXPECT_TRUE(io::is_token_file(folder / "absent.tokens"));
  EXPECT_FALSE(io::is_token_file(folder.write("b.txt", "GRISTTO")));
  EXPECT_FALSE(io::is_token_file(folder.write("c.txt", "GRISTTOP of the page")));
}

TEST(TokenFiles, InMemoryAreOneDocument) {
  const TokenFile file("text", origin, {3, 1, 2});
  expect_holds(file, {{{3, 1, 2}, {}}});
  const TokenFile copy = TokenFile("text", origin, {3, 1, 1000});
  std::vector<int> ids(3);
  EXPECT_THAT([&] { copy.read(0, ids); }, Refuses({"text: token 2 has the id 1000", "1000"}));
}

TEST(TokenFiles, ThatAreCutAreRefused) {
  const TemporaryFolder folder;
  write(folder / "whole", some_documents(1000));
  const std::string whole = contents_of(folder / "whole");
  for (std::size_t size = 0; size < whole.size(); size += size < 70 ? 5 : 29) {
    write_file(folder / "cut", whole.substr(0, size));
    EXPECT_THAT([&] { TokenFile(folder / "cut"); }, Refuses({(folder / "cut").string()})) << size;
  }
  write_file(folder / "cut", whole.substr(0, whole.size() - 1));
  EXPECT_THAT([&] { TokenFile(folder / "cut"); },
              Refuses({"cut: ", "expected " + std::to_string(whole.size()), "truncated"}));
}

TEST(TokenFiles, ThatAreSpoiltAreRefusedWithWhatWasExpectedAndFound) {
  struct Bad {
    std::size_t at;
    std::string bytes;
    std::vector<std::string> words;
  };
  const TemporaryFolder folder;
  write(folder / "whole", {{{1, 2, 3}, {}}, {{4, 5}, {0, 1}}});  // ends at 64 + 16, mask at 64 + 16 + 16
  const std::string whole = contents_of(folder / "whole");
  const std::uint64_t huge = ~std::uint64_t{0};
  const std::vector<Bad> bad = {
      {0, "SAFETENS", {"is no token file", "expected GRISTTOK", "found 97 bytes"}},
      {8, bytes_of(std::uint32_t{2}), {"has version 2", "expected 1"}},
      {12, bytes_of(std::uint32_t{4}), {"ids of 4 bytes for a vocabulary of 1000"}},
      {16, bytes_of(std::uint64_t{65537}), {"ids of 2 bytes for a vocabulary of 65537"}},
      {16, bytes_of(huge), {"ids of 2 bytes for a vocabulary of 18446744073709551615"}},
      {32, bytes_of(std::uint64_t{3}), {"97 bytes for 3 documents and 5 tokens", "expected 105", "truncated"}},
      {32, bytes_of(std::uint64_t{1}), {"expected 89", "more follows"}},
      {32, bytes_of(huge), {"18446744073709551615 documents", "truncated"}},
      {40, bytes_of(huge), {"18446744073709551615 tokens", "truncated"}},
      {48, bytes_of(std::uint64_t{0}), {"expected 96", "more follows"}},
      {48, bytes_of(std::uint64_t{2}), {"has the flags 0x2"}},
      {80, bytes_of(std::uint64_t{6}), {"document 0 ends at token 6", "from 0 to 5"}},
      {88, bytes_of(std::uint64_t{2}), {"document 1 ends at token 2", "from 3 to 5"}},
      {88, bytes_of(std::uint64_t{4}), {"the last document ends at token 4", "expected 5"}},
  };
  for (const auto& [at, bytes, words] : bad) {
    std::string spoilt = whole;
    spoilt.replace(at, bytes.size(), bytes);
    auto expected = words;
    expected.push_back(folder.write("bad", spoilt).string());
    EXPECT_THAT([&] { TokenFile(folder / "bad"); }, Refuses(expected)) << at;
  }
  std::string spoilt = whole;
  spoilt.replace(64 + 6, 2, bytes_of(std::uint16_t{1000}));
  const TokenFile file(folder.write("bad", spoilt));
  std::vector<int> ids(5);
  EXPECT_THAT([&] { file.read(0, ids); }, Refuses({"bad: token 3 has the id 1000", "less than the vocabulary's 1000"}));
}

}  // namespace
