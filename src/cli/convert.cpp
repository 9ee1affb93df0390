// grist convert: a checkpoint as a Hugging Face folder, and the other way round.
#include "model_files.hpp"
#include "progress.hpp"
#include "runtime.hpp"
#include "verbs.hpp"

#include <grist/train/checkpoint_convert.hpp>

#include <cstdio>
#include <filesystem>
#include <optional>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string from, to, tokenizer;
  std::optional<DType> type;
  std::uint64_t most_bytes = 5'000'000'000;
};

void run(Runtime& runtime, const Options& options) {
  runtime.together([&] {
    if (!runtime.root()) return;
    ProgressLine line("converting", true);
    const Progress progress = [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
    if (fs::is_directory(options.from)) {
      if (!options.tokenizer.empty())
        throw UsageError("--tokenizer: {} is a folder; its tokenizer stays there", options.from);
      convert_to_checkpoint(runtime.exec(), options.from, options.to, options.type.value_or(DType::f32), progress);
    } else {
      convert_to_folder(options.from, options.to, options.type, options.most_bytes, progress);
      if (!options.tokenizer.empty()) copy_companions(options.tokenizer, options.to);
    }
    std::printf("%s: written\n", options.to.c_str());
  });
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  auto* verb =
      app.add_subcommand("convert", "Turn a checkpoint into a Hugging Face folder, or a folder into a checkpoint");
  const auto options = std::make_shared<Options>();
  verb->add_option("from", options->from, "Checkpoint (HDF5), or Hugging Face folder")->required()
      ->check(CLI::ExistingPath)->type_name("FROM");
  verb->add_option("to", options->to, "Folder to make, or checkpoint to write")->required()->type_name("TO");
  verb->add_option("--dtype", options->type,
                   "Type of the written numbers; default: as stored in a checkpoint, f32 in a new one")
      ->transform(CLI::Transformer(
          std::map<std::string, DType>{{"f32", DType::f32}, {"bf16", DType::bf16}, {"f16", DType::f16}}))
      ->type_name("f32|bf16|f16");
  verb->add_option("--max-shard-size", options->most_bytes, "Largest safetensors file, e.g. 500MB")
      ->transform(CLI::AsSizeValue(true))->default_str("5GB")->type_name("SIZE");
  verb->add_option("--tokenizer", options->tokenizer, "Folder whose tokenizer files are copied to the written one")
      ->check(CLI::ExistingDirectory)->type_name("DIR");
  verb->footer("Examples:\n"
               "  grist convert run/step_000002000.h5 my_model --tokenizer MODEL\n"
               "  grist convert my_model start.h5");
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
