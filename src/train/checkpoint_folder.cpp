#include <grist/train/checkpoint_folder.hpp>

#include <grist/core/errors.hpp>
#include <grist/train/checkpoint_file.hpp>

#include <algorithm>
#include <charconv>
#include <format>

namespace grist {
namespace {

constexpr std::string_view front = "step_", back = ".h5";

/// The step that a name says; nothing where it is no checkpoint's.
std::optional<Index> step_of(std::string_view name) {
  if (!name.starts_with(front) || !name.ends_with(back) || name.size() <= front.size() + back.size()) return {};
  const std::string_view digits = name.substr(front.size(), name.size() - front.size() - back.size());
  Index step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  if (error != std::errc() || end != digits.data() + digits.size() || checkpoint_name(step) != name) return {};
  return step;
}

void remove_file(const std::filesystem::path& file) {
  std::error_code error;
  std::filesystem::remove(file, error);
  if (error) throw InputError("{}: cannot be removed: {}", file.string(), error.message());
}

}  // namespace

std::string checkpoint_name(Index step) { return std::format("step_{:09}.h5", step); }

std::vector<Index> checkpoint_steps(const std::filesystem::path& folder) {
  std::vector<Index> steps;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (const auto step = step_of(entry.path().filename().string())) steps.push_back(*step);
  std::ranges::sort(steps, std::greater());
  return steps;
}

void check_checkpoint(const std::filesystem::path& path) {
  const auto file = open_checkpoint(path);
  (void)read_state(file);
  const auto check = [&](const std::string& group) {
    const auto names = file.names_in("/" + group);
    if (names.empty()) throw InputError("{}: holds no '/{}'", path.string(), group);
    for (const auto& name : names) {
      (void)file.tensor(path_of(group, name));
      (void)file.read_integer(path_of(group, name), "checksum");
    }
  };
  check("model");
  for (const auto& moment : file.names_in("/optimizer")) check("optimizer/" + moment);
}

std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& folder, const Warn& warn) {
  for (const Index step : checkpoint_steps(folder)) {
    auto file = folder / checkpoint_name(step);
    try {
      check_checkpoint(file);
      return file;
    } catch (const InputError& error) {
      warn(error.what());
    }
  }
  return {};
}

std::optional<TrainingState> load_latest(const Exec& exec, const std::filesystem::path& folder,
                                         const CheckpointLayout& layout, const std::vector<TensorGroup>& groups,
                                         const ProcessGrid& grid, const Warn& warn) {
  const bool first = grid.world().rank() == 0;
  std::vector<Index> steps;  // as the first rank sees them: others may see a shared folder later
  if (first) steps = checkpoint_steps(folder);
  Index count = std::ssize(steps);
  grid.world().broadcast(&count, 1, 0);
  steps.resize(static_cast<std::size_t>(count));
  grid.world().broadcast(steps.data(), count, 0);
  for (const Index step : steps) {
    try {
      return load_checkpoint(exec, folder / checkpoint_name(step), layout, groups, grid, true);
    } catch (const InputError& error) {
      if (first) warn(error.what());
    }
  }
  if (count > 0) throw InputError("{}: none of {} checkpoints can be read", folder.string(), count);
  return {};
}

void prune_checkpoints(const std::filesystem::path& folder, int keep, Index every) {
  const auto steps = checkpoint_steps(folder);
  for (std::size_t i = static_cast<std::size_t>(keep); keep > 0 && i < steps.size(); ++i)
    if (every == 0 || steps[i] % every != 0) remove_file(folder / checkpoint_name(steps[i]));
  std::vector<std::filesystem::path> parts;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const auto& path = entry.path();
    if (path.extension() == ".part" && step_of(path.stem().string())) parts.push_back(path);
  }
  for (const auto& part : parts) remove_file(part);
}

}  // namespace grist
