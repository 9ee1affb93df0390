// What the metadata of a GGUF file say, and where that is found.
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/model/family.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <type_traits>

namespace {

using namespace grist;

TEST(Gguf, IsKnownByItsFirstBytesAndFoundInAFolder) {
  const test::TemporaryFolder folder;
  const auto bytes = test::contents_of(test::data_file("gguf/llama2.gguf"));
  EXPECT_EQ(read_spec(folder.write("blob", bytes)).family, "llama");
  folder.write("one.gguf", bytes);
  EXPECT_EQ(read_spec(folder.path()).family, "llama");
  folder.write("other.gguf", bytes);
  EXPECT_THAT([&] { read_spec(folder.path()); }, test::Refuses({"holds 2 GGUF files; give one of them"}));
}

/// A GGUF file with a number more among its keys: a float, or an unsigned integer.
template <class T>
std::string with_key(std::string bytes, const std::string& key, T value) {
  static_assert(sizeof value == 4);
  const std::uint32_t type = std::is_same_v<T, float> ? 6 : 4;
  const auto counts = 8 + sizeof(std::uint64_t);  // magic, version, tensors, keys
  std::uint64_t keys = 0;
  std::memcpy(&keys, bytes.data() + counts, sizeof keys);
  bytes.replace(counts, sizeof keys, test::bytes_of(keys + 1));
  bytes.insert(counts + sizeof keys, test::bytes_of(std::uint64_t{key.size()}) + key +
                                         test::bytes_of(type) + test::bytes_of(value));
  return bytes + std::string(64, '\0');  // data moves on
}

/// llama.cpp takes a factor without a type as linear.
TEST(Gguf, AFactorOfRopeWithoutATypeIsLinear) {
  const test::TemporaryFolder folder;
  const auto bytes = test::contents_of(test::data_file("gguf/llama2.gguf"));
  const auto as_it_is = read_spec(folder.write("model.gguf", bytes)).spec.ropes[0].inverse_frequencies;
  const auto spec = read_spec(folder.write("model.gguf", with_key(bytes, "llama.rope.scaling.factor", 4.0F))).spec;
  for (std::size_t i = 0; i < as_it_is.size(); ++i)
    EXPECT_FLOAT_EQ(spec.ropes[0].inverse_frequencies[i], as_it_is[i] / 4);
}

/// llama.cpp multiplies rotated queries and keys by it whatever the scaling.
TEST(Gguf, TheFactorOfAttentionCountsForEveryScalingOfRope) {
  const test::TemporaryFolder folder;
  auto bytes = with_key(test::contents_of(test::data_file("gguf/llama2.gguf")), "llama.rope.scaling.attn_factor", 2.0F);
  EXPECT_EQ(read_spec(folder.write("model.gguf", bytes)).spec.ropes[0].scale, 2);
  bytes = with_key(bytes, "llama.rope.scaling.factor", 4.0F);
  EXPECT_EQ(read_spec(folder.write("model.gguf", bytes)).spec.ropes[0].scale, 2);
}

/// As llama.cpp takes it, and transformers.
TEST(Gguf, AWindowOfGemma2ThatIsNotNamedIs4096) {
  const test::TemporaryFolder folder;
  auto bytes = test::contents_of(test::data_file("gguf/gemma2.gguf"));
  const std::string known = "gemma2.attention.sliding_window", ignored = "general.a_key_of_the_same_chars";
  ASSERT_EQ(known.size(), ignored.size());
  const auto at = bytes.find(known);
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, known.size(), ignored);
  const auto spec = read_spec(folder.write("model.gguf", bytes)).spec;
  EXPECT_EQ(spec.layers[0].attention.window, 4096);
  EXPECT_EQ(spec.layers[1].attention.window, 0);
}

/// OLMo 3's; with it llama.cpp has windows in three of four layers.
TEST(Gguf, AWindowOfOlmo2IsRefused) {
  const test::TemporaryFolder folder;
  const auto bytes =
      with_key(test::contents_of(test::data_file("gguf/olmo2.gguf")), "olmo2.attention.sliding_window", 4U);
  EXPECT_THAT([&] { read_spec(folder.write("model.gguf", bytes)); },
              test::Refuses({"'olmo2.attention.sliding_window' is 4, supported is 0"}));
}

TEST(Gguf, KeysThatNobodyUnderstandsAreListed) {
  const test::TemporaryFolder folder;
  auto bytes = test::contents_of(test::data_file("gguf/llama2.gguf"));
  // A key of the same length in the place of one that has a default.
  const std::string known = "llama.rope.freq_base", unknown = "llama.rope.freq_lure";
  const auto at = bytes.find(known);
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, known.size(), unknown);
  EXPECT_THAT([&] { read_spec(folder.write("model.gguf", bytes)); },
              test::Refuses({"model.gguf", "keys that are not understood", "'llama.rope.freq_lure'"}));
}

}  // namespace
