// Checkpoints load at any layout, bit for bit, and what is broken is refused in one line.
#include "hdf5_edit.hpp"
#include "stored_model.hpp"
#include "support/file_limit.hpp"
#include "support/refuses.hpp"
#include "support/shared_folder.hpp"

#include <grist/core/errors.hpp>
#include <grist/hdf5/hdf5_file.hpp>
#include <grist/model/model_parts.hpp>
#include <grist/train/checkpoint_folder.hpp>
#include <grist/train/checkpoint_piece.hpp>

#include <algorithm>
#include <cstdlib>

namespace {

using namespace grist;
using test::Refuses;
using test::StoredModel;
using test::values_of;

// Not in a test's body: nvcc takes no lambda of a device in a private member.
void scale(View1<float> values, float factor) {
  Kokkos::parallel_for("grist::test::scale", Indices<Exec>(0, static_cast<Index>(values.size())),
                       KOKKOS_LAMBDA(Index i) { values(i) *= factor; });
}

void number(View1<float> values) {
  Kokkos::parallel_for("grist::test::number", Indices<Exec>(0, static_cast<Index>(values.size())),
                       KOKKOS_LAMBDA(Index i) { values(i) = static_cast<float>(i % 9973); });
}

class Checkpoint : public testing::TestWithParam<const char*> {
protected:
  Checkpoint()
      : files(open_model(test::data_file(std::string("tiny/") + GetParam()))),
        table(tensor_table(files.spec, files.names)) {}

  ModelFiles files;
  TensorTable table;
  test::SharedFolder folder;
  Exec exec;
};

/// All checksums of a checkpoint.
std::vector<std::int64_t> checksums_of(const std::filesystem::path& path, const std::vector<FileTensor>& tensors) {
  const auto file = io::Hdf5File::open(path);
  std::vector<std::int64_t> sums;
  for (const auto& tensor : tensors)
    for (const char* group : {"/model/", "/optimizer/m/", "/optimizer/v/"})
      sums.push_back(file.read_integer(group + tensor.name, "checksum"));
  return sums;
}

TEST_P(Checkpoint, SavedAtOneLayoutIsTheSameAtAnother) {
  const auto layouts = test::training_layouts(files.spec);
  ASSERT_FALSE(layouts.empty());
  std::vector<std::int64_t> checksums;
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const auto &from = layouts[i], &to = layouts[(i + 1) % layouts.size()];
    SCOPED_TRACE(to_string(from) + " to " + to_string(to));
    const auto file = folder / "model.h5";
    {
      StoredModel model(files, table, from);
      model.fill();
      save_checkpoint(exec, file, *model.where, from.dp > 1 ? model.sharded_groups() : model.groups(),
                      test::a_state(3), model.grid);
      const auto sums = checksums_of(file, model.where->tensors());
      if (checksums.empty()) checksums = sums;
      EXPECT_EQ(sums, checksums) << "they do not depend on the layout";
      EXPECT_EQ(std::ranges::count(sums, 0), 0);
    }
    StoredModel expected(files, table, to), model(files, table, to);
    expected.fill();
    EXPECT_NE(values_of(model.weights.flat()), values_of(expected.weights.flat())) << "fresh, before loading";
    const auto state = load_checkpoint(exec, file, *model.where, model.groups(), model.grid);
    EXPECT_EQ(values_of(model.weights.flat()), values_of(expected.weights.flat()));
    EXPECT_EQ(values_of(model.m.flat()), values_of(expected.m.flat()));
    EXPECT_EQ(values_of(model.v.flat()), values_of(expected.v.flat()));
    EXPECT_EQ(state.step, 3);
    if (to.dp == 1) continue;
    StoredModel ranges(files, table, to);  // with ZeRO-1 each rank reads its range alone
    load_checkpoint(exec, file, *ranges.where, ranges.sharded_groups(), ranges.grid);
    EXPECT_EQ(values_of(ranges.sharded_groups()[1].values), values_of(expected.sharded_groups()[1].values));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Checkpoint,
                         testing::Values("llama2", "bloom", "mixtral", "gpt2", "gemma2", "qwen3_moe_fused"));

/// One small model, saved once by all ranks at dp, for what is refused.
class SavedCheckpoint : public testing::Test {
protected:
  SavedCheckpoint()
      : files(open_model(test::data_file("tiny/llama2"))),
        table(tensor_table(files.spec, files.names)),
        model(files, table, {.dp = test::ranks()}),
        file(folder / "model.h5") {
    model.fill();
    save_checkpoint(exec, file, *model.where, model.groups(), test::a_state(3), model.grid);
  }

