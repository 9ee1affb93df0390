// grist chat: a conversation on the terminal that keeps its history and its KV cache.
#include "model_options.hpp"
#include "progress.hpp"

#include <grist/generate/generation.hpp>
#include <grist/io/chat_template.hpp>

#include <unistd.h>

#include <iostream>

namespace grist::cli {
namespace {

struct Options {
  ModelOptionsGroup model;
  std::string system;
  int context = 0;
  int max_new_tokens = 512;
  SamplingOptions sampling;
};

/// The root's next line, on all ranks; none at the end of input.
std::optional<std::string> next_line(const Runtime& runtime, bool prompting) {
  std::string line;
  std::vector<int> bytes;
  int more = 0;
  if (runtime.root()) {
    if (prompting) std::cout << "> " << std::flush;
    more = std::getline(std::cin, line) ? 1 : 0;
    bytes.assign(line.begin(), line.end());
  }
  runtime.world().broadcast(&more, 1, 0);
  runtime.share(bytes);
  if (more == 0) return std::nullopt;
  return std::string(bytes.begin(), bytes.end());
}

/// The root's token ids of a conversation, on all ranks: a template may write the time into it.
std::vector<int> shared_prompt(const Runtime& runtime, const ModelSpec& spec, const io::Tokenizer* tokenizer,
                               const std::vector<io::Message>& messages) {
  auto ids = encode_prompt(spec, tokenizer, chat_prompt(tokenizer, messages), false);
  runtime.share(ids);
  return ids;
}

void run(Runtime& runtime, const Options& options) {
  const auto loaded = load_model(runtime, options.model, [&](const ModelSpec& spec, const io::Tokenizer* tokenizer) {
    options.sampling.check();
    chat_prompt(tokenizer, {{"user", "?"}});  // throws where the model cannot chat
    if (options.context > spec.max_positions)
      throw UsageError("--context {} is more than the model's {}", options.context, spec.max_positions);
    const int context = options.context > 0 ? options.context : std::min(spec.max_positions, 4096);
    return ModelLimits{.cache_tokens = context, .batch_tokens = prefill_chunk + few_tokens};
  });
  const auto* tokenizer = loaded.tokenizer.get();
  const auto& spec = loaded.model->spec();
  int terminal = on_terminal(STDIN_FILENO) && on_terminal(STDOUT_FILENO) ? 1 : 0;
  runtime.world().broadcast(&terminal, 1, 0);  // the root's; the others see none
  if (terminal != 0 && runtime.root()) std::cout << "/reset forgets the conversation, /exit or Ctrl-D leaves\n";
  std::vector<io::Message> fresh;
  if (!options.system.empty()) fresh.push_back({"system", options.system});
  auto messages = fresh;
  Conversation conversation;
  while (const auto line = next_line(runtime, terminal != 0)) {
    if (*line == "/exit") break;
    if (*line == "/reset") messages = fresh;
    if (line->empty() || *line == "/reset") continue;
    messages.push_back({"user", *line});
    try {
      check_utf8(*line, "stdin");
      Generation generation(runtime.exec(), *loaded.model, tokenizer,
                            {{shared_prompt(runtime, spec, tokenizer, messages), options.max_new_tokens, options.sampling, {}, end_tokens(spec, tokenizer)}}, &conversation);
      for (const TokenEvent& event : generation)
        if (runtime.root()) std::cout << event.text << std::flush;
      if (runtime.root()) std::cout << std::endl;
      messages.push_back({"assistant", generation.completions()[0].text});
    } catch (const InputError& error) {  // every rank sees the same line: invalid UTF-8, or no room left
      if (terminal == 0) throw;
      if (runtime.root()) std::cerr << "grist: " << error.what() << "; /reset begins anew\n";
      messages.pop_back();
    }
  }
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("chat", "Talk with a chat model; the history and its KV cache are kept");
  const auto options = std::make_shared<Options>();
  options->model.add_to(*verb, action);
  verb->add_option("--system", options->system, "System message");
  verb->add_option("--context", options->context, "Tokens of history and answers; default: the model's, at most 4096")
      ->check(CLI::Range(1, 1 << 30));
  verb->add_option("--max-new-tokens", options->max_new_tokens, "Tokens of an answer at most")->capture_default_str();
  add_sampling_options(*verb, options->sampling);
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
