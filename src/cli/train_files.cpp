#include "train_files.hpp"

#include "model_files.hpp"

#include <grist/core/errors.hpp>
#include <grist/hdf5/hdf5_file.hpp>
#include <grist/train/checkpoint_convert.hpp>
#include <grist/train/checkpoint_folder.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <system_error>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* folder_files[] = {"model.safetensors", "model.safetensors.index.json"};

constexpr std::uint64_t shard_bytes = std::uint64_t{5} << 30;  // of --save-hf, as transformers writes them

template <class T>
T value_or(const std::map<std::string, T>& values, const char* name, T otherwise) {
  const auto found = values.find(name);
  return found == values.end() ? otherwise : found->second;
}

/// Other data than the checkpoint's would go on under its step's name.
void expect_same_data(const TrainOptions& options, Index sequence, const TrainingState& state) {
  if (state.seed != options.seed)
    throw UsageError("--seed {}: the checkpoint was made with {}, and the data would come in another order",
                     options.seed, state.seed);
  for (const auto& [name, value] : {std::pair("batch", Index{options.batch}), std::pair("sequence", sequence)})
    if (const Index held = value_or(state.integers, name, value); held != value)
      throw UsageError("--{} {}: the checkpoint was made with {}, and its step would stand for other data", name, value,
                       held);
}

}  // namespace

bool TrainFiles::holds_folder(const TrainOptions& options) {
  const fs::path folder = options.save_hf;
  return std::ranges::any_of(folder_files, [&](const char* name) { return fs::exists(folder / name); });
}

void TrainFiles::expect_free(const TrainOptions& options) {
  if (!options.save_hf.empty() && holds_folder(options))
    throw UsageError("--save-hf {}: already holds a model; choose another folder", options.save_hf);
}

void TrainFiles::prepare(const TrainOptions& options, bool root) {
  if (options.resume.empty()) expect_free(options);
  if (!options.io_hints.empty() && !has_mpi)
    throw UsageError("--io-hint {}: is for MPI-IO, and this grist was built without MPI", options.io_hints[0]);
  io::check_hints(options.mpi_io_hints());
  for (const fs::path folder : {options.checkpoint, options.save_hf}) {
    std::error_code error;
    if (root && !folder.empty()) fs::create_directories(folder, error);
    if (error) throw InputError("{}: cannot be made: {}", folder.string(), error.message());
  }
}

TrainProgress TrainFiles::resume(train::Trainer& trainer) const {
  if (options_.resume.empty()) return {};
  std::optional<TrainingState> state;
  if (options_.resume == "auto")
    state = load_latest(runtime_.exec(), options_.checkpoint, trainer.layout(), trainer.groups(), grid_,
                        [](const std::string& line) { note(line); });
  else
    state = load_checkpoint(runtime_.exec(), options_.resume, trainer.layout(), trainer.groups(), grid_);
  if (!state) return {};
  trainer.loaded(runtime_.exec(), value_or(state->integers, "updates", state->step));
  runtime_.together([&] { expect_same_data(options_, setup_.sequence, *state); });
  return {state->step, state->tokens, value_or(state->reals, "save_seconds", 0.0)};
}

void TrainFiles::write(const fs::path& file, const train::Trainer& trainer, const std::vector<TensorGroup>& groups,
                       const TrainProgress& progress) const {
  save_checkpoint(runtime_.exec(), file, trainer.layout(), groups,
                  {.step = progress.step,
                   .tokens = progress.tokens,
                   .seed = options_.seed,
                   .integers = {{"updates", trainer.updates()},
                                {"batch", options_.batch},
                                {"sequence", setup_.sequence}},
                   .reals = {{"save_seconds", progress.save_seconds}},
                   .configuration = nlohmann::json{{"options", options_.to_toml()}}.dump(),
                   .model_config = setup_.model_config},
                  grid_, options_.mpi_io_hints());
}

fs::path TrainFiles::save(const train::Trainer& trainer, const TrainProgress& progress) const {
  const fs::path folder = options_.checkpoint, file = folder / checkpoint_name(progress.step);
  write(file, trainer, trainer.groups(), progress);
  return file;
}

void TrainFiles::prune(const std::function<void(const std::string&)>& say) const {
  if (!runtime_.root()) return;
  try {
    prune_checkpoints(options_.checkpoint, static_cast<int>(options_.keep), options_.keep_every);
  } catch (const InputError& error) {
    say(error.what());
  }
}

void TrainFiles::save_folder(const train::Trainer& trainer, const TrainProgress& progress,
                             const std::function<void()>& release) const {
  const fs::path folder = options_.save_hf;
  // A checkpoint of this step may be missing, or never have been wanted.
  const auto file = folder / ".weights.h5";
  write(file, trainer, {trainer.groups().front()}, progress);  // the weights
  release();
  runtime_.together([&] {
    if (!runtime_.root()) return;
    convert_to_folder(file, folder, std::nullopt, shard_bytes, {});
    fs::remove(file);
    if (const fs::path tokenizer = tokenizer_of(options_); fs::is_directory(tokenizer))
      copy_companions(tokenizer, folder);
  });
}

}  // namespace grist::cli
