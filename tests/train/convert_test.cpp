// From Hugging Face folders to checkpoints and back: the same weights, in as many shards as asked for.
#include "stored_model.hpp"
#include "support/refuses.hpp"

#include <grist/core/errors.hpp>
#include <grist/hdf5/hdf5_file.hpp>
#include <grist/io/safetensors.hpp>
#include <grist/train/checkpoint_convert.hpp>

#include <nlohmann/json.hpp>

namespace {

using namespace grist;
using test::Refuses;
namespace fs = std::filesystem;

std::vector<float> weights_of(const fs::path& folder) {
  const auto files = open_model(folder);
  const auto table = tensor_table(files.spec, files.names);
  const Range layers{0, files.spec.layer_count()};
  const auto shard = shard_of(files.spec, 1, 0);
  auto blocks = make_blocks(table, layers, shard);
  load_blocks(blocks, files, table, layers, shard);
  return test::values_of(blocks.flat());
}

class Convert : public testing::TestWithParam<const char*> {};

TEST_P(Convert, ThereAndBackGivesTheSameWeights) {
  const auto original = test::data_file(std::string("tiny/") + GetParam());
  const test::TemporaryFolder folder;
  const Exec exec;
  convert_to_checkpoint(exec, original, folder / "x.h5", DType::f32, {});
  convert_to_folder(folder / "x.h5", folder / "whole", {}, 1 << 30, {});
  convert_to_folder(folder / "x.h5", folder / "shards", {}, 20000, {});
  const auto expected = weights_of(original);
  EXPECT_EQ(weights_of(folder / "whole"), expected);
  EXPECT_EQ(weights_of(folder / "shards"), expected);
  EXPECT_TRUE(fs::exists(folder / "whole/model.safetensors"));
  EXPECT_FALSE(fs::exists(folder / "whole/model.safetensors.index.json"));

  const auto index = nlohmann::json::parse(test::contents_of(folder / "shards/model.safetensors.index.json"));
  std::uint64_t bytes = 0;
  const auto shards = io::open_safetensors(folder / "shards");
  for (const auto& [name, tensor] : shards.tensors()) bytes += tensor.bytes();
  EXPECT_EQ(index.at("metadata").at("total_size"), bytes);
  int files = 0;
  for (const auto& entry : fs::directory_iterator(folder / "shards"))
    files += entry.path().extension() == ".safetensors";
  EXPECT_GT(files, 2);
  EXPECT_THAT(index.at("weight_map").begin()->get<std::string>(),
              testing::EndsWith(std::format("-of-{:05}.safetensors", files)));
}

INSTANTIATE_TEST_SUITE_P(Families, Convert,
                         testing::Values("llama2", "bloom_hub", "mixtral", "gpt2_hub", "gemma2", "qwen3_moe_fused"));

TEST(ConvertTypes, AreRoundedOnceAndStoredAsBfloat16) {
  const test::TemporaryFolder folder;
  const Exec exec;
  const auto original = test::data_file("tiny/gemma2");
  convert_to_checkpoint(exec, original, folder / "x.h5", DType::bf16, {});
  EXPECT_EQ(io::Hdf5File::open(folder / "x.h5").tensor("/model/model.norm.weight").type, DType::bf16);
  convert_to_folder(folder / "x.h5", folder / "as_stored", {}, 1 << 30, {});
  convert_to_folder(folder / "x.h5", folder / "f32", DType::f32, 1 << 30, {});
  const auto format = [](const fs::path& path) { return io::open_safetensors(path).tensors().begin()->second.format; };
  EXPECT_EQ(format(folder / "as_stored"), Format::bf16);
  EXPECT_EQ(format(folder / "f32"), Format::f32);
  const auto exact = weights_of(original), rounded = weights_of(folder / "f32");
  for (std::size_t i = 0; i < exact.size(); ++i) ASSERT_EQ(rounded[i], static_cast<float>(bf16(exact[i]))) << i;
}

TEST(ConvertErrors, AreOneLine) {
  const test::TemporaryFolder folder;
  const Exec exec;
  convert_to_checkpoint(exec, test::data_file("tiny/llama2"), folder / "x.h5", DType::f32, {});
  convert_to_folder(folder / "x.h5", folder / "out", {}, 1 << 30, {});
  EXPECT_THAT([&] { convert_to_folder(folder / "x.h5", folder / "out", {}, 1 << 30, {}); },
              Refuses<UsageError>({"out", "already holds"}));
  EXPECT_THAT([&] { convert_to_checkpoint(exec, folder.path(), folder / "y.h5", DType::f32, {}); },
              Refuses({"config.json"}));
  auto bytes = test::contents_of(folder / "x.h5");
  bytes[bytes.size() - 1000] ^= 1;
  folder.write("flipped.h5", bytes);
  EXPECT_THAT([&] { convert_to_folder(folder / "flipped.h5", folder / "new", {}, 1 << 30, {}); },
              Refuses({"flipped.h5", "damaged"}));
  EXPECT_FALSE(fs::exists(folder / "new/model.safetensors")) << "what is damaged is not passed on";
}

}  // namespace
