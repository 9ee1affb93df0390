// Quantized GGUF files against the twins that llama.cpp's converter (tests/reference/gguf_twins.py) and gguf-py made of
// the same models.
#include "model/tensors.hpp"
#include "support/files.hpp"
#include "support/refuses.hpp"

#include <grist/core/quantize.hpp>
#include <grist/model/gguf_conversion.hpp>
#include <grist/model/gguf_settings.hpp>

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

namespace {

using namespace grist;
using io::open_gguf;
using test::data_file;
using test::numbers_of;
using test::Refuses;
using test::TemporaryFolder;
using testing::HasSubstr;

/// What a format makes of the numbers of a tensor.
std::vector<std::byte> encoded(Format format, const io::TensorInfo& tensor, const std::vector<float>& numbers) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.rows() * row_bytes(format, tensor.columns())));
  EXPECT_TRUE(encode_rows(format, numbers.data(), tensor.rows(), tensor.columns(), bytes.data()));
  return bytes;
}

/// Every tensor of `file` is that of `twin` in its type; one that both have in blocks may have another scale.
void expect_tensors_of(const std::filesystem::path& twin_file, const std::filesystem::path& file) {
  const auto twin = open_gguf(twin_file), found = open_gguf(file);
  ASSERT_EQ(found.weights.tensors().size(), twin.weights.tensors().size());
  for (const auto& [name, tensor] : found.weights.tensors()) {
    const auto* other = twin.weights.find(name);
    ASSERT_NE(other, nullptr) << name;
    EXPECT_EQ(tensor.shape, other->shape) << name;
    const auto wanted = numbers_of(twin.weights, *other);
    const auto magnitude = [](float number) { return std::abs(number); };
    const float largest = magnitude(*std::ranges::max_element(wanted, {}, magnitude));
    if (tensor.format == other->format && block_of(tensor.format).elements > 1) {
      EXPECT_THAT(numbers_of(found.weights, tensor), testing::Pointwise(testing::FloatNear(0.01F * largest), wanted));
      continue;
    }
    if (name == "rope_freqs.weight") {  // divided out of rounded frequencies
      EXPECT_THAT(numbers_of(found.weights, tensor), testing::Pointwise(testing::FloatNear(1e-5F), wanted));
      continue;
    }
    const auto bytes = encoded(tensor.format, tensor, wanted);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), found.weights.data(tensor))) << name;
  }
}

const auto no_tokenizer = [](io::GgufWriter&, const ModelFiles&) {};

class Folders : public testing::TestWithParam<std::string> {};

TEST_P(Folders, BecomeTheFilesThatLlamaCppsConverterMakes) {
  const TemporaryFolder folder;
  const auto file = folder / "x.gguf", twin = data_file("gguf/" + GetParam() + ".gguf");
  for (const Format type : {Format::q8_0, Format::q4_k}) {
    std::filesystem::remove(file);
    quantize_folder(data_file("tiny/" + GetParam()), type, file, no_tokenizer, {});
    EXPECT_EQ(difference_of(read_spec(file).spec, read_spec(twin).spec), "");
    expect_tensors_of(twin, file);
  }
}

INSTANTIATE_TEST_SUITE_P(Tiny, Folders,
                         testing::Values("llama2", "llama31", "qwen2", "qwen3", "qwen3_yarn", "gemma3"),
                         [](const auto& which) { return which.param; });

TEST(QuantizedGguf, KeepsMetadataAndEveryNumberThatIsNoMatrix) {
  const TemporaryFolder folder;
  const auto from = data_file("gguf/llama31.gguf"), to = folder / "x.gguf";
  quantize_gguf(from, Format::q8_0, to, {});
  const auto before = open_gguf(from), after = open_gguf(to);
  for (const auto& [key, value] : before.entries) {
    const auto same = std::ranges::find(after.entries, key, &io::GgufEntry::key);
    ASSERT_NE(same, after.entries.end()) << key;
    if (key != "general.file_type" && key != "general.quantization_version") {
      EXPECT_TRUE(std::ranges::equal(value, same->encoded)) << key;
    }
  }
  EXPECT_EQ(after.get<std::int64_t>("general.file_type"), 7);
  EXPECT_EQ(after.get<std::int64_t>("general.quantization_version"), 2);
  for (const auto& [name, tensor] : before.weights.tensors()) {
    const auto& found = *after.weights.find(name);
    if (tensor.rows() == 1) {
      EXPECT_EQ(found.format, tensor.format) << name;
      EXPECT_EQ(numbers_of(after.weights, found), numbers_of(before.weights, tensor)) << name;
    } else {
      EXPECT_EQ(found.format, Format::q8_0) << name;
    }
  }
  expect_tensors_of(from, to);
}

