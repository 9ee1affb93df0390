// What a rank holds in memory of what files store.
#include "support/files.hpp"

#include <grist/backends/matvec.hpp>
#include <grist/backends/threads.hpp>
#include <grist/core/interleaved_rows.hpp>
#include <grist/io/gguf.hpp>
#include <grist/model/family.hpp>
#include <grist/model/gguf_conversion.hpp>
#include <grist/model/parameters.hpp>

#include <gtest/gtest.h>

#include <support/views.hpp>

namespace {

using namespace grist;

/// A row-parallel matrix of 3 x 256 that is a tensor of types.gguf.
TensorTable table_of(const std::string& tensor) {
  TensorRow row{.parts = {{3, Split::output, 1, {{.tensor = tensor, .shape = {3, 256}}}}}, .columns = 256};
  row.column_split = Split::heads;
  row.column_unit = 32;
  TensorTable table;
  table.layers.resize(3);
  table.layers[1].o = row;
  return table;
}

/// Columns that a rank takes may begin and end within a block of the file, where weights are converted.
TEST(Parameters, ConvertedColumnsAreTheRightOnesWhereverBlocksBegin) {
  const auto gguf = io::open_gguf(test::data_file("gguf/types.gguf"));
  for (const auto& [name, tensor] : gguf.weights.tensors()) {
    if (tensor.shape != std::vector<Index>{3, 256}) continue;
    const auto table = table_of(name);
    Shard shard;
    shard.layers.resize(3);
    shard.layers[1].heads = {3, 6};  // columns 96 ... 192
    const Parameters parameters(gguf.weights, table, "", {1, 2}, shard, {.weights = WeightStorage::f32}, {});
    const Weight& weight = parameters.tensors().layers[1].o;
    ASSERT_EQ(weight.rows, 3) << name;
    ASSERT_EQ(weight.columns, 96) << name;
    std::vector<float> expected(3 * 96);
    gguf.weights.read(tensor, {0, 3, 96, 96}, expected.data());
    const View2<const float> held(static_cast<const float*>(weight.panel[0].data), 3, 96);
    const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, held);
    for (Index i = 0; i < 3 * 96; ++i) EXPECT_EQ(host.data()[i], expected[static_cast<std::size_t>(i)]) << name;
  }
}

/// What the panels of a weight hold in q8_0, row by row.
std::vector<float> numbers_of(const Weight& weight) {
  const Index row_blocks = weight.columns / Q8_0::elements;
  std::vector<float> numbers;
  for (int p = 0; p < weight.panels; ++p) {
    const Panel& panel = weight.panel[p];
    const Index rows = weight.experts * panel.rows;
    std::vector<Q8_0> blocks(static_cast<std::size_t>(rows * row_blocks));
    const auto size = blocks.size() * sizeof(Q8_0);
    Kokkos::deep_copy(test::HostView<std::byte>(reinterpret_cast<std::byte*>(blocks.data()), size),
                      View1<const std::byte>(static_cast<const std::byte*>(panel.data), size));
    for (Index row = 0; row < rows; ++row)
      for (Index block = 0; block < row_blocks; ++block) {
        numbers.resize(numbers.size() + Q8_0::elements);
        (panel.interleaved ? interleaved_block(blocks.data(), row_blocks, row, block)
                           : blocks[static_cast<std::size_t>(row * row_blocks + block)])
            .decode(numbers.data() + numbers.size() - Q8_0::elements);
      }
  }
  return numbers;
}

/// Loads in q8_0, for activations in bf16 and in f32; their weights are given to f in turn.
template <class F>
void with_both(const io::Weights& weights, const TensorTable& table, const std::string& base, const Shard& shard,
               F&& f) {
  const Range layers{0, static_cast<Index>(table.layers.size())};
  const WeightStorage q8_0 = WeightStorage::q8_0;
  const Parameters rounded(weights, table, base, layers, shard, {.type = DType::bf16, .weights = q8_0}, {});
  const Parameters plain(weights, table, base, layers, shard, {.type = DType::f32, .weights = q8_0}, {});
  for (std::size_t layer = 0; layer < table.layers.size(); ++layer)
    each_tensor(f, rounded.tensors().layers[layer], plain.tensors().layers[layer]);
}

/// Of fused projections and of rows that files hold in another order too.
TEST(Parameters, BlocksAreInterleavedWhereProductsReadThemFasterSo) {
  const auto files = open_model(test::data_file("gguf/llama2.gguf"));
  int found = 0;
  with_both(files.weights, tensor_table(files.spec, files.names), files.names.base, shard_of(files.spec, 1, 0),
            [&](const Weight& a, const Weight& b) {
              if (a.empty() || a.panel[0].format != Format::q8_0) return;
              for (int p = 0; p < a.panels; ++p) {
                EXPECT_EQ(a.panel[p].interleaved, reads_interleaved(DType::bf16, Format::q8_0));
                EXPECT_FALSE(b.panel[p].interleaved);
              }
              EXPECT_EQ(numbers_of(a), numbers_of(b));
              ++found;
            });
  EXPECT_EQ(found, 3 * 4);  // q|k|v, o, gate|up, down
}

