// What a rank holds in memory of what files store.
#include "support/files.hpp"

#include <grist/backends/matvec.hpp>
#include <grist/core/interleaved_rows.hpp>
#include <grist/io/gguf.hpp>
#include <grist/model/parameters.hpp>

#include <gtest/gtest.h>

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

/// Blocks of rows that are a multiple of sixteen are interleaved where products read them so; the numbers are the same.
TEST(Parameters, BlocksAreInterleavedWhereProductsReadThemFasterSo) {
  const auto gguf = io::open_gguf(test::data_file("gguf/llama2.gguf"));
  const std::string name = "blk.0.ffn_gate.weight";
  const auto* tensor = gguf.weights.find(name);
  ASSERT_NE(tensor, nullptr);
  const Index rows = tensor->rows(), columns = tensor->columns(), row_blocks = columns / Q8_0::elements;
  ASSERT_EQ(rows % interleaved_rows, 0);
  TensorTable table;
  table.layers.resize(1);
  table.layers[0].o =
      TensorRow{.parts = {{rows, Split::whole, 1, {{.tensor = name, .shape = {rows, columns}}}}}, .columns = columns};
  Shard shard;
  shard.layers.resize(1);
  const auto numbers_of = [&](DType activations) {
    const Parameters parameters(gguf.weights, table, "", {0, 1}, shard,
                                {.type = activations, .weights = WeightStorage::q8_0}, {});
    const Panel panel = parameters.tensors().layers[0].o.panel[0];
    EXPECT_EQ(panel.interleaved, reads_interleaved(activations, Format::q8_0));
    std::vector<Q8_0> blocks(static_cast<std::size_t>(rows * row_blocks));
    const auto size = blocks.size() * sizeof(Q8_0);
    Kokkos::deep_copy(HostView<std::byte>(reinterpret_cast<std::byte*>(blocks.data()), size),
                      View1<const std::byte>(static_cast<const std::byte*>(panel.data), size));
    std::vector<float> numbers(static_cast<std::size_t>(rows * columns));
    for (Index row = 0; row < rows; ++row)
      for (Index block = 0; block < row_blocks; ++block)
        (panel.interleaved ? interleaved_block(blocks.data(), row_blocks, row, block)
                           : blocks[static_cast<std::size_t>(row * row_blocks + block)])
            .decode(&numbers[static_cast<std::size_t>(row * columns + block * Q8_0::elements)]);
    return numbers;
  };
  EXPECT_EQ(numbers_of(DType::bf16), numbers_of(DType::f32));
}

}  // namespace
