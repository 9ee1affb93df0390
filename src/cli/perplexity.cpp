// grist perplexity: how well a model predicts a text.
#include "model_options.hpp"
#include "progress.hpp"

#include <grist/generate/evaluate.hpp>

#include <cstdio>

namespace grist::cli {
namespace {

struct Options {
  ModelOptionsGroup model;
  std::string file;
  int context = 512;
  Index windows = 0;
};

void run(Runtime& runtime, const Options& options) {
  std::vector<int> ids;
  const auto loaded = load_model(runtime, options.model, [&](const ModelSpec& spec, const io::Tokenizer* tokenizer) {
    if (tokenizer == nullptr) throw InputError("{}: the model has no tokenizer", options.model.model);
    ids = tokenizer->encode(read_text(options.file), false);
    if (options.context > spec.max_positions)
      throw UsageError("--context {} is more than the model's {}", options.context, spec.max_positions);
    return limits_for_windows(options.context);
  });
  runtime.share(ids);
  ProgressLine line("scoring", runtime.root());
  const auto result = perplexity(runtime.exec(), *loaded.model, ids, options.context, options.windows,
                                 [&](const Perplexity& so_far, Index windows) {
                                   line.show(static_cast<std::uint64_t>(so_far.windows), static_cast<std::uint64_t>(windows));
                                 });
  if (runtime.root())
    std::printf("perplexity %.5f | mean nll %.7f | %lld tokens scored in %lld windows of %d\n", result.value(),
                result.mean_nll, static_cast<long long>(result.tokens), static_cast<long long>(result.windows),
                options.context);
}

}  // namespace

void add_perplexity(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("perplexity", "Score a text: e to the mean negative log-likelihood of its tokens");
  const auto options = std::make_shared<Options>();
  options->model.add_to(*verb, action);
  verb->add_option("--file", options->file, "The text")->required()->type_name("FILE");
  verb->add_option("--context", options->context, "Tokens of a window; windows do not overlap")->check(CLI::Range(2, 1 << 30))->capture_default_str();
  verb->add_option("--windows", options->windows, "Score the first N windows only; 0: all")->check(CLI::Range(0, 1 << 30))->capture_default_str();
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