TEST(Parameters, RowsOfExpertsAreInterleavedExpertByExpert) {
  const auto gguf = io::open_gguf(test::data_file("gguf/llama2.gguf"));
  TensorTable table;
  table.layers.resize(1);
  for (const Index rows : {16, 8}) {  // four experts or eight
    const Source source{.tensor = "blk.0.ffn_down.weight", .shape = {64, 96}, .expert_rows = rows};
    table.layers[0].o = TensorRow{.parts = {{rows, Split::whole, 1, {source}}}, .columns = 96, .experts = 64 / rows};
    Shard shard;
    shard.layers.resize(1);
    shard.layers[0].experts = {1, 64 / rows};  // of which the first is another rank's
    int found = 0;
    with_both(gguf.weights, table, "", shard, [&](const Weight& a, const Weight& b) {
      if (a.empty()) return;
      ++found;
      EXPECT_EQ(a.experts, 64 / rows - 1);
      EXPECT_EQ(a.panel[0].interleaved, rows == 16 && reads_interleaved(DType::bf16, Format::q8_0));
      EXPECT_EQ(numbers_of(a), numbers_of(b));
    });
    EXPECT_EQ(found, 1);
  }
}

/// Rows that are looked up are read one by one; a head that shares them, on a stage with both ends, multiplies.
TEST(Parameters, AnEmbeddingIsInterleavedWhereItIsTheHeadToo) {
  const auto gguf = io::open_gguf(test::data_file("gguf/llama2.gguf"));
  const Source source{.tensor = "token_embd.weight", .shape = {288, 64}};
  for (const bool tied : {false, true}) {
    TensorTable table;
    table.layers.resize(2);
    table.embedding = TensorRow{.parts = {{288, Split::whole, 1, {source}}}, .columns = 64};
    if (tied) {
      table.head = table.embedding;
      table.head.tied = true;
    }
    Shard shard;
    shard.layers.resize(2);
    for (const Index end : {1, 2}) {
      const Parameters parameters(gguf.weights, table, "", {0, end}, shard,
                                  {.type = DType::bf16, .weights = WeightStorage::q8_0}, {});
      const Weight& embedding = parameters.tensors().embedding;
      EXPECT_EQ(embedding.panel[0].interleaved, tied && end == 2 && reads_interleaved(DType::bf16, Format::q8_0))
          << "tied " << tied << ", " << end << " layers";
      EXPECT_EQ(parameters.tensors().head.panel[0].data, tied && end == 2 ? embedding.panel[0].data : nullptr);
    }
  }
}

/// Of files in blocks: rows that the file holds in order are read there at first. A head that is the embedding goes
/// with it.
TEST(Parameters, RowsOfMappedBlocksAreInterleavedPieceByPiece) {
  if (!host_reaches_memory || !one_memory_node()) GTEST_SKIP() << "weights are copied while they are loaded";
  const test::TemporaryFolder folder;
  const auto file = folder / "q8_0.gguf";
  quantize_folder(test::data_file("tiny/llama31"), Format::q8_0, file, [](io::GgufWriter&, const ModelFiles&) {}, {});
  const auto files = open_model(file);
  const auto table = tensor_table(files.spec, files.names);
  ASSERT_TRUE(table.head.tied);
  const Shard shard = shard_of(files.spec, 1, 0);
  const Range layers{0, files.spec.layer_count()};
  const ModelNumbers numbers{.type = DType::bf16};
  Parameters parameters(files.weights, table, files.names.base, layers, shard, numbers, {});
  const Parameters plain(files.weights, table, files.names.base, layers, shard, {.type = DType::f32}, {});
  EXPECT_FALSE(plain.waiting());
  const auto interleaved = [&] {
    int count = 0;
    const auto compare = [&](const Weight& a, const Weight& b) {
      if (a.empty() || a.panel[0].format != Format::q8_0) return;
      EXPECT_EQ(numbers_of(a), numbers_of(b));
      for (int p = 0; p < a.panels; ++p) count += a.panel[p].interleaved;
    };
    for (std::size_t layer = 0; layer < table.layers.size(); ++layer)
      each_tensor(compare, parameters.tensors().layers[layer], plain.tensors().layers[layer]);
    compare(parameters.tensors().head, plain.tensors().head);
    EXPECT_EQ(parameters.tensors().head.panel[0].data, parameters.tensors().embedding.panel[0].data);
    return count;
  };
  const bool some = reads_interleaved(numbers.type, Format::q8_0);
  const int panels = 7 * static_cast<int>(layers.size()) + 1;  // q, k, v, o, gate, up, down; the head
  EXPECT_EQ(parameters.waiting(), some);
  EXPECT_EQ(interleaved(), some ? 2 * std::ssize(table.layers) : 0);  // q and k, whose rows the file orders by pairs
  int steps = 0;
  for (int before = interleaved(); parameters.waiting(); ++steps) {
    parameters.interleave_some();
    const int now = interleaved();
    EXPECT_GT(now, before);
    before = now;
  }
  EXPECT_EQ(interleaved(), some ? panels : 0);
  EXPECT_EQ(steps > 2, some);
  EXPECT_LE(steps, 8);
  Parameters at_once(files.weights, table, files.names.base, layers, shard, numbers, {});
  at_once.interleave_all();
  EXPECT_FALSE(at_once.waiting());
  EXPECT_EQ(at_once.tensors().head.panel[0].interleaved, some);
}

}  // namespace
