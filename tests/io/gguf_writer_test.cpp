// GGUF files as they are written: read back the same, and nothing stays of one that was not closed.
#include <grist/core/errors.hpp>
#include <grist/io/gguf.hpp>
#include <grist/io/gguf_writer.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <algorithm>

namespace {

using namespace grist;
using io::GgufWriter;
using io::open_gguf;
using test::contents_of;
using test::data_file;
using test::TemporaryFolder;

/// The same tensors, in the same order, with all metadata.
void copy(const io::Gguf& gguf, const std::filesystem::path& to) {
  GgufWriter writer(to);
  for (const auto& [key, value] : gguf.entries) writer.set_encoded(key, value);
  std::vector<const io::TensorInfo*> tensors;
  for (const auto& [name, tensor] : gguf.weights.tensors()) tensors.push_back(&tensor);
  std::ranges::sort(tensors, {}, &io::TensorInfo::offset);
  for (const auto* tensor : tensors) writer.add_tensor(tensor->name, tensor->format, tensor->shape);
  for (const auto* tensor : tensors) writer.write(gguf.weights.data(*tensor), tensor->bytes());
  writer.close();
}

TEST(GgufWriter, CopiesFilesOfGgufPyByteForByte) {
  const TemporaryFolder folder;
  for (const char* const name : {"gguf/types.gguf", "gguf/llama2.gguf", "gguf/mixtral.gguf"}) {
    copy(open_gguf(data_file(name)), folder / "copy.gguf");
    EXPECT_TRUE(contents_of(folder / "copy.gguf") == contents_of(data_file(name))) << name;
  }
}

TEST(GgufWriter, WritesValuesThatAreReadAsTheyWere) {
  const TemporaryFolder folder;
  GgufWriter writer(folder / "x.gguf");
  writer.set("flag", true);
  writer.set("count", std::uint32_t{4000000000U});
  writer.set("ratio", 0.1F);
  writer.set("text", std::string("a\nb\xff"));
  writer.set("kinds", std::vector<std::int32_t>{1, -6});
  writer.set("scores", std::vector<float>{-0.5F, 2});
  writer.set("tokens", std::vector<std::string>{"", "x y"});
  EXPECT_TRUE(writer.has("flag"));
  EXPECT_FALSE(writer.has("flags"));
  writer.close();
  const auto read = open_gguf(folder / "x.gguf");
  EXPECT_EQ(read.metadata.size(), 7U);
  EXPECT_EQ(read.get<bool>("flag"), true);
  EXPECT_EQ(read.get<std::int64_t>("count"), 4000000000);
  EXPECT_EQ(read.get<double>("ratio"), double{0.1F});
  EXPECT_EQ(read.get<std::string>("text"), "a\nb\xff");
  EXPECT_EQ(read.get<std::vector<std::int64_t>>("kinds"), (std::vector<std::int64_t>{1, -6}));
  EXPECT_EQ(read.get<std::vector<double>>("scores"), (std::vector<double>{-0.5, 2}));
  EXPECT_EQ(read.get<std::vector<std::string>>("tokens"), (std::vector<std::string>{"", "x y"}));
}

TEST(GgufWriter, TakesTensorsInPiecesThatEndAnywhere) {
  const TemporaryFolder folder;
  std::vector<float> numbers(3 * 5 + 2);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(i);
  GgufWriter writer(folder / "x.gguf");
  writer.add_tensor("matrix", Format::f32, {3, 5});
  writer.add_tensor("vector", Format::f32, {2});
  writer.write(numbers.data(), 13);
  writer.write(reinterpret_cast<const char*>(numbers.data()) + 13, numbers.size() * sizeof(float) - 13);
  writer.close();
  const auto read = open_gguf(folder / "x.gguf");
  for (const auto& [name, first, shape] : {std::tuple("matrix", 0, std::vector<Index>{3, 5}), {"vector", 15, {2}}}) {
    const auto* tensor = read.weights.find(name);
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->shape, shape);
    std::vector<float> found(static_cast<std::size_t>(tensor->rows() * tensor->columns()));
    read.weights.read(*tensor, {0, tensor->rows(), 0, tensor->columns()}, found.data());
    EXPECT_TRUE(std::ranges::equal(found, std::span(numbers).subspan(static_cast<std::size_t>(first), found.size())));
  }
}

TEST(GgufWriter, RefusesMisuseAndLeavesNothingBehind) {
  const TemporaryFolder folder;
  {
    GgufWriter writer(folder / "x.gguf");
    writer.set("key", true);
    EXPECT_THROW(writer.set("key", false), InternalError);
    writer.add_tensor("t", Format::q8_0, {1, 32});
    EXPECT_THROW(writer.add_tensor("t", Format::f32, {1}), InternalError);
    const std::vector<std::byte> bytes(100);
    writer.write(bytes.data(), 30);
    EXPECT_THROW(writer.set("late", true), InternalError);
    EXPECT_THROW(writer.close(), InternalError);
    EXPECT_THROW(writer.write(bytes.data(), 5), InternalError) << "34 bytes are all";
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THAT([&] { GgufWriter(folder / "no/x.gguf"); }, test::Refuses({"no/x.gguf", "cannot be made"}));
}

}  // namespace
