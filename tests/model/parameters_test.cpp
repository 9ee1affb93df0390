// What a rank holds in memory of what files store.
#include "support/files.hpp"

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
    const Parameters parameters(gguf.weights, table, "", {1, 2}, shard, WeightStorage::f32, {});
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

}  // namespace
