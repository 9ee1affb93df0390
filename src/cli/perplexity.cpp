// grist perplexity: how well a model predicts a text.
#include "model_options.hpp"
#include "progress.hpp"

#include <grist/generate/perplexity.hpp>

#include <cstdio>

namespace grist::cli {
namespace {

struct Options {
  ModelOptionsGroup model;
  std::string file;
  std::string protocol = "plain";
  bool bos = false;
  int context = 512;
  Index windows = 0;
};

/// The model's BOS. Throws InputError where it has none.
int bos_of(const ModelTokens& tokens, const text::Tokenizer& tokenizer, const std::string& model) {
  const int bos = tokenizer.bos >= 0 ? tokenizer.bos : tokens.bos;
  if (bos < 0) throw InputError("{}: the model has no BOS token to put in front of a window", model);
  return bos;
}

/// Token ids of the text, and how they are cut; on the root alone.
std::vector<int> cut(const Options& options, const ModelTokens& tokens, const text::Tokenizer& tokenizer,
                     PerplexityOptions& windows) {
  const auto text = read_text(options.file);
  if (options.protocol == "plain") {
    if (options.bos) windows.bos = bos_of(tokens, tokenizer, options.model.model);
    windows.bos_in_front = true;
    return tokenizer.encode(text, false);
  }
  const auto ids = tokenizer.encode(text, true);
  if (tokenizer.doubles_bos(ids)) note(second_bos);
  const auto nothing = tokenizer.encode("", true);
  const bool adds_bos = !nothing.empty() && nothing.front() == tokenizer.bos;
  windows.bos = adds_bos || options.bos ? bos_of(tokens, tokenizer, options.model.model) : -1;
  windows.second_half = true;
  if (std::ssize(ids) < 2 * options.context)
    throw InputError("{}: {} tokens; llama.cpp's protocol wants two windows, {}", options.file, ids.size(),
                     2 * options.context);
  return ids;
}

void run(Runtime& runtime, const Options& options) {
  std::vector<int> ids;
  PerplexityOptions windows{.context = options.context, .max_windows = options.windows};
  const auto loaded =
      load_model(runtime, options.model, [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
        if (tokenizer == nullptr) throw InputError("{}: the model has no tokenizer", options.model.model);
        if (options.context > files.spec.max_positions)
          throw UsageError("--context {} is more than the model's {}", options.context, files.spec.max_positions);
        ids = cut(options, files.tokens, *tokenizer, windows);
        return limits_for_windows(options.context);
      });
  runtime.share(ids);
  std::vector<int> shared = {windows.bos, windows.bos_in_front ? 1 : 0, windows.second_half ? 1 : 0};
  runtime.share(shared);
  windows.bos = shared[0];
  windows.bos_in_front = shared[1] != 0;
  windows.second_half = shared[2] != 0;
  Perplexity result;
  {
    ProgressLine line("scoring", runtime.root());
    result = perplexity(runtime.exec(), *loaded.model, ids, windows, [&](const Perplexity& so_far, Index all) {
      line.show(static_cast<std::uint64_t>(so_far.windows), static_cast<std::uint64_t>(all));
    });
  }
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
  verb->add_option("--file", options->file,
                   "The text, - for stdin; taken as it is, a last newline too, but a byte order mark is left out")
      ->required()
      ->type_name("FILE");
  verb->add_option("--protocol", options->protocol, "How the text is cut and scored, see below")
      ->check(CLI::IsMember({"plain", "llama.cpp"}))
      ->capture_default_str();
  verb->add_flag("--bos", options->bos, "Put BOS in front of each window");
  verb->add_option("--context", options->context, "Tokens of a window, BOS included; windows do not overlap")
      ->check(CLI::Range(2, 1 << 30))
      ->capture_default_str();
  verb->add_option("--windows", options->windows, "Score the first N windows only; 0: all")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  verb->footer(
      "Protocols:\n"
      "  plain      The text's tokens, without special ones, are cut into windows of --context\n"
      "             tokens. Every token of a window but its first is scored, given those before\n"
      "             it in the window. A rest at the end counts only where there is no whole\n"
      "             window. With --bos a window is BOS and --context - 1 tokens of the text,\n"
      "             all of them scored.\n"
      "  llama.cpp  What llama.cpp's perplexity program does. The text's tokens, with the BOS\n"
      "             that the model adds, are cut into windows. Where the model adds BOS (or\n"
      "             with --bos), it takes the place of each window's first token. The first\n"
      "             half of a window gives context and is not scored.\n"
      "Figures compare only at the same protocol, --context and tokenizer.");
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
