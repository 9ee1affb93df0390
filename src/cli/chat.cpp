// grist chat: a conversation on the terminal that keeps its history and its KV cache.
#include "interrupt.hpp"
#include "model_options.hpp"
#include "progress.hpp"
#include "sampling.hpp"

#include <grist/generate/scheduler.hpp>
#include <grist/text/chat_template.hpp>

#include <unistd.h>

#include <iostream>

namespace grist::cli {
namespace {

struct ChatOptions {
  ModelOptionsGroup model;
  std::optional<std::string> system;
  int context = 0;
  int max_new_tokens = 512;
  SamplingGroup sampling;
};

/// The root's next line, on all ranks; none at the end of input or after Ctrl-C.
std::optional<std::string> next_line(const Runtime& runtime, bool prompting) {
  std::string line;
  int more = 0;
  if (runtime.root()) {
    if (prompting) std::cout << "> " << std::flush;
    more = std::getline(std::cin, line) ? 1 : 0;
    if (more == 0 && prompting) std::cout << std::endl;  // the shell's prompt begins a line
  }
  runtime.world().broadcast(&more, 1, 0);
  runtime.share(line);
  return more == 0 ? std::nullopt : std::optional(line);
}

/// The root's token ids of a conversation, on all ranks: a template may write the time into it.
std::vector<int> shared_prompt(const Runtime& runtime, const ModelTokens& tokens, const text::Tokenizer* tokenizer,
                               const std::vector<text::Message>& messages) {
  auto ids = encode_prompt(tokens, tokenizer, chat_prompt(tokenizer, messages), false);
  runtime.share(ids);
  return ids;
}

/// Generates and prints one answer. Ctrl-C on any rank ends it on all of them: the text so far is the answer.
std::string answer(Runtime& runtime, Scheduler& scheduler, Request request, Conversation conversation) {
  const int number = scheduler.submit(std::move(request), conversation);
  while (!scheduler.idle()) {
    for (const TokenEvent& event : scheduler.step())
      if (runtime.root()) std::cout << event.text << std::flush;
    if (runtime.world().all_reduce(Interrupt::came() ? 1 : 0, Reduction::max) != 0) scheduler.cancel(number);
  }
  if (runtime.root()) std::cout << std::endl;
  return scheduler.take(number).text;
}

ModelLimits limits_of(const ChatOptions& options, const ModelSpec& spec) {
  if (options.context > spec.max_positions)
    throw UsageError("--context {} is more than the model's {}", options.context, spec.max_positions);
  const int context = options.context > 0 ? options.context : std::min(spec.max_positions, 4096);
  return {.batch_tokens = prefill_tokens, .context = context, .kv_tokens = context};
}

void run(Runtime& runtime, const ChatOptions& options) {
  SamplingOptions sampling;
  runtime.together([&] { sampling = options.sampling.options_for(options.model.model, runtime.root()); });
  const auto loaded =
      load_model(runtime, options.model, [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
        check_utf8(options.system.value_or(""), "--system");
        chat_prompt(tokenizer, {{"user", "?"}});  // throws where the model cannot chat
        return limits_of(options, files.spec);
      });
  const auto* tokenizer = loaded.tokenizer.get();
  int terminal = on_terminal(STDIN_FILENO) && on_terminal(STDOUT_FILENO) ? 1 : 0;
  runtime.world().broadcast(&terminal, 1, 0);  // the root's; the others see none
  if (terminal != 0 && runtime.root())
    std::cout << "/reset forgets the conversation, Ctrl-C ends an answer, /exit or Ctrl-D leaves\n";
  std::vector<text::Message> fresh;
  if (options.system) fresh.push_back({"system", *options.system});
  auto messages = fresh;
  Scheduler scheduler(
      runtime.exec(), *loaded.model,
      {.kv_tokens = loaded.model->limits().kv_tokens, .tokenizer = tokenizer});
  const Conversation conversation = scheduler.open_conversation();
  const Interrupt interrupt;
  while (const auto line = next_line(runtime, terminal != 0)) {
    if (*line == "/exit") break;
    if (*line == "/reset") messages = fresh;
    if (line->empty() || *line == "/reset") continue;
    messages.push_back({"user", *line});
    Interrupt::clear();
    try {
      check_utf8(*line, "stdin");
      const auto prompt = shared_prompt(runtime, loaded.tokens, tokenizer, messages);
      const auto text =
          answer(runtime, scheduler, {.prompt = prompt, .max_new_tokens = options.max_new_tokens, .sampling = sampling},
                 conversation);
      messages.push_back({"assistant", text});
    } catch (const InputError& error) {  // every rank sees the same line: invalid UTF-8, or no room left
      if (terminal == 0) throw;
      if (runtime.root()) std::cerr << "grist: " << error.what() << "; /reset begins anew\n";
      messages.pop_back();
    }
    Interrupt::clear();
  }
}

}  // namespace

void add_chat(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("chat", "Talk with a chat model; the history and its KV cache are kept");
  const auto options = std::make_shared<ChatOptions>();
  options->model.add_to(*verb, action);
  add_text(*verb, "--system", options->system, "System message");
  verb->add_option("--context", options->context, "Tokens of history and answers; default: the model's, at most 4096")
      ->check(CLI::Range(1, 1 << 30));
  verb->add_option("--max-new-tokens", options->max_new_tokens, "Tokens of an answer at most")->capture_default_str();
  options->sampling.add_to(*verb);
  verb->footer(
      "Each line of stdin is a message. /reset forgets the conversation, /exit or the end of\n"
      "input leaves. Ctrl-C ends an answer, a second one the program; at the prompt it ends\n"
      "the chat.");
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
