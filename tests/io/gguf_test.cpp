// GGUF: metadata of every type is read, a wrong file is refused by name and never crashes.
#include <grist/core/errors.hpp>
#include <grist/io/gguf.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <algorithm>
#include <bit>
#include <format>

namespace {

using namespace grist;
using io::Gguf;
using io::open_gguf;
using test::bytes_of;
using test::contents_of;
using test::data_file;
using test::Refuses;
using test::TemporaryFolder;
using test::write_file;

enum Type : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

std::string text(std::string_view value) { return bytes_of(std::uint64_t{value.size()}) + std::string(value); }

template <class T>
std::string pair(std::string_view key, Type type, T value) {
  return text(key) + bytes_of(std::uint32_t{type}) + bytes_of(value);
}
std::string pair(std::string_view key, std::string_view value) {
  return text(key) + bytes_of(std::uint32_t{string}) + text(value);
}

std::string array_head(std::string_view key, Type type, std::uint64_t count) {
  return text(key) + bytes_of(std::uint32_t{array}) + bytes_of(std::uint32_t{type}) + bytes_of(count);
}

std::string tensor(std::string_view name, const std::vector<std::uint64_t>& dimensions, std::uint32_t type,
                   std::uint64_t offset) {
  std::string bytes = text(name) + bytes_of(static_cast<std::uint32_t>(dimensions.size()));
  for (const std::uint64_t extent : dimensions) bytes += bytes_of(extent);
  return bytes + bytes_of(type) + bytes_of(offset);
}

std::string head(std::uint32_t version, std::uint64_t tensors, std::uint64_t keys) {
  return "GGUF" + bytes_of(version) + bytes_of(tensors) + bytes_of(keys);
}

/// A file of these keys and tensors, with data of so many bytes.
std::string gguf(const std::vector<std::string>& keys, const std::vector<std::string>& tensors = {},
                 std::size_t data_bytes = 0) {
  std::string bytes = head(3, tensors.size(), keys.size());
  for (const auto& key : keys) bytes += key;
  for (const auto& one : tensors) bytes += one;
  bytes.resize((bytes.size() + 31) / 32 * 32, '\0');
  return bytes + std::string(data_bytes, '\1');
}

class GgufTest : public testing::Test {
protected:
  Gguf open(std::string_view bytes) {
    write_file(file, bytes);
    return open_gguf(file);
  }
  void expect_refused(std::string_view bytes, std::vector<std::string> words) {
    words.push_back(file.string());
    EXPECT_THAT([&] { open(bytes); }, Refuses(words));
  }
  TemporaryFolder folder;
  std::filesystem::path file = folder / "model.gguf";
};

TEST_F(GgufTest, WidensMetadataOfEveryType) {
  const Gguf read = open(gguf({pair("u8", u8, std::uint8_t{255}), pair("i8", i8, std::int8_t{-128}),
                               pair("u16", u16, std::uint16_t{65535}), pair("i16", i16, std::int16_t{-32768}),
                               pair("u32", u32, std::uint32_t{4294967295U}), pair("i32", i32, std::int32_t{-7}),
                               pair("u64", u64, std::uint64_t{1} << 62), pair("i64", i64, std::int64_t{-1}),
                               pair("f32", f32, 0.1F), pair("f64", f64, 0.1), pair("no", boolean, std::uint8_t{0}),
                               pair("yes", boolean, std::uint8_t{1}), pair("text", "a\nb\xff"), pair("none", ""),
                               array_head("bytes", u8, 2) + bytes_of(std::uint8_t{1}) + bytes_of(std::uint8_t{200}),
                               array_head("doubles", f32, 2) + bytes_of(0.5F) + bytes_of(-2.0F),
                               array_head("texts", string, 2) + text("") + text("x"), array_head("nothing", i32, 0)}));
  EXPECT_EQ(read.metadata.size(), 18U);
  EXPECT_EQ(read.get<std::int64_t>("u8"), 255);
  EXPECT_EQ(read.get<std::int64_t>("i8"), -128);
  EXPECT_EQ(read.get<std::int64_t>("u16"), 65535);
  EXPECT_EQ(read.get<std::int64_t>("i16"), -32768);
  EXPECT_EQ(read.get<std::int64_t>("u32"), 4294967295);
  EXPECT_EQ(read.get<std::int64_t>("i32"), -7);
  EXPECT_EQ(read.get<std::int64_t>("u64"), std::int64_t{1} << 62);
  EXPECT_EQ(read.get<std::int64_t>("i64"), -1);
  EXPECT_EQ(read.get<double>("f32"), double{0.1F});
  EXPECT_EQ(read.get<double>("f64"), 0.1);
  EXPECT_EQ(read.get<double>("i32"), -7.0) << "an integer is accepted for a float";
  EXPECT_FALSE(read.get<bool>("no"));
  EXPECT_TRUE(read.get<bool>("yes"));
  EXPECT_EQ(read.get<std::string>("text"), "a\nb\xff");
  EXPECT_EQ(read.get<std::string>("none"), "");
  EXPECT_EQ(read.get<std::vector<std::int64_t>>("bytes"), (std::vector<std::int64_t>{1, 200}));
  EXPECT_EQ(read.get<std::vector<double>>("doubles"), (std::vector<double>{0.5, -2.0}));
  EXPECT_EQ(read.get<std::vector<std::string>>("texts"), (std::vector<std::string>{"", "x"}));
  EXPECT_TRUE(read.get<std::vector<std::int64_t>>("nothing").empty());
}

TEST_F(GgufTest, NamesTheKeyThatIsMissingOrOfAnotherType) {
  const Gguf read = open(gguf({pair("width", f32, 1.5F), pair("name", "x")}));
  EXPECT_THAT([&] { return read.get<std::int64_t>("height"); }, Refuses({"model.gguf", "key 'height' is missing"}));
  EXPECT_THAT([&] { return read.get<std::int64_t>("width"); },
              Refuses({"model.gguf", "'width' is a float, expected an integer"}));
  EXPECT_THAT([&] { return read.get_or<double>("name", 1); },
              Refuses({"model.gguf", "'name' is a string, expected a float"}));
  EXPECT_EQ(read.get_or<std::int64_t>("height", 9), 9);
  EXPECT_EQ(read.get_or<double>("width", 9), 1.5);
}

// llama.cpp writes such a number once per layer where layers may differ.
TEST_F(GgufTest, AnArrayThatRepeatsANumberStandsForIt) {
  const Gguf read = open(gguf({array_head("heads", i32, 3) + bytes_of(8) + bytes_of(8) + bytes_of(8),
                               array_head("mixed", i32, 2) + bytes_of(8) + bytes_of(4), array_head("none", i32, 0),
                               array_head("eps", f32, 2) + bytes_of(0.5F) + bytes_of(0.5F)}));
  EXPECT_EQ(read.get<std::int64_t>("heads"), 8);
  EXPECT_EQ(read.get_or<double>("eps", 1), 0.5);
  EXPECT_THAT([&] { return read.get<std::int64_t>("mixed"); },
              Refuses({"model.gguf", "'mixed' is an array of different numbers, 8 and others, expected an integer"}));
  EXPECT_THAT([&] { return read.get<std::int64_t>("none"); },
              Refuses({"'none' is an array of integers, expected an integer"}));
}

TEST_F(GgufTest, NamesAGitLfsPointer) {
  expect_refused("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", {"is a Git LFS pointer"});
}

/// Parts of a model that llama-gguf-split made.
class SplitGguf : public GgufTest {
protected:
  static std::string part(std::uint16_t number, std::uint16_t parts, const std::vector<std::string>& tensors,
                          std::vector<std::string> keys = {}) {
    keys.push_back(pair("split.no", u16, number));
    keys.push_back(pair("split.count", u16, parts));
    return gguf(keys, tensors, 64);
  }
  std::filesystem::path write(int number, int parts, std::string_view bytes) {
    return folder.write(std::format("model-{:05}-of-{:05}.gguf", number, parts), bytes);
  }
  std::filesystem::path first = folder / "model-00001-of-00003.gguf";
};

TEST_F(SplitGguf, IsReadFromItsFirstPartOn) {
  write(1, 3, part(0, 3, {}, {pair("general.name", "whole"), pair("split.tensors.count", i32, std::int32_t{3})}));
  write(2, 3, part(1, 3, {tensor("a", {8}, 0, 0), tensor("b", {8}, 0, 32)}));
  write(3, 3, part(2, 3, {tensor("c", {16}, 0, 0)}));
  const Gguf read = open_gguf(first);
  EXPECT_EQ(read.get<std::string>("general.name"), "whole");
  EXPECT_EQ(read.weights.tensors().size(), 3U);
  EXPECT_EQ(read.weights.file_of(*read.weights.find("b")), (folder / "model-00002-of-00003.gguf").string());
  float out[16];
  read.weights.read(*read.weights.find("c"), {0, 1, 0, 16}, out);
  EXPECT_EQ(out[15], std::bit_cast<float>(0x01010101));
}

TEST_F(SplitGguf, NamesThePartThatIsMissingOrAnothers) {
  write(1, 3, part(0, 3, {tensor("a", {8}, 0, 0)}));
  const auto refused = [&](const std::vector<std::string>& words) {
    EXPECT_THAT([&] { open_gguf(first); }, Refuses(words));
  };
  refused({"model-00002-of-00003.gguf: cannot be opened"});
  write(2, 3, part(2, 3, {}));
  refused({"model-00002-of-00003.gguf", "is part 3 of 3, expected part 2 of 3"});
  write(2, 3, part(1, 4, {}));
  refused({"model-00002-of-00003.gguf", "is part 2 of 4, expected part 2 of 3"});
  write(2, 3, gguf({}));
  refused({"model-00002-of-00003.gguf", "'split.no' is missing"});
  write(2, 3, part(1, 3, {tensor("a", {8}, 0, 0)}));
  refused({"model-00002-of-00003.gguf", "tensor 'a' is already in"});
  write(2, 3, part(1, 3, {}));
  write(3, 3, part(2, 3, {}));
  EXPECT_NO_THROW(open_gguf(first));
  write(1, 3, part(0, 3, {tensor("a", {8}, 0, 0)}, {pair("split.tensors.count", i32, std::int32_t{7})}));
  refused({"3 parts hold 1 tensors, split.tensors.count says 7"});
}

TEST_F(SplitGguf, IsOpenedByItsFirstPartUnderItsName) {
  EXPECT_THAT([&] { open_gguf(write(2, 3, part(1, 3, {}))); },
              Refuses({"is part 2 of 3 of a model: name the first part"}));
  expect_refused(part(0, 3, {}), {"a model's first part of 3, whose name should end with -00001-of-00003.gguf"});
}

TEST_F(GgufTest, ListsDimensionsFromTheOutermost) {
  const Gguf read = open(gguf({}, {tensor("t", {2, 3, 4}, 0, 32), tensor("scalar", {}, 0, 0)}, 128));
  EXPECT_EQ(read.weights.find("t")->shape, (std::vector<Index>{4, 3, 2}));
  EXPECT_EQ(read.weights.find("t")->bytes(), 96U);
  EXPECT_EQ(read.weights.find("scalar")->bytes(), 4U);
  EXPECT_EQ(read.weights.find("t")->offset, read.weights.find("scalar")->offset + 32);
}

TEST_F(GgufTest, AlignsTheDataAsTheFileSays) {
  std::string bytes = head(2, 1, 1) + pair("general.alignment", u32, std::uint32_t{8}) + tensor("t", {2}, 0, 8);
  bytes.resize((bytes.size() + 7) / 8 * 8, '\0');
  const std::uint64_t start = bytes.size();
  EXPECT_EQ(open(bytes + std::string(16, '\1')).weights.find("t")->offset, start + 8);
}

TEST_F(GgufTest, ReadsWholeModels) {
  const Gguf read = open_gguf(data_file("gguf/llama2.gguf"));
  EXPECT_EQ(read.get<std::string>("general.architecture"), "llama");
  EXPECT_NE(read.weights.find("token_embd.weight"), nullptr);
  EXPECT_FALSE(open_gguf(data_file("gguf/llama31.gguf")).weights.tensors().empty());
}

TEST_F(GgufTest, RefusesAnotherFormatOrVersion) {
  expect_refused("", {"truncated: the magic number"});
  expect_refused(std::string(64, 'x'), {"not a GGUF file", "begins with 0x78787878", "expected 0x46554747"});
  expect_refused("GGUF", {"truncated: the version"});
  expect_refused(head(1, 0, 0), {"GGUF version 1, expected 2 or 3"});
  expect_refused(head(4, 0, 0), {"GGUF version 4, expected 2 or 3"});
  expect_refused(head(0x03000000, 0, 0), {"big-endian"});
  EXPECT_THAT([&] { open_gguf(folder / "absent.gguf"); }, Refuses({"absent.gguf: cannot be opened"}));
}

TEST_F(GgufTest, BelievesNoCount) {
  constexpr std::uint64_t all = ~std::uint64_t{0};
  for (const std::uint64_t count : {std::uint64_t{1}, std::uint64_t{1} << 61, all}) {
    SCOPED_TRACE(count);
    expect_refused(head(3, count, 0), {"truncated: a tensor's name"});
    expect_refused(head(3, 0, count), {"truncated: a metadata key"});
    expect_refused(head(3, 0, 1) + bytes_of(count), {"truncated: a metadata key"});
    expect_refused(head(3, 0, 1) + text("k") + bytes_of(std::uint32_t{string}) + bytes_of(count),
                   {"truncated: metadata key 'k'"});
    for (const Type type : {u8, u64, string}) {
      expect_refused(head(3, 0, 1) + array_head("k", type, count), {"truncated: metadata key 'k'"});
    }
  }
}

TEST_F(GgufTest, NamesBadMetadata) {
  expect_refused(head(3, 0, 1) + text("k") + bytes_of(std::uint32_t{99}), {"metadata key 'k'", "value type 99"});
  expect_refused(gguf({array_head("k", array, 1)}), {"metadata key 'k'", "value type 9"});
  expect_refused(gguf({pair("k", u64, ~std::uint64_t{0})}), {"metadata key 'k' is 18446744073709551615: too large"});
  expect_refused(gguf({pair("k", "1"), pair("k", "2")}), {"metadata key 'k' appears twice"});
  expect_refused(gguf({pair("general.alignment", u32, std::uint32_t{0})}),
                 {"general.alignment is 0, expected a power of two"});
  expect_refused(gguf({pair("general.alignment", u32, std::uint32_t{24})}), {"general.alignment is 24"});
  expect_refused(gguf({pair("general.alignment", i32, std::int32_t{-32})}), {"general.alignment is -32"});
  expect_refused(gguf({pair("general.alignment", "32")}), {"'general.alignment' is a string, expected an integer"});
}

TEST_F(GgufTest, NamesBadTensors) {
  const auto refused = [&](const std::vector<std::string>& tensors, const std::vector<std::string>& words) {
    expect_refused(gguf({}, tensors, 64), words);
  };
  constexpr std::uint64_t huge = std::uint64_t{1} << 62;
  refused({tensor("t", {1, 1, 1, 1, 1}, 0, 0)}, {"tensor 't' has 5 dimensions, GGUF allows 4"});
  refused({tensor("t", {~std::uint64_t{0}}, 0, 0)}, {"tensor 't' is 18446744073709551615: too large"});
  refused({tensor("t", {1}, 99, 0)}, {"tensor 't' has the type 99 (unknown), expected one of F32"});
  refused({tensor("t", {32}, 16, 0)},
          {"tensor 't' has the type 16 (IQ2_XXS), expected one of F32, F16", "Q5_K", "BF16"});
  refused({tensor("t", {17}, 0, 0)}, {"tensor 't' (f32 [17]) wants 68 bytes"});
  refused({tensor("t", {16}, 0, 32)}, {"tensor 't' (f32 [16]) wants 64 bytes"});
  refused({tensor("t", {huge, huge}, 0, 0)}, {"tensor 't'"});
  refused({tensor("t", {1}, 0, 4)}, {"tensor 't' has the offset 4, expected a multiple of 32"});
  refused({tensor("t", {1}, 0, 1024)}, {"tensor 't' has the offset 1024"});
  refused({tensor("t", {1}, 0, ~std::uint64_t{31})}, {"tensor 't' has the offset"});
  refused({tensor("t", {33}, 8, 0)}, {"tensor 't' of shape [33] is q8_0", "multiple of 32"});
  refused({tensor("a", {16}, 0, 0), tensor("b", {8}, 0, 32)}, {"tensors 'a' and 'b' overlap"});
  refused({tensor("a", {8}, 0, 32), tensor("b", {16}, 0, 0)}, {"tensors 'a' and 'b' overlap"});
  refused({tensor("a", {8}, 0, 0), tensor("a", {8}, 0, 32)}, {"tensor 'a' is already in"});
}

TEST_F(GgufTest, RefusesAFileCutAnywhere) {
  const std::string good = contents_of(data_file("gguf/types.gguf"));
  std::uint64_t end = 0;  // of the last tensor; padding follows, which nobody needs
  const Gguf whole = open(good);
  for (const auto& [name, tensor] : whole.weights.tensors()) end = std::max(end, tensor.offset + tensor.bytes());
  ASSERT_GT(end, 9000U);
  EXPECT_NO_THROW(open(good.substr(0, end)));
  expect_refused(good.substr(0, end - 1), {".weight"});
  for (std::size_t size = 0; size < end; size += size < 1024 ? 1 : 41) {
    SCOPED_TRACE(size);
    expect_refused(good.substr(0, size), {});
  }
}

}  // namespace
