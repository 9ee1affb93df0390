// A folder of checkpoints: names, the newest complete one, those that are kept.
#pragma once

#include <grist/train/checkpoint.hpp>

#include <functional>
#include <optional>

namespace grist {

/// step_000000120.h5
std::string checkpoint_name(Index step);

/// Steps of the checkpoints in a folder by their names, newest first; none where there is no folder.
std::vector<Index> checkpoint_steps(const std::filesystem::path& folder);

/// Throws InputError where a file is no complete checkpoint: header, sizes, attributes; not the numbers.
void check_checkpoint(const std::filesystem::path& file);

using Warn = std::function<void(const std::string&)>;

/// The newest one that check_checkpoint takes. Of this process alone.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& folder, const Warn& warn);

/// Loads the newest complete one, with all checksums. One that is broken, or of another model, is told to `warn` on the
/// first rank, and the one before is taken. Collective. Nothing where there is none; throws InputError where there are
/// some and none can be read.
std::optional<TrainingState> load_latest(const Exec& exec, const std::filesystem::path& folder,
                                         const CheckpointLayout& layout, const std::vector<TensorGroup>& groups,
                                         const ProcessGrid& grid, const Warn& warn);

/// Removes all but the last `keep` and those whose step is a multiple of `every` (0: none is), and what saves that did
/// not end left behind. By one process. Throws InputError where a file cannot be removed.
void prune_checkpoints(const std::filesystem::path& folder, int keep, Index every);

}  // namespace grist