  void load(const std::filesystem::path& path) {
    load_checkpoint(exec, path, *model.where, model.groups(), model.grid);
  }
  /// A copy that the first rank changes.
  template <class F>
  std::filesystem::path changed(F&& change) {
    const auto copy = folder / "changed.h5";
    model.grid.world().barrier();
    if (model.grid.world().rank() == 0) {
      std::filesystem::copy_file(file, copy, std::filesystem::copy_options::overwrite_existing);
      change(copy);
    }
    model.grid.world().barrier();
    return copy;
  }

  ModelFiles files;
  TensorTable table;
  test::SharedFolder folder;
  StoredModel model;
  std::filesystem::path file;
  Exec exec;
};

TEST_F(SavedCheckpoint, KeepsTheStateOfTheRun) {
  const auto state = read_training_state(file);
  const auto expected = test::a_state(3);
  EXPECT_EQ(state.step, expected.step);
  EXPECT_EQ(state.tokens, expected.tokens);
  EXPECT_EQ(state.seed, expected.seed);
  EXPECT_EQ(state.integers, expected.integers);
  EXPECT_EQ(state.reals, expected.reals);
  EXPECT_EQ(state.configuration, expected.configuration);
  EXPECT_EQ(state.model_config, expected.model_config);
  EXPECT_FALSE(std::filesystem::exists(file.string() + ".part"));
}

TEST_F(SavedCheckpoint, AFlippedBitOfANumberIsFound) {
  const std::string name = "/model/model.layers.1.mlp.up_proj.weight";
  const auto copy = changed([&](const auto& path) {
    const auto bytes = test::contents_of(path);
    const auto at = test::place_of(path, name) + 12345;
    test::write_file(path, bytes.substr(0, at) + static_cast<char>(bytes[at] ^ 4) + bytes.substr(at + 1));
  });
  EXPECT_THAT([&] { load(copy); }, Refuses({"changed.h5", name, "damaged", "expected", "found"}));
  EXPECT_NO_THROW(load_checkpoint(exec, copy, *model.where, model.groups(), model.grid, false)) << "not on request";
}

TEST_F(SavedCheckpoint, AFlippedBitOfTheStateIsFound) {
  const auto copy = changed([&](const auto& path) {
    auto bytes = test::contents_of(path);
    const auto at = bytes.find(R"({"lr": 0.1})");
    ASSERT_NE(at, std::string::npos);
    bytes[at + 7] ^= 1;
    test::write_file(path, bytes);
  });
  EXPECT_THAT([&] { load(copy); }, Refuses({"changed.h5", "/train/configuration", "damaged"}));
}

TEST_F(SavedCheckpoint, ATruncatedFileIsRefused) {
  const auto copy = changed(
      [](const auto& path) { std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2); });
  EXPECT_THAT([&] { load(copy); }, Refuses({"changed.h5", "no complete HDF5 file"}));
}

TEST_F(SavedCheckpoint, MissingAndUnknownTensorsAreNamed) {
  const std::string name = "/optimizer/m/model.norm.weight";
  EXPECT_THAT([&] { load(changed([&](const auto& path) { test::remove_object(path, name); })); },
              Refuses({"changed.h5", "model.norm.weight", "missing", "/optimizer/m"}));
  EXPECT_THAT([&] { load(changed([&](const auto& path) { test::remove_object(path, "/optimizer/v"); })); },
              Refuses({"changed.h5", "holds no '/optimizer/v'"}));
  EXPECT_THAT([&] { load(changed([&](const auto& path) { test::rename_object(path, name, name + "2"); })); },
              Refuses({"changed.h5", "model.norm.weight", "missing"}));
}

TEST_F(SavedCheckpoint, AnotherModelIsRefused) {
  const auto other = open_model(test::data_file("tiny/gpt2"));
  const auto other_table = tensor_table(other.spec, other.names);
  StoredModel gpt2(other, other_table, {.dp = test::ranks()});
  EXPECT_THAT([&] { load_checkpoint(exec, file, *gpt2.where, gpt2.groups(), gpt2.grid); },
              Refuses({"model.h5", "missing", "/model"}));
  ModelFiles wider = open_model(test::data_file("tiny/llama2"));
  for (auto& layer : wider.spec.layers) layer.mlp.intermediate_size *= 2;
  const auto wide_table = tensor_table(wider.spec, wider.names);
  StoredModel wide(wider, wide_table, {.dp = test::ranks()});
  EXPECT_THAT([&] { load_checkpoint(exec, file, *wide.where, wide.groups(), wide.grid); },
              Refuses({"model.h5", "mlp", "shape", "wants"}));
}

