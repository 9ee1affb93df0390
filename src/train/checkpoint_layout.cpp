#include <grist/train/checkpoint_layout.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <map>
#include <tuple>

namespace grist {
namespace {

const LayerShard* layer_of(const Shard& shard, Index layer) {
  return layer < 0 ? nullptr : &shard.layers[static_cast<std::size_t>(layer)];
}

/// A box of a part: experts, rows, columns.
struct Box {
  Range experts, rows, columns;

  [[nodiscard]] Index size() const { return experts.size() * rows.size() * columns.size(); }
  [[nodiscard]] bool meets(const Box& other) const {
    const auto meet = [](Range a, Range b) { return std::max(a.begin, b.begin) < std::min(a.end, b.end); };
    return meet(experts, other.experts) && meet(rows, other.rows) && meet(columns, other.columns);
  }
  [[nodiscard]] bool within(const Box& whole) const {
    const auto inside = [](Range a, Range b) { return a.begin >= b.begin && a.end <= b.end; };
    return inside(experts, whole.experts) && inside(rows, whole.rows) && inside(columns, whole.columns);
  }
};

/// Boxes inside of the whole that do not meet and have its size tile it.
void check_part(const TensorRow& row, const TensorPart& part, const std::vector<Shard>& shards, Index layer) {
  std::vector<Box> owned;
  const Box whole{{0, row.experts}, {0, part.rows}, {0, row.columns}};
  Index size = 0;
  bool right = true;
  for (int rank = 0; rank < static_cast<int>(shards.size()); ++rank) {
    if (replicas_of(row, part, shards, layer, rank).front() != rank) continue;
    const Shard& shard = shards[static_cast<std::size_t>(rank)];
    const auto slice = slice_of(row, part, shard, layer_of(shard, layer));
    const Box box{experts_of(row, layer_of(shard, layer)),
                  {slice.row, slice.row + slice.rows},
                  {slice.column, slice.column + slice.columns}};
    right = right && box.within(whole) && std::ranges::none_of(owned, [&](const Box& b) { return b.meets(box); });
    size += box.size();
    owned.push_back(box);
  }
  if (!right || size != whole.size())
    throw InternalError("checkpoint: the slices of {} ranks do not tile tensor '{}' once: they own {} of {} elements",
                        shards.size(), part.sources.front().tensor, size, whole.size());
}

/// The parts of a row lie in its tensors without gap or overlap.
void check_sources(const TensorRow& row) {
  std::map<std::string, std::vector<int>> held;  // how often each line of a tensor
  for (const auto& part : row.parts) {
    if (part.sources.empty()) continue;
    const Source& source = part.sources.front();
    const auto& shape = source.shape;
    const Index lines = source.transposed ? shape[1] : shape.size() == 3 ? shape[0] * shape[1] : shape[0];
    const Index length = source.transposed ? shape[0] : shape.size() == 1 ? 1 : shape.back();
    if (length != row.columns)
      throw InternalError("checkpoint: tensor '{}' has rows of {} elements, the model's have {}", source.tensor, length,
                          row.columns);
    for (Index expert = 0; expert < row.experts; ++expert) {
      auto& count = held[with_number(source.tensor, expert)];
      count.resize(static_cast<std::size_t>(lines));
      for (Index r = 0; r < part.rows; ++r) {
        const Index line = source.file_row(r) + expert * source.expert_rows;
        if (line < 0 || line >= lines)
          throw InternalError("checkpoint: tensor '{}' has no row {}", source.tensor, line);
        ++count[static_cast<std::size_t>(line)];
      }
    }
  }
  for (const auto& [name, count] : held)
    if (std::ranges::any_of(count, [](int n) { return n != 1; }))
      throw InternalError("checkpoint: the model's parts do not tile tensor '{}' once", name);
}

void append(const Source& source, const io::Slice& slice, Index expert, Index offset, bool owned,
            std::vector<Run>& runs) {
  if (!source.transposed) {
    for (Index r = 0; r < slice.rows; ++r)
      runs.push_back({source.file_row(slice.row + r) + expert * source.expert_rows, slice.column, slice.columns,
                      offset + r * slice.columns, 1, owned});
    return;
  }
  for (Index r = 0; r < slice.rows;) {
    const Index first = source.file_row(slice.row + r);
    Index n = 1;
    while (r + n < slice.rows && source.file_row(slice.row + r + n) == first + n) ++n;
    for (Index c = 0; c < slice.columns; ++c)
      runs.push_back({slice.column + c, first, n, offset + r * slice.columns + c, slice.columns, owned});
    r += n;
  }
}

}  // namespace

void check_tiling(const TensorTable& table, const std::vector<Shard>& shards) {
  const auto check = [&](Index layer) {
    return [&, layer](const TensorRow& row) {
      if (row.tied) return;
      for (const auto& part : row.parts)
        if (!part.sources.empty()) check_part(row, part, shards, layer);
      check_sources(row);
    };
  };
  each_first_tensor(check(-1), table);
  for (std::size_t layer = 0; layer < table.layers.size(); ++layer)
    each_tensor(check(static_cast<Index>(layer)), table.layers[layer]);
  each_last_tensor(check(-1), table);
}

CheckpointLayout::CheckpointLayout(const TensorTable& table, std::vector<Range> layers,
                                   const std::vector<Shard>& shards, int tp_rank, const TensorBlocks& blocks)
    : tensors_(file_tensors(table)),
      pieces_(tensors_.size()),
      layers_(std::move(layers)),
      layer_count_(std::ssize(table.layers)),
      size_(blocks.memory.size()) {
  check_tiling(table, shards);
  std::map<std::string, std::size_t> number;
  for (std::size_t i = 0; i < tensors_.size(); ++i) number[tensors_[i].name] = i;
  const Shard& shard = shards[static_cast<std::size_t>(tp_rank)];
  auto tensors = blocks.tensors;
  for (const Range& chunk : layers_) {
    each_block(table, chunk, shard, tensors,
               [&](const TensorRow& row, Index layer, const LayerShard* inside, View3<float> block) {
                 const Range experts = experts_of(row, inside);
                 const auto rows = static_cast<Index>(block.extent(1)), columns = static_cast<Index>(block.extent(2));
                 Index first = 0;
                 for (const auto& part : row.parts) {
                   const auto slice = slice_of(row, part, shard, inside);
                   const bool owned = !row.tied && replicas_of(row, part, shards, layer, tp_rank).front() == tp_rank;
                   for (Index e = 0; e < experts.size() && !part.sources.empty(); ++e) {
                     const Source& source = part.sources.front();
                     const Index expert = experts.begin + e;
                     const Index offset = block.data() - blocks.flat().data() + (e * rows + first) * columns;
                     pieces_[number.at(with_number(source.tensor, expert))].push_back(
                         {&source, slice, expert, offset, owned});
                   }
                   first += slice.rows;
                 }
               });
  }
}

std::vector<Run> CheckpointLayout::runs(std::size_t tensor) const {
  std::vector<Run> runs;
  for (const Piece& piece : pieces_[tensor])
    append(*piece.source, piece.slice, piece.expert, piece.offset, piece.owned, runs);
  std::ranges::sort(runs, {}, [](const Run& run) { return std::tuple(run.row, run.column); });
  return runs;
}

}  // namespace grist
