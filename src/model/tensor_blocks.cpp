#include <grist/model/tensor_blocks.hpp>

#include <grist/core/staging.hpp>
#include <grist/model/initialize.hpp>
#include <grist/model/part_reader.hpp>

#include <algorithm>

namespace grist {
namespace {

constexpr Index alignment = 64;  // elements

constexpr Index padded(Index size, Index multiple) { return (size + multiple - 1) / multiple * multiple; }

/// [experts, rows, columns] of what a rank holds of a tensor.
std::array<Index, 3> extents_of(const TensorRow& row, const Shard& shard, const LayerShard* layer) {
  std::array<Index, 3> extents{experts_of(row, layer).size(), 0, 0};
  for (const auto& part : row.parts) {
    const auto slice = slice_of(row, part, shard, layer);
    extents[1] += slice.rows;
    extents[2] = slice.columns;
  }
  return extents;
}

/// Fills a block by fill_row(part, expert held, row of the slice, out [columns]) on the threads of the host.
template <class F>
void fill_block(const TensorRow& row, const Shard& shard, const LayerShard* layer, View3<float> block, F&& fill_row) {
  const Index experts = static_cast<Index>(block.extent(0)), rows = static_cast<Index>(block.extent(1)),
              columns = static_cast<Index>(block.extent(2));
  const auto size = static_cast<Index>(block.size());
  const Buffer<float, Kokkos::HostSpace> staged("staged block", host_reaches_memory ? 0 : size);
  float* const target = host_reaches_memory ? block.data() : staged.data();
  Index first = 0;
  for (std::size_t p = 0; p < row.parts.size(); ++p) {
    const Index held = slice_of(row, row.parts[p], shard, layer).rows;
    Kokkos::parallel_for("grist::tensor_blocks::fill", Indices<HostExec>(0, experts * held), [&, first](Index i) {
      const Index expert = i / held, r = i % held;
      fill_row(p, expert, r, target + (expert * rows + first + r) * columns);
    });
    first += held;
  }
  HostExec().fence("grist::tensor_blocks: filled");
  if (!host_reaches_memory)
    Kokkos::deep_copy(View1<float>(block.data(), block.size()), staged.view());
}

float rounded(float value, Format stored) {
  if (stored == Format::bf16) return bf16(value);
  return stored == Format::f16 ? static_cast<float>(f16(value)) : value;
}

}  // namespace

Index block_elements(const TensorTable& table, const std::vector<Range>& ranges, const Shard& shard, Index pieces) {
  Index size = 0;
  for (const Range layers : ranges)
    each_row(table, layers, shard, [&](const TensorRow& row, const LayerShard* layer) {
      const auto [experts, rows, columns] = extents_of(row, shard, layer);
      size += padded(experts * rows * columns, alignment);
    });
  return padded(size, alignment * pieces);
}

TensorBlocks make_blocks(const TensorTable& table, const std::vector<Range>& ranges, const Shard& shard, Index pieces) {
  TensorBlocks blocks;
  auto& tensors = blocks.tensors;
  tensors.layers.resize(table.layers.size());
  blocks.memory = {"tensor blocks", block_elements(table, ranges, shard, pieces)};
  Kokkos::deep_copy(blocks.flat(), 0.0F);
  float* next = blocks.memory.data();
  for (const Range layers : ranges) {
    each_block(table, layers, shard, tensors,
               [&](const TensorRow& row, Index, const LayerShard* layer, View3<float>& block) {
                 const auto [experts, rows, columns] = extents_of(row, shard, layer);
                 block = View3<float>(next, experts, rows, columns);
                 next += padded(experts * rows * columns, alignment);
               });
    if (table.head.tied && layers.begin == 0 && layers.end == static_cast<Index>(table.layers.size()))
      tensors.head = tensors.embedding;
  }
  return blocks;
}

void load_blocks(TensorBlocks& blocks, const ModelFiles& files, const TensorTable& table, Range layers,
                 const Shard& shard) {
  const std::string& base = files.names.base;
  each_block(table, layers, shard, blocks.tensors,
             [&](const TensorRow& row, Index, const LayerShard* layer, View3<float> block) {
               if (row.vector) {
                 std::vector<std::vector<float>> parts;
                 for (const auto& part : row.parts)
                   parts.push_back(read_vector(files.weights, base, part, slice_of(row, part, shard, layer)));
                 return fill_block(row, shard, layer, block, [&](std::size_t part, Index, Index r, float* out) {
                   *out = parts[part][static_cast<std::size_t>(r)];
                 });
               }
               std::vector<PartReader> readers;
               for (const auto& part : row.parts) readers.emplace_back(files.weights, base, row, part, shard, layer);
               fill_block(row, shard, layer, block, [&](std::size_t part, Index expert, Index r, float* out) {
                 readers[part].read(expert, r, Format::f32, reinterpret_cast<std::byte*>(out));
               });
               for (const auto& reader : readers) reader.release();
             });
}

void initialize_blocks(TensorBlocks& blocks, const ModelFiles& files, const TensorTable& table, Range layers,
                       const Shard& shard, std::uint64_t seed) {
  each_block(
      table, layers, shard, blocks.tensors,
      [&](const TensorRow& row, Index, const LayerShard* layer, View3<float> block) {
        const Range experts = experts_of(row, layer);
        fill_block(row, shard, layer, block, [&](std::size_t p, Index held, Index r, float* out) {
          const TensorPart& part = row.parts[p];
          if (part.sources.empty()) {  // no file has it
            std::fill_n(out, slice_of(row, part, shard, layer).columns, 0.0F);
            return;
          }
          const Source& source = part.sources.front();
          const io::Slice slice = slice_of(row, part, shard, layer);
          const Index expert = experts.begin + held, from = slice.row + r;
          const Index first = source.element(expert, from, slice.column);
          const Index stride = source.element(expert, from, slice.column + 1) - first;
          const InitialValues values(with_number(source.tensor, expert), initial_of(row, source),
                                     files.spec.initializer_range, seed);
          values.fill(first, stride, slice.columns, out);
          for (Index i = 0; i < slice.columns; ++i)
            out[i] = rounded(out[i], files.stored) + (source.plus_one ? 1.0F : 0.0F);
        });
      });
}

}  // namespace grist
