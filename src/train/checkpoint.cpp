#include <grist/train/checkpoint.hpp>

#include <grist/core/errors.hpp>
#include <grist/train/checkpoint_file.hpp>
#include <grist/train/checkpoint_piece.hpp>

#include <algorithm>
#include <format>
#include <set>

namespace grist {
namespace {

/// Whether this rank speaks for what all ranks of cp and ep hold alike.
bool first_of_context(const ProcessGrid& grid) { return grid.cp().rank() == 0 && grid.ep().rank() == 0; }

/// Whether a group is a whole flat array, which all ranks of dp hold, and not this rank's range of it.
bool is_whole(const TensorGroup& group, const CheckpointLayout& layout) {
  return group.first == 0 && static_cast<Index>(group.values.extent(0)) == layout.size();
}

/// Whether this rank saves what it owns of a group.
bool saves(const TensorGroup& group, const CheckpointLayout& layout, const ProcessGrid& grid) {
  return first_of_context(grid) && (grid.dp().rank() == 0 || !is_whole(group, layout));
}

/// Every layer is held by one stage, and the ranges of dp tile the flat array.
void check_ranks(const Exec& exec, const CheckpointLayout& layout, const std::vector<TensorGroup>& groups,
                 const ProcessGrid& grid) {
  std::vector<Index> stages(static_cast<std::size_t>(layout.layer_count()));
  if (grid.dp().rank() == 0 && grid.tp().rank() == 0 && first_of_context(grid))
    for (const Range& chunk : layout.layers())
      for (Index layer = chunk.begin; layer < chunk.end; ++layer) ++stages[static_cast<std::size_t>(layer)];
  sum_over(exec, grid.world(), stages);
  for (std::size_t layer = 0; layer < stages.size(); ++layer)
    if (stages[layer] != 1)
      throw InternalError("checkpoint: layer {} is held by {} stages, expected 1", layer, stages[layer]);
  std::string wrong;
  for (const auto& group : groups) {
    const auto dp = static_cast<std::size_t>(grid.dp().size()), rank = static_cast<std::size_t>(grid.dp().rank());
    std::vector<Index> bounds(2 * dp);
    bounds[2 * rank] = group.first, bounds[2 * rank + 1] = group.first + static_cast<Index>(group.values.extent(0));
    sum_over(exec, grid.dp(), bounds);
    std::vector<Range> ranges;
    for (std::size_t r = 0; r < dp; ++r) ranges.push_back({bounds[2 * r], bounds[2 * r + 1]});
    const Range all{0, layout.size()};
    if (std::ranges::all_of(ranges, [&](const Range& range) { return range == all; })) continue;
    std::ranges::sort(ranges, {}, [](const Range& range) { return std::pair(range.begin, range.end); });
    Index end = 0;
    for (const Range& range : ranges) {
      if (range.begin != end && wrong.empty())
        wrong = std::format("checkpoint: '{}' is held from element {} on, expected {}", group.name, range.begin, end);
      end = range.end;
    }
    if (end != layout.size() && wrong.empty())
      wrong = std::format("checkpoint: '{}' is held up to element {}, expected {}", group.name, end, layout.size());
  }
  together(grid.world(), [&] {
    if (!wrong.empty()) throw InternalError(wrong);
  });
}

/// A group holds the model's tensors and no others.
void check_names(const io::Hdf5File& file, const std::string& group, const std::vector<FileTensor>& tensors) {
  const auto names = file.names_in("/" + group);
  if (names.empty()) throw InputError("{}: holds no '/{}'", file.path(), group);
  std::set<std::string> found(names.begin(), names.end());
  for (const auto& tensor : tensors)
    if (found.erase(tensor.name) == 0)
      throw InputError("{}: tensor '{}' is missing in '/{}'", file.path(), tensor.name, group);
  if (!found.empty())
    throw InputError("{}: '/{}' holds the tensor '{}', which this model does not have{}", file.path(), group,
                     *found.begin(), found.size() > 1 ? std::format(", and {} more", found.size() - 1) : "");
}

/// Reads what this rank holds of a tensor; returns the checksum of what it owns.
std::uint64_t read_tensor(const io::Hdf5File& file, const TensorGroup& group, const FileTensor& tensor,
                          const std::vector<Run>& runs, bool verify, std::vector<std::byte>& packed) {
  const std::string path = path_of(group.name, tensor.name);
  const auto stored = file.tensor(path);
  if (stored.shape != tensor.shape)
    throw InputError("{}: tensor '{}' has shape {}, the model wants {}", file.path(), path, io::text_of(stored.shape),
                     io::text_of(tensor.shape));
  const Range held = extent_of(runs, {group.first, group.first + static_cast<Index>(group.values.extent(0))});
  const auto values =
      Kokkos::subview(group.values, std::pair(held.begin - group.first, held.end - group.first));
  const auto host = Kokkos::create_mirror_view_and_copy(Kokkos::HostSpace{}, values);
  std::uint64_t sum = 0;
  for (const Range& rows : pieces_of(tensor.shape)) {
    const CheckpointPiece piece(runs, tensor.shape, rows, held);
    if (piece.size() == 0) continue;
    packed.resize(std::max(packed.size(), static_cast<std::size_t>(piece.size()) * size_of(stored.type)));
    file.read(path, piece.boxes(), packed.data());
    piece.unpack(packed.data(), stored.type, host.data());
    if (verify) sum += piece.checksum(packed.data(), stored.type);
  }
  Kokkos::deep_copy(values, host);
  return sum;
}

}  // namespace

void save_checkpoint(const Exec& exec, const std::filesystem::path& file, const CheckpointLayout& layout,
                     const std::vector<TensorGroup>& groups, const TrainingState& state, const ProcessGrid& grid,
                     const std::string& hints) {
  exec.fence("grist::checkpoint: values are complete");
  check_ranks(exec, layout, groups, grid);
  std::vector<GroupHeader> headers;
  for (const auto& group : groups) headers.push_back({group.name, group.type});
  CheckpointWriter writer(file, layout.tensors(), headers, state, grid.world(), hints);
  for (const auto& group : groups) {
    for (std::size_t t = 0; t < layout.tensors().size(); ++t) {
      std::vector<Run> runs;
      if (saves(group, layout, grid)) runs = layout.runs(t);
      std::erase_if(runs, [](const Run& run) { return !run.owned; });
      writer.write(group, t, runs);
    }
  }
  writer.finish(exec);
}

TrainingState load_checkpoint(const Exec& exec, const std::filesystem::path& path, const CheckpointLayout& layout,
                              const std::vector<TensorGroup>& groups, const ProcessGrid& grid, bool verify) {
  const auto& tensors = layout.tensors();
  std::vector<Index> sums(groups.size() * tensors.size());
  TrainingState state;
  exec.fence("grist::checkpoint: values are no longer in use");
  together(grid.world(), [&] {
    const auto file = open_checkpoint(path);
    state = read_state(file);
    std::vector<std::byte> packed;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      check_names(file, groups[g].name, tensors);
      const bool counts = verify && saves(groups[g], layout, grid);
      for (std::size_t t = 0; t < tensors.size(); ++t)
        if (layout.holds(t))
          sums[g * tensors.size() + t] =
              static_cast<Index>(read_tensor(file, groups[g], tensors[t], layout.runs(t), counts, packed));
    }
  });
  if (!verify) return state;
  sum_over(exec, grid.world(), sums);
  together(grid.world(), [&] {
    if (grid.world().rank() != 0) return;
    const auto file = open_checkpoint(path);
    for (std::size_t g = 0; g < groups.size(); ++g)
      for (std::size_t t = 0; t < tensors.size(); ++t)
        check_checksum(file, path_of(groups[g].name, tensors[t].name), sums[g * tensors.size() + t]);
  });
  return state;
}

TrainingState read_training_state(const std::filesystem::path& file) { return read_state(open_checkpoint(file)); }

}  // namespace grist
