// grist convert: a checkpoint as a Hugging Face folder, and the other way round; a model as a quantized GGUF file.
#include "model_files.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "runtime.hpp"
#include "verbs.hpp"

#include <grist/io/gguf.hpp>
#include <grist/model/gguf_conversion.hpp>
#include <grist/text/gguf_tokenizer_writer.hpp>
#include <grist/train/checkpoint_convert.hpp>

#include <cstdio>
#include <filesystem>
#include <optional>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  std::string from, to, tokenizer, quantize;
  std::optional<DType> type;
  std::uint64_t most_bytes = 5'000'000'000;
};

Format format_named(const std::string& name) {
  for (const Format format : {Format::q8_0, Format::q4_0, Format::q4_k, Format::q6_k})
    if (name == name_of(format)) return format;
  throw InternalError("--quantize: '{}' passed the options", name);
}

/// Writes a GGUF file; one that cannot be read as the model that it was made from does not stay.
ConversionNotes quantize(const ConvertOptions& options, const Progress& progress) {
  const auto model = io::gguf_file_of(options.from);
  expect_no_input(options.to, "--out", {model.string()});
  const Format type = format_named(options.quantize);
  if (!fs::is_directory(model)) return quantize_gguf(model, type, options.to, progress);
  ConversionNotes of_tokenizer;
  const auto add_tokenizer = [&](io::GgufWriter& writer, const ModelFiles& files) {
    of_tokenizer = text::set_gguf_tokenizer(writer, model, files.spec.vocab_size, files.tokens.eos);
  };
  auto notes = quantize_folder(model, type, options.to, add_tokenizer, progress);
  notes.insert(notes.end(), of_tokenizer.begin(), of_tokenizer.end());
  try {
    text::check_gguf_tokenizer(options.to, model);
  } catch (const InputError&) {
    fs::remove(options.to);
    throw;
  }
  return notes;
}

void run(Runtime& runtime, const ConvertOptions& options) {
  runtime.together([&] {
    if (!runtime.root()) return;
    if (options.to.empty()) throw UsageError("convert: names nothing to write; give TO, or --out FILE");
    expect_no_input(options.to, "TO", {options.from});
    ConversionNotes notes;
    ProgressLine line("converting", true);
    const Progress progress = [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
    if (!options.quantize.empty()) {
      notes = quantize(options, progress);
    } else if (fs::is_directory(options.from)) {
      if (!options.tokenizer.empty())
        throw UsageError("--tokenizer: {} is a folder; its tokenizer stays there", options.from);
      convert_to_checkpoint(runtime.exec(), options.from, options.to, options.type.value_or(DType::f32), progress);
    } else {
      convert_to_folder(options.from, options.to, options.type, options.most_bytes, progress);
      if (!options.tokenizer.empty()) copy_companions(options.tokenizer, options.to);
    }
    note_all(notes);
    std::printf("%s: written\n", options.to.c_str());
  });
}

}  // namespace

void add_convert(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand(
      "convert", "Turn a checkpoint into a Hugging Face folder or back, or a model into a quantized GGUF file");
  const auto options = std::make_shared<ConvertOptions>();
  verb->add_option("from", options->from, "Checkpoint (HDF5), Hugging Face folder, or with --quantize a GGUF file too")
      ->required()->check(CLI::ExistingPath)->type_name("FROM");
  auto* to = verb->add_option("to", options->to, "Folder to make, or checkpoint or GGUF file to write");
  to->type_name("TO");
  verb->add_option("--out", options->to, "The same as TO")->type_name("PATH")->excludes(to);
  auto* quantize = verb->add_option("--quantize", options->quantize, "Write a GGUF file with weights of this type");
  quantize->check(CLI::IsMember({"q8_0", "q4_0", "q4_k", "q6_k"}));
  verb->add_option("--dtype", options->type,
                   "Type of the written numbers; default: as stored in a checkpoint, f32 in a new one")
      ->transform(CLI::Transformer(
          std::map<std::string, DType>{{"f32", DType::f32}, {"bf16", DType::bf16}, {"f16", DType::f16}}))
      ->type_name("f32|bf16|f16")->excludes(quantize);
  verb->add_option("--max-shard-size", options->most_bytes, "Largest safetensors file, e.g. 500MB")
      ->transform(CLI::AsSizeValue(true))->default_str("5GB")->type_name("SIZE")->excludes(quantize);
  verb->add_option("--tokenizer", options->tokenizer, "Folder whose tokenizer files are copied to the written one")
      ->check(CLI::ExistingDirectory)->type_name("DIR")->excludes(quantize);
  verb->footer("Examples:\n"
               "  grist convert run/step_000002000.h5 my_model --tokenizer MODEL\n"
               "  grist convert my_model start.h5\n"
               "  grist convert --quantize q4_k my_model --out my_model.q4_k.gguf");
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
