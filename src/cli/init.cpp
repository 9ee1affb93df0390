// grist init: a model with random weights, as a Hugging Face folder.
#include "model_files.hpp"
#include "model_options.hpp"
#include "progress.hpp"

#include <grist/model/initialize.hpp>

#include <cstdio>
#include <filesystem>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

struct InitOptions {
  std::string config, out;
  std::uint64_t seed = 0;
};

void run(Runtime& runtime, const InitOptions& options) {
  runtime.together([&] {
    if (!runtime.root()) return;
    const auto files = read_spec(options.config);
    const fs::path out = options.out;
    std::error_code error;
    fs::create_directories(out, error);
    if (error) throw InputError("{}: cannot be made: {}", out.string(), error.message());
    if (fs::exists(out / "model.safetensors"))
      throw UsageError("{}: already holds a model.safetensors; choose another --out", out.string());
    ProgressLine line("drawing", true);
    write_initial_weights(files, options.seed, out,
                          [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); });
    copy_over(options.config, out / "config.json");
    copy_companions(fs::path(options.config).parent_path(), out);
    std::printf("%s: %lld parameters in %s, seed %llu\n", out.c_str(),
                static_cast<long long>(parameter_count(files.spec)), std::string(name_of(files.stored)).c_str(),
                static_cast<unsigned long long>(options.seed));
  });
}

}  // namespace

void add_init(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("init", "Make a model with random weights, as a Hugging Face folder");
  const auto options = std::make_shared<InitOptions>();
  verb->add_option("--config", options->config, "config.json; tokenizer files beside it are copied")->required()
      ->check(CLI::ExistingFile)->type_name("FILE");
  verb->add_option("--out", options->out, "Folder to make")->required()->type_name("DIR");
  verb->add_option("--seed", options->seed, "The same seed gives the same weights at any number of ranks and threads")
      ->capture_default_str();
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