TEST(QuantizedGguf, HasTheTypesThatLlamaQuantizeChooses) {
  const TemporaryFolder folder;
  const auto from = data_file("gguf/llama2.gguf");  // rows of 64 and 96, embeddings apart
  const auto types = [&](Format type) {
    const auto to = folder / std::string(name_of(type));
    quantize_gguf(from, type, to, {});
    const auto file = open_gguf(to);
    const auto of = [&](const char* name) { return file.weights.find(name)->format; };
    return std::vector{of("token_embd.weight"), of("blk.0.attn_q.weight"), of("blk.0.ffn_down.weight"),
                       of("output.weight"), of("blk.0.attn_norm.weight")};
  };
  using F = Format;
  EXPECT_EQ(types(F::q8_0), (std::vector{F::q8_0, F::q8_0, F::q8_0, F::q8_0, F::f32}));
  EXPECT_EQ(types(F::q4_0), (std::vector{F::q4_0, F::q4_0, F::q4_0, F::q8_0, F::f32}));
  EXPECT_EQ(types(F::q4_k), (std::vector{F::q5_0, F::q5_0, F::q5_0, F::q8_0, F::f32}));
  EXPECT_EQ(types(F::q6_k), (std::vector{F::q8_0, F::q8_0, F::q8_0, F::q8_0, F::f32}));
}

TEST(QuantizedGguf, TellsOfOtherTypesAndOfBlocksThatWereQuantizedBefore) {
  const TemporaryFolder folder;
  const auto notes = quantize_gguf(data_file("gguf/llama2.gguf"), Format::q4_k, folder / "a.gguf", {});
  EXPECT_THAT(notes, testing::Contains(testing::AllOf(HasSubstr("became q5_0"), HasSubstr("256 q4_k"))));
  EXPECT_THAT(notes, testing::Contains(testing::AllOf(HasSubstr("were q4_1 before"), HasSubstr("errors of both"))));
  const auto odd = quantize_folder(data_file("tiny/gemma3"), Format::q4_0, folder / "b.gguf", no_tokenizer, {});
  EXPECT_THAT(odd, testing::Contains(testing::AllOf(HasSubstr("became f16"), HasSubstr("32 q4_0"))));
}

TEST(QuantizedGguf, IsRefusedWhereAFileIsThereOrTheModelIsNotKnown) {
  const TemporaryFolder folder;
  const auto to = folder / "x.gguf";
  const auto convert = [&](const char* model) {
    return [&to, model] { quantize_folder(data_file(model), Format::q8_0, to, no_tokenizer, {}); };
  };
  EXPECT_THAT(convert("tiny/phi"), Refuses({"config.json", "'phi'", "llama, qwen and gemma3"}));
  EXPECT_THAT(convert("tiny/mistral"), Refuses({"config.json", "cannot say", "window", "8"}));
  EXPECT_THAT(convert("tiny/llama_dynamic"), Refuses({"config.json", "cannot say", "RoPE"}));
  EXPECT_FALSE(std::filesystem::exists(to));
  EXPECT_THAT([&] { quantize_gguf(data_file("gguf/llama2.gguf"), Format::q5_k, to, {}); },
              Refuses<UsageError>({"q5_k", "q8_0, q4_0, q4_k and q6_k"}));
  test::write_file(to, "mine");
  EXPECT_THAT([&] { quantize_gguf(data_file("gguf/llama2.gguf"), Format::q8_0, to, {}); },
              Refuses<UsageError>({"x.gguf", "already there"}));
  EXPECT_EQ(test::contents_of(to), "mine");
}

TEST(QuantizedGguf, IsRefusedOfWeightsThatAreNotFinite) {
  const TemporaryFolder folder;
  for (const auto& entry : std::filesystem::directory_iterator(data_file("tiny/llama_bias")))
    std::filesystem::copy(entry.path(), folder.path());
  auto bytes = test::contents_of(folder / "model.safetensors");  // f32
  const auto infinity = test::bytes_of(INFINITY);
  for (std::size_t i = bytes.size() - 4096; i + 4 <= bytes.size(); i += 4) bytes.replace(i, 4, infinity);
  test::write_file(folder / "model.safetensors", bytes);
  EXPECT_THAT([&] { quantize_folder(folder.path(), Format::q8_0, folder / "x.gguf", no_tokenizer, {}); },
              Refuses({"model.safetensors", "not finite"}));
}

}  // namespace
