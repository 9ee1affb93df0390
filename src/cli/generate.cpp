// grist generate: continues prompts, streaming the text.
#include "model_options.hpp"
#include "progress.hpp"

#include <grist/generate/generation.hpp>
#include <grist/io/chat_template.hpp>

#include <nlohmann/json.hpp>

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iostream>

namespace grist::cli {
namespace {

struct Options {
  ModelOptionsGroup model;
  std::vector<std::string> prompts, prompt_files, chats, prompt_ids;
  std::string system;
  int max_new_tokens = 128;
  SamplingOptions sampling;
  std::vector<std::string> stop;
  bool json = false;
  std::string json_file;
};

std::vector<int> encode_chat(const ModelSpec& spec, const io::Tokenizer* tokenizer, const std::string& system,
                             const std::string& text) {
  std::vector<io::Message> messages;
  if (!system.empty()) messages.push_back({"system", system});
  messages.push_back({"user", text});
  return encode_prompt(spec, tokenizer, chat_prompt(tokenizer, messages), false);
}

std::vector<std::vector<int>> prompts_of(const Options& options, const ModelSpec& spec, const io::Tokenizer* tokenizer) {
  std::vector<std::vector<int>> prompts;
  for (const auto& text : options.prompts) check_utf8(text, "--prompt");
  for (const auto& text : options.chats) check_utf8(text, "--chat");
  check_utf8(options.system, "--system");
  if (!options.system.empty() && options.chats.empty()) throw UsageError("--system goes with --chat");
  for (const auto& text : options.prompts) prompts.push_back(encode_prompt(spec, tokenizer, text, true));
  for (const auto& file : options.prompt_files) prompts.push_back(encode_prompt(spec, tokenizer, read_text(file), true));
  for (const auto& text : options.chats) prompts.push_back(encode_chat(spec, tokenizer, options.system, text));
  for (const auto& text : options.prompt_ids) {
    const auto ids = parse_ids(text, "--prompt-ids");
    prompts.push_back(ids.empty() ? encode_prompt(spec, tokenizer, "", true) : ids);
  }
  if (prompts.empty()) throw UsageError("give a prompt: --prompt TEXT, --prompt-file FILE, --chat TEXT or --prompt-ids IDS");
  return prompts;
}

std::vector<Request> requests_of(const Options& options, const ModelSpec& spec, const io::Tokenizer* tokenizer,
                                 const std::vector<std::vector<int>>& prompts) {
  std::vector<Request> requests;
  for (const auto& prompt : prompts)
    requests.push_back({prompt, options.max_new_tokens, options.sampling, options.stop, end_tokens(spec, tokenizer)});
  return requests;
}

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

nlohmann::ordered_json json_of(const Request& request, const Completion& completion) {
  const auto tokens = static_cast<double>(completion.ids.size());
  return {{"prompt_ids", request.prompt},
          {"new_ids", completion.ids},
          {"text", completion.text},
          {"finish", completion.finish == Finish::stop ? "stop" : "length"},
          {"timings",
           {{"prefill_seconds", completion.prefill_seconds},
            {"decode_seconds", completion.decode_seconds},
            {"prefill_tokens_per_second", per_second(static_cast<double>(request.prompt.size()), completion.prefill_seconds)},
            {"decode_tokens_per_second", per_second(tokens - 1, completion.decode_seconds)}}}};
}

void write_json(std::ostream& out, const std::vector<Request>& requests, const std::vector<Completion>& completions) {
  for (std::size_t i = 0; i < requests.size(); ++i) {
    out << json_of(requests[i], completions[i]).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
  }
  out.flush();
}

/// The text of one prompt as it comes; of several, each when it is complete, under a headline.
void print_event(const TokenEvent& event, const std::vector<Completion>& completions) {
  if (completions.size() == 1) {
    std::cout << event.text << std::flush;
    if (event.finish != Finish::running) std::cout << std::endl;
  } else if (event.finish != Finish::running) {
    std::cout << "== prompt " << event.sequence << '\n' << completions[static_cast<std::size_t>(event.sequence)].text << std::endl;
  }
}

void print_timings(const std::vector<Request>& requests, const std::vector<Completion>& completions) {
  double prompt_tokens = 0, new_tokens = 0, prefill = 0, decode = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    prompt_tokens += static_cast<double>(requests[i].prompt.size());
    new_tokens += static_cast<double>(completions[i].ids.size()) - 1;
    prefill = std::max(prefill, completions[i].prefill_seconds);
    decode = std::max(decode, completions[i].decode_seconds);
  }
  std::fprintf(stderr, "prompt %.0f tokens, %.1f tok/s | new %.0f tokens, %.1f tok/s\n", prompt_tokens,
               per_second(prompt_tokens, prefill), new_tokens + static_cast<double>(requests.size()),
               per_second(new_tokens, decode));
}

void run(Runtime& runtime, const Options& options) {
  std::vector<std::vector<int>> prompts(options.prompts.size() + options.prompt_files.size() + options.chats.size() +
                                        options.prompt_ids.size());
  std::ofstream json_file;
  const auto loaded = load_model(runtime, options.model, [&](const ModelSpec& spec, const io::Tokenizer* tokenizer) {
    prompts = prompts_of(options, spec, tokenizer);
    if (!options.json_file.empty()) {
      json_file.open(options.json_file);
      if (!json_file) throw InputError("{}: cannot be written", options.json_file);
    }
    return limits_for(requests_of(options, spec, tokenizer, prompts), spec.max_positions);
  });
  for (auto& prompt : prompts) runtime.share(prompt);
  const auto requests = requests_of(options, loaded.model->spec(), loaded.tokenizer.get(), prompts);
  std::optional<Generation> generation;
  runtime.together([&] { generation.emplace(runtime.exec(), *loaded.model, loaded.tokenizer.get(), requests); });
  for (const TokenEvent& event : *generation)
    if (runtime.root() && !options.json) print_event(event, generation->completions());
  if (!runtime.root()) return;
  if (options.json) write_json(std::cout, requests, generation->completions());
  if (json_file.is_open()) {
    write_json(json_file, requests, generation->completions());
    if (!json_file) throw InternalError("{}: cannot be written", options.json_file);
  }
  if (on_terminal(STDERR_FILENO)) print_timings(requests, generation->completions());
}

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("generate", "Continue prompts; the text streams to stdout");
  const auto options = std::make_shared<Options>();
  options->model.add_to(*verb, action);
  const auto repeatable = [&](const char* name, std::vector<std::string>& values, const char* help) {
    return verb->add_option(name, values, help)->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)->type_name("TEXT");
  };
  repeatable("--prompt", options->prompts, "A prompt, may be repeated; special tokens in it are parsed; empty: BOS alone");
  repeatable("--prompt-file", options->prompt_files, "A file that holds a prompt, may be repeated")->type_name("FILE");
  repeatable("--chat", options->chats, "A user's message, put in the model's chat template, may be repeated");
  repeatable("--prompt-ids", options->prompt_ids, "A prompt as token ids: 1,15043,3186")->type_name("IDS");
  verb->add_option("--system", options->system, "System message for --chat");
  verb->add_option("--max-new-tokens", options->max_new_tokens, "Tokens to generate at most")->capture_default_str();
  add_sampling_options(*verb, options->sampling);
  repeatable("--stop", options->stop, "A text that ends the generation, may be repeated");
  verb->add_flag("--json", options->json,
                 "One line a prompt on stdout: prompt_ids, new_ids, text, finish (stop or length), timings");
  verb->add_option("--json-file", options->json_file, "The same lines into a file, while the text streams to stdout");
  verb->footer("Examples:\n  grist generate --model model.gguf --chat \"What is MPI?\"\n"
               "  mpirun -n 2 grist generate --model Llama-3.2-1B --prompt \"Once upon a time\" --tp 2 --dtype bf16");
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