TEST_F(SavedCheckpoint, OtherFilesAreRefused) {
  EXPECT_THAT([&] { load(test::data_file("tiny/llama2/config.json")); }, Refuses({"config.json", "no complete HDF5"}));
  EXPECT_THAT([&] { load(folder / "nowhere.h5"); }, Refuses({"nowhere.h5", "No such file"}));
  if (test::ranks() > 1) return;
  io::Hdf5File::create(folder / "plain.h5", comm_self()).close();
  EXPECT_THAT([&] { load(folder / "plain.h5"); }, Refuses({"plain.h5", "no checkpoint of grist"}));
}

TEST_F(SavedCheckpoint, WeightsMayBeStoredInBf16) {
  auto groups = model.groups();
  groups[0].type = DType::bf16;
  scale(model.weights.flat(), 1.001F);
  const auto before = values_of(model.weights.flat());
  save_checkpoint(exec, folder / "half.h5", *model.where, groups, test::a_state(1), model.grid);
  load(folder / "half.h5");
  const auto after = values_of(model.weights.flat());
  for (std::size_t i = 0; i < before.size(); ++i) ASSERT_EQ(after[i], static_cast<float>(bf16(before[i]))) << i;
  EXPECT_EQ(io::Hdf5File::open(folder / "half.h5").tensor("/model/model.norm.weight").type, DType::bf16);
  EXPECT_NE(before, after);
}

TEST_F(SavedCheckpoint, ASaveThatFailsLeavesTheLastOne) {
  const auto nowhere = folder / "no_folder/model.h5";
  EXPECT_THAT([&] { save_checkpoint(exec, nowhere, *model.where, model.groups(), test::a_state(4), model.grid); },
              Refuses({"no_folder/model.h5.part", "No such file"}));
  {
    const test::FileLimit full(100000);  // as a full disk, or a quota
    EXPECT_THAT([&] { save_checkpoint(exec, file, *model.where, model.groups(), test::a_state(4), model.grid); },
                Refuses({"model.h5.part"}));
  }
  EXPECT_FALSE(std::filesystem::exists(file.string() + ".part"));
  EXPECT_NO_THROW(load(file));
  save_checkpoint(exec, file, *model.where, model.groups(), test::a_state(4), model.grid);
  EXPECT_EQ(read_training_state(file).step, 4);
}

TEST_F(SavedCheckpoint, RangesThatDoNotTileAreRefusedBeforeAByteIsWritten) {
  auto groups = model.groups();
  groups[1].values = Kokkos::subview(groups[1].values, std::pair(Index{0}, Index{64}));
  EXPECT_THAT([&] { save_checkpoint(exec, folder / "x.h5", *model.where, groups, test::a_state(1), model.grid); },
              Refuses<InternalError>({"optimizer/m"}));
  EXPECT_FALSE(std::filesystem::exists(folder / "x.h5.part"));
}

/// What a rank of a layout holds of a model's weights, drawn from a seed.
struct DrawnModel {
  DrawnModel(const ModelFiles& files, const TensorTable& table, const Layout& layout)
      : grid(test::world(), layout), shards(shards_of(files.spec, layout.tp, RowParallel::reduce)),
        layers(stages_of(files.spec, layout.pp)[static_cast<std::size_t>(grid.pp().rank())]),
        weights(make_blocks(table, layers, shards[static_cast<std::size_t>(grid.tp().rank())])),
        where(table, {layers}, shards, grid.tp().rank(), weights) {}

  ProcessGrid grid;
  std::vector<Shard> shards;
  Range layers;
  TensorBlocks weights;
  CheckpointLayout where;
};

/// A model whose embedding alone is more than one transfer, on all ranks at once.
TEST(LargeCheckpoint, HoldsATensorOfSeveralTransfers) {
  const Exec exec;
  const test::SharedFolder folder;
  const auto config = folder / "config.json", file = folder / "model.h5";
  const Communicator world(test::world());
  if (world.rank() == 0)
    test::write_file(config, R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 262200,
      "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
      "intermediate_size": 64, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
      "hidden_act": "silu", "tie_word_embeddings": true})");
  world.barrier();
  const auto files = read_spec(config);
  const auto table = tensor_table(files.spec, files.names);
  ASSERT_GT(pieces_of({262200, 64}).size(), 1U);
  for (const Layout& layout : {Layout{.tp = test::ranks()}, Layout{.dp = test::ranks()}, Layout{.pp = test::ranks()}}) {
    SCOPED_TRACE(to_string(layout));
    DrawnModel model(files, table, layout), loaded(files, table, layout);
    const auto values = model.weights.flat();
    number(values);
    save_checkpoint(exec, file, model.where, {{"model", values}}, test::a_state(1), model.grid);
    load_checkpoint(exec, file, loaded.where, {{"model", loaded.weights.flat()}}, loaded.grid);
    if (model.grid.pp().rank() != 0) continue;
    // The embedding, which comes first: of other tensors, which ranks share, one rank's numbers were saved.
    const Index count = model.shards[static_cast<std::size_t>(model.grid.tp().rank())].vocabulary.size() * 64;
    const auto expected = values_of(values), found = values_of(loaded.weights.flat());
    EXPECT_TRUE(std::equal(expected.begin(), expected.begin() + count, found.begin()));
  }
}

