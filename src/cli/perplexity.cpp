// grist perplexity: how well a model predicts a text.
#include "interrupt.hpp"
#include "model_options.hpp"
#include "packed_json.hpp"
#include "shared_run.hpp"

#include <grist/generate/perplexity.hpp>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <format>

namespace grist::cli {
namespace {

using nlohmann::json;

struct PerplexityCommandOptions {
  ModelOptionsGroup model;
  std::string file, max_walltime;
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

/// The windows of the text; on the root alone.
std::vector<Continuation> windows_of(const PerplexityCommandOptions& options, const ModelFiles& files,
                                     const text::Tokenizer& tokenizer) {
  PerplexityOptions how{.context = options.context, .max_windows = options.windows};
  std::vector<int> ids;
  if (options.protocol == "plain") {
    ids = tokenizer.encode(read_text(options.file), false);
    if (options.bos) how.bos = bos_of(files.tokens, tokenizer, options.model.model);
    how.bos_in_front = true;
  } else {
    std::string whole = read_text(options.file);
    if (whole.ends_with('\n')) whole.pop_back();  // as its -f does
    ids = tokenizer.encode(whole, true, text::WrittenSpecial::plain);
    if (tokenizer.doubles_bos(ids)) note(second_bos);
    const auto nothing = tokenizer.encode("", true);
    const bool adds_bos = !nothing.empty() && nothing.front() == tokenizer.bos;
    how.bos = adds_bos || options.bos ? bos_of(files.tokens, tokenizer, options.model.model) : -1;
    how.second_half = true;
    if (std::ssize(ids) < 2 * options.context)
      throw InputError("{}: {} tokens; llama.cpp's protocol wants two windows, {}", options.file, ids.size(),
                       2 * options.context);
  }
  return cut_windows(ids, how, static_cast<int>(files.spec.vocab_size), files.spec.max_positions);
}

// A window on its way from the root to the replica that scores it, and back.

void score(LogLikelihood& scorer, const std::string& item, SharedRun& shared) {
  const json window = unpacked(item);
  const Index number = window.at("number"), tokens = std::ssize(window.at("ids"));
  const double sum = score_window(scorer, {window.at("ids"), window.at("given")}, number);
  shared.count({.worked_on = tokens, .told = tokens});
  shared.send(packed({{"number", number}, {"log_likelihood", sum}}), tokens, tokens);
}

void run(Runtime& runtime, const PerplexityCommandOptions& options) {
  const Deadline deadline = deadline_of(runtime, options.max_walltime, Deadline::Clock::now());
  std::vector<Continuation> windows;
  std::vector<std::string> items;
  Index tokens = 0;
  const auto loaded =
      load_model(runtime, options.model, [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
        if (tokenizer == nullptr) throw InputError("{}: the model has no tokenizer", options.model.model);
        if (options.context > files.spec.max_positions)
          throw UsageError("--context {} is more than the model's {}", options.context, files.spec.max_positions);
        windows = windows_of(options, files, *tokenizer);
        for (const auto& [ids, given] : windows) {
          items.push_back(packed({{"number", items.size()}, {"ids", ids}, {"given", given}}));
          tokens += std::ssize(ids);
        }
        return limits_for_windows(options.context);
      });
  std::vector<double> sums(windows.size());
  const auto add = [&](std::string_view result) {
    const json from = unpacked(result);
    sums.at(from.at("number").get<std::size_t>()) = from.at("log_likelihood");
  };
  bool finished = false;
  std::size_t scored = 0;
  {
    SharedRun shared(runtime.world(), loaded.grid->world(), items, tokens, deadline, {"scored", "windows"}, add);
    std::optional<LogLikelihood> scorer;
    runtime.together([&] { scorer.emplace(runtime.exec(), *loaded.model, options.context); });
    shared.one_by_one([&](const std::string& item) { score(*scorer, item, shared); });
    finished = shared.finish();
    scored = shared.done();
  }
  runtime.together([&] {
    if (!finished)
      throw Error(ended_by_signal, std::format("stopped after {} of {} windows; the same command begins anew", scored,
                                               windows.size()));
  });
  if (!runtime.root()) return;
  Perplexity result;
  for (std::size_t i = 0; i < windows.size(); ++i) result.add(windows[i], sums[i]);
  std::printf("perplexity %.5f | mean nll %.7f | %lld tokens scored in %lld windows of %d\n", result.value(),
              result.mean_nll(), static_cast<long long>(result.tokens), static_cast<long long>(result.windows),
              options.context);
}

}  // namespace

void add_perplexity(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("perplexity", "Score a text: e to the mean negative log-likelihood of its tokens");
  const auto options = std::make_shared<PerplexityCommandOptions>();
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
  add_walltime_to(*verb, options->max_walltime);
  options->model.add_replicas_to(*verb);
  verb->footer(
      "Protocols:\n"
      "  plain      The text's tokens, without special ones, are cut into windows of --context\n"
      "             tokens. Every token of a window but its first is scored, given those before\n"
      "             it in the window. A rest at the end counts only where there is no whole\n"
      "             window. With --bos a window is BOS and --context - 1 tokens of the text,\n"
      "             all of them scored.\n"
      "  llama.cpp  What llama.cpp's perplexity program does. The text's tokens, with the BOS\n"
      "             that the model adds, are cut into windows; special tokens written in the\n"
      "             text are text there, and a last newline is left out. Where the model adds\n"
      "             BOS (or with --bos), it takes the place of each window's first token. The\n"
      "             first half of a window gives context and is not scored.\n"
      "Figures compare only at the same protocol, --context and tokenizer. Ranks that --tp and\n"
      "--pp leave over are replicas, which share the windows; sums are added in their order.");
  verb->callback([options, &action, verb] {
    options->model.default_to_all_ranks(*verb);
    action.keeps_work = true;
    action.run = [options](Runtime& runtime) { run(runtime, *options); };
  });
}

}  // namespace grist::cli
