// grist inspect: what a checkpoint holds.
#include "verbs.hpp"

#include <grist/train/checkpoint_convert.hpp>
#include <grist/train/checkpoint_file.hpp>

#include <algorithm>
#include <cstdio>

namespace grist::cli {
namespace {

struct InspectOptions {
  std::string file;
  bool verify = false;
};

void print_state(const TrainingState& state) {
  const auto row = [](const std::string& name, const std::string& value) {
    std::printf("%-16s %s\n", name.c_str(), value.c_str());
  };
  row("step", std::to_string(state.step));
  row("tokens", std::to_string(state.tokens));
  row("seed", std::to_string(state.seed));
  for (const auto& [name, value] : state.integers) row(name, std::to_string(value));
  for (const auto& [name, value] : state.reals) row(name, std::format("{}", value));
  row("configuration", state.configuration);
  row("config.json", state.model_config);
}

/// A line for each tensor of a group.
void print_group(const io::Hdf5File& file, const std::string& group, bool verify) {
  for (const auto& name : file.names_in("/" + group)) {
    const std::string path = path_of(group, name);
    const auto tensor = file.tensor(path);
    const auto attributes = file.attributes_of(path);
    const bool plus_one = std::ranges::find(attributes, "plus_one") != attributes.end();
    if (verify) verify_tensor(file, path);
    std::printf("%-60s %-5s %-16s %016llx%s%s\n", path.c_str(), std::string(name_of(tensor.type)).c_str(),
                io::text_of(tensor.shape).c_str(),
                static_cast<unsigned long long>(file.read_integer(path, "checksum")), plus_one ? " plus_one" : "",
                verify ? " verified" : "");
  }
}

void run(const InspectOptions& options) {
  const auto file = open_checkpoint(options.file);
  print_state(read_state(file));
  print_group(file, "model", options.verify);
  for (const auto& moment : file.names_in("/optimizer")) print_group(file, "optimizer/" + moment, options.verify);
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("inspect", "Show what a checkpoint holds: state, tensors, types, shapes, checksums");
  action.alone.insert(verb);
  const auto options = std::make_shared<InspectOptions>();
  verb->add_option("file", options->file, "Checkpoint (HDF5)")->required()->check(CLI::ExistingFile)->type_name("FILE");
  verb->add_flag("--verify", options->verify,
                 "Read all numbers and compare the checksums; exit code 3 where one differs");
  verb->callback([options, &action] { action.run_alone = [options] { run(*options); }; });
}

}  // namespace grist::cli