/// Two tensors of 2.5 GB, on each of two ranks one, in a file of 5 GB: beyond what 32 bits count in bytes. Takes a
/// minute and 10 GB of disk: GRIST_LARGE_FILES=1 runs it.
TEST(LargeCheckpoint, HoldsTensorsBeyond2GiBAndFilesBeyond4GiB) {
  if (std::getenv("GRIST_LARGE_FILES") == nullptr || test::ranks() > 2) return;
  const Exec exec;
  const test::SharedFolder folder;
  const auto config = folder / "config.json", file = folder / "large.h5";
  if (Communicator(test::world()).rank() == 0)
    test::write_file(config, R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 300000,
      "hidden_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
      "intermediate_size": 64, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
      "hidden_act": "silu", "tie_word_embeddings": false})");
  Communicator(test::world()).barrier();
  const auto files = read_spec(config);
  const auto table = tensor_table(files.spec, files.names);
  std::vector<std::uint64_t> sums;  // of all bits that a rank holds, by place
  const auto sum_of = [](const DrawnModel& model) {
    const auto flat = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, model.weights.flat());
    return checksum_of(reinterpret_cast<const std::byte*>(flat.data()), DType::f32, 0, static_cast<Index>(flat.size()));
  };
  const Layout by_stages{.pp = test::ranks()}, by_rows{.tp = test::ranks()};
  {
    DrawnModel model(files, table, by_stages);
    initialize_blocks(model.weights, files, table, model.layers,
                      model.shards[static_cast<std::size_t>(model.grid.tp().rank())], 1);
    sums.push_back(sum_of(model));
    save_checkpoint(exec, file, model.where, {{"model", model.weights.flat()}}, test::a_state(1), model.grid);
  }
  EXPECT_GT(std::filesystem::file_size(file), std::uint64_t{1} << 32);
  for (const Layout& layout : {by_stages, by_rows}) {
    DrawnModel model(files, table, layout);
    load_checkpoint(exec, file, model.where, {{"model", model.weights.flat()}}, model.grid);  // with all checksums
    if (layout == by_stages) {
      EXPECT_EQ(sum_of(model), sums.front());
      continue;
    }
    save_checkpoint(exec, file, model.where, {{"model", model.weights.flat()}}, test::a_state(1), model.grid);
    DrawnModel again(files, table, layout);
    load_checkpoint(exec, file, again.where, {{"model", again.weights.flat()}}, again.grid);
    EXPECT_EQ(sum_of(again), sum_of(model));
  }
}

/// What MPI-IO is given at once is bounded, whatever a tensor's size.
TEST(CheckpointPieces, CoverEachRowOnceAndAreSmall) {
  for (const std::vector<Index>& shape : {std::vector<Index>{Index{1} << 33}, {Index{1} << 20, 8191}, {3, 1000, 40000},
                                          {piece_elements}, {piece_elements + 1}, {2, piece_elements}}) {
    const FileMatrix matrix(shape);
    Index row = 0;
    for (const Range& rows : pieces_of(shape)) {
      EXPECT_EQ(rows.begin, row);
      EXPECT_LE(rows.size() * matrix.width, piece_elements);
      row = rows.end;
    }
    EXPECT_EQ(row, matrix.rows);
  }
}

TEST(CheckpointTiling, ShardsThatDoNotTileAreRefusedByTheTensorsName) {
  const auto files = open_model(test::data_file("tiny/llama2"));
  const auto table = tensor_table(files.spec, files.names);
  std::vector<Shard> shards{shard_of(files.spec, 2, 0), shard_of(files.spec, 2, 1)};
  EXPECT_NO_THROW(check_tiling(table, shards));
  const auto with = [&](auto&& change) {
    auto changed = shards;
    change(changed[1]);
    return changed;
  };
  EXPECT_THAT([&] { check_tiling(table, with([](Shard& s) { --s.vocabulary.end; })); },
              Refuses<InternalError>({"model.embed_tokens.weight", "do not tile"}));
  EXPECT_THAT([&] { check_tiling(table, with([](Shard& s) { --s.layers[1].intermediate.begin; })); },
              Refuses<InternalError>({"model.layers.1.mlp.gate_proj.weight"}));
  auto wrong = table;
  wrong.layers[0].qkv.parts[1].sources[0].base = 1;
  EXPECT_THAT([&] { check_tiling(wrong, shards); }, Refuses<InternalError>({"model.layers.0.self_attn.k_proj.weight"}));
}

}  // namespace
