// grist convert and grist inspect as a user meets them.
#include "program.hpp"
#include "support/files.hpp"

#include <gmock/gmock.h>

namespace {

using namespace grist::test;
using testing::HasSubstr;

class Checkpoints : public testing::Test {
protected:
  Checkpoints() { quiet({"convert", model, file}); }

  const std::string model = tiny();
  TemporaryFolder folder;
  const std::string file = folder / "start.h5";
};

TEST_F(Checkpoints, BecomeFoldersThatGenerateTheSameText) {
  quiet({"convert", file, folder / "out", "--max-shard-size", "20KB", "--tokenizer", model});
  EXPECT_TRUE(std::filesystem::exists(folder / "out/tokenizer.json"));
  const auto ask = [](const std::string& which) {
    return quiet({"generate", "--model", which, "--prompt", "a", "--max-new-tokens", "8", "--temperature", "0"});
  };
  EXPECT_EQ(ask(folder / "out"), ask(model));
}

TEST_F(Checkpoints, AreShownWithTensorsTypesShapesAndState) {
  const auto text = quiet({"inspect", file, "--verify"});
  for (const char* part : {"step", "config.json", "/model/model.embed_tokens.weight", "f32", "[", "verified"})
    EXPECT_THAT(text, HasSubstr(part));
}

TEST_F(Checkpoints, ThatAreBrokenAreRefusedInOneLine) {
  const auto bytes = contents_of(file);
  auto flipped = bytes;
  flipped[bytes.size() - 1000] ^= 1;
  for (const auto& [name, content, word] :
       {std::tuple("flipped.h5", flipped, "damaged"), {"cut.h5", bytes.substr(0, bytes.size() / 2), "no complete HDF5"},
        {"other.h5", std::string("a text"), "no complete HDF5"}}) {
    const std::string path = folder.write(name, content);
    for (const auto& words :
         {std::vector<std::string>{"inspect", path, "--verify"}, {"convert", path, folder / "new"}}) {
      const auto outcome = grist::test::grist(words);
      EXPECT_EQ(outcome.code, 3) << outcome.err;
      EXPECT_THAT(outcome.err, testing::AllOf(HasSubstr(name), HasSubstr(word)));
      EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    }
  }
}

}  // namespace
