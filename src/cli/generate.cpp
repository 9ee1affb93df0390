// grist generate: continues prompts, streaming the text.
#include "answer_json.hpp"
#include "batch.hpp"
#include "draft.hpp"
#include "json_lines.hpp"
#include "model_options.hpp"
#include "output_file.hpp"
#include "progress.hpp"
#include "sampling.hpp"
#include "shared_run.hpp"

#include <grist/generate/generation.hpp>
#include <grist/text/chat_template.hpp>

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <map>

namespace grist::cli {
namespace {

/// A prompt as it was given: by which option, and the text, file or ids.
struct Prompt {
  enum Kind { text, file, chat, ids } kind;
  std::string value;
};

struct GenerateOptions {
  ModelOptionsGroup model;
  std::vector<Prompt> prompts;  // in the order of the command line
  std::optional<std::string> system;
  int max_new_tokens = 128;
  bool ignore_eos = false;
  SamplingGroup sampling;
  std::vector<std::string> stop;
  DraftOptions draft;
  bool json = false;
  std::string json_file;
  // Batch inference:
  std::string prompts_file, output, max_walltime;
  int max_sequences = 32;  // worked on at a time; of a file, by a replica
};

std::vector<int> encode(const Prompt& prompt, const GenerateOptions& options, const ModelTokens& tokens,
                        const text::Tokenizer* tokenizer) {
  switch (prompt.kind) {
    case Prompt::text:
      check_utf8(prompt.value, "--prompt");
      return encode_prompt(tokens, tokenizer, prompt.value, true);
    case Prompt::file: return encode_prompt(tokens, tokenizer, read_text(prompt.value), true);
    case Prompt::chat: break;
    case Prompt::ids:
      const auto ids = parse_ids(prompt.value, "--prompt-ids");
      return ids.empty() ? encode_prompt(tokens, tokenizer, "", true) : ids;
  }
  check_utf8(prompt.value, "--chat");
  std::vector<text::Message> messages;
  if (options.system) messages.push_back({"system", *options.system});
  messages.push_back({"user", prompt.value});
  return encode_prompt(tokens, tokenizer, chat_prompt(tokenizer, messages), false);
}

std::vector<std::vector<int>> encode_all(const GenerateOptions& options, const ModelTokens& tokens,
                                         const text::Tokenizer* tokenizer) {
  const auto is_chat = [](const Prompt& prompt) { return prompt.kind == Prompt::chat; };
  if (options.prompts.empty())
    throw UsageError("give a prompt: --prompt TEXT, --prompt-file FILE, --chat TEXT or --prompt-ids IDS");
  if (options.system && std::ranges::none_of(options.prompts, is_chat)) throw UsageError("--system goes with --chat");
  check_utf8(options.system.value_or(""), "--system");
  std::vector<std::vector<int>> prompts;
  for (const auto& prompt : options.prompts) prompts.push_back(encode(prompt, options, tokens, tokenizer));
  const auto doubled = [&](const auto& ids) { return tokenizer->doubles_bos(ids); };
  if (tokenizer != nullptr && std::ranges::any_of(prompts, doubled)) note(second_bos);
  return prompts;
}

std::vector<Request> requests_of(const GenerateOptions& options, const SamplingOptions& sampling,
                                 const std::vector<std::vector<int>>& prompts) {
  std::vector<Request> requests;
  for (const auto& prompt : prompts)
    requests.push_back({.prompt = prompt,
                        .max_new_tokens = options.max_new_tokens,
                        .sampling = sampling,
                        .stop = options.stop,
                        .ignore_eos = options.ignore_eos});
  return requests;
}

double per_second(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

nlohmann::ordered_json json_of(int index, const Request& request, const Completion& completion) {
  const auto tokens = static_cast<double>(completion.ids.size());
  const auto prompt_tokens = static_cast<double>(request.prompt.size());
  nlohmann::ordered_json json{{"index", index}};
  json.update(answer_json(request, completion));
  json["timings"] = {{"waiting_seconds", completion.waiting_seconds},
                     {"prefill_seconds", completion.prefill_seconds},
                     {"decode_seconds", completion.decode_seconds},
                     {"guessed_tokens", completion.guessed},
                     {"guessed_right", completion.guessed_right},
                     {"prefill_tokens_per_second", per_second(prompt_tokens, completion.prefill_seconds)},
                     {"decode_tokens_per_second", per_second(tokens - 1, completion.decode_seconds)}};
  return json;
}

/// As --prompt-ids takes them.
std::string listed(const std::vector<int>& ids) {
  std::string all;
  for (const int id : ids) all += (all.empty() ? "" : ",") + std::to_string(id);
  return all;
}

/// The answer to one prompt as it comes; to several, each when it is complete, under a headline. Without a tokenizer an
/// answer is its ids.
void print_event(const TokenEvent& event, const Completion& completion, bool alone, bool as_ids) {
  if (alone) {
    const auto id = (completion.ids.size() > 1 ? "," : "") + std::to_string(event.id);
    std::cout << (as_ids ? id : event.text) << std::flush;
    if (event.finish != Finish::running) std::cout << std::endl;
  } else if (event.finish != Finish::running) {
    std::cout << "== prompt " << event.request << '\n'
              << (as_ids ? listed(completion.ids) : completion.text) << std::endl;
  }
}

void print_timings(const std::vector<Request>& requests, const Generation& generation) {
  double prompt_tokens = 0, new_tokens = 0, prefill = 0, decode = 0;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const auto& completion = generation.completion(static_cast<int>(i));
    prompt_tokens += static_cast<double>(requests[i].prompt.size());
    new_tokens += static_cast<double>(completion.ids.size()) - 1;
    prefill = std::max(prefill, completion.prefill_seconds);
    decode = std::max(decode, completion.decode_seconds);
  }
  std::fprintf(stderr, "prompt %.0f tokens, %.1f tok/s | new %.0f tokens, %.1f tok/s\n", prompt_tokens,
               per_second(prompt_tokens, prefill), new_tokens + static_cast<double>(requests.size()),
               per_second(new_tokens, decode));
}

void tell_guesses(std::size_t requests, const Generation& generation) {
  GuessCount guesses;
  for (std::size_t i = 0; i < requests; ++i) {
    const auto& completion = generation.completion(static_cast<int>(i));
    guesses.add(completion.ids.size(), completion.guessed, completion.guessed_right);
  }
  guesses.add(generation.pass_times().compared());
  note(guesses.text());
}

/// Where the results go; on the root alone something is written.
struct Outputs {
  std::optional<JsonLines> lines, file;
  bool text = false, as_ids = false;

  void put(const TokenEvent& event, const std::vector<Request>& requests, const Completion& completion) {
    if (text) print_event(event, completion, requests.size() == 1, as_ids);
    if (event.finish == Finish::running || (!lines && !file)) return;
    const auto json = json_of(event.request, requests[static_cast<std::size_t>(event.request)], completion);
    if (lines) lines->write(json);
    if (file) file->write(json);
  }
};

void run(Runtime& runtime, const GenerateOptions& options) {
  std::vector<std::vector<int>> prompts(options.prompts.size());
  SamplingOptions sampling;
  Outputs outputs{.text = runtime.root() && !options.json};
  const int draft_tokens = options.draft.draft_tokens();
  runtime.together([&] {
    sampling = options.sampling.options_for(options.model.model, runtime.root());
    options.draft.check(sampling, runtime.root());
  });
  const auto sizes = [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
    prompts = encode_all(options, files.tokens, tokenizer);
    if (options.json) outputs.lines.emplace();
    for (const auto& prompt : options.prompts)
      if (prompt.kind == Prompt::file) expect_no_input(options.json_file, "--json-file", {prompt.value});
    if (!options.json_file.empty()) outputs.file.emplace(options.json_file);
    const auto requests = requests_of(options, sampling, prompts);
    for (std::size_t i = 0; i < requests.size(); ++i)
      check(requests[i], std::format("prompt {}", i), files.spec.vocab_size, files.spec.max_positions);
    return limits_for(requests, files.spec.max_positions, options.max_sequences, {}, draft_tokens);
  };
  const auto loaded = load_model(runtime, options.model, sizes, options.draft.model);
  outputs.as_ids = loaded.tokenizer == nullptr;
  for (auto& prompt : prompts) runtime.share(prompt);
  const auto requests = requests_of(options, sampling, prompts);
  const DraftSource drafts(runtime, loaded, options.draft);
  std::optional<Generation> generation;
  runtime.together([&] {
    generation.emplace(runtime.exec(), *loaded.model,
                       SchedulerOptions{.tokenizer = loaded.tokenizer.get(),
                                        .draft_tokens = draft_tokens,
                                        .drafter = drafts.drafter()},
                       requests);
  });
  {
    ProgressLine line("prompts done", runtime.root() && requests.size() > 1 && !on_terminal(STDOUT_FILENO));
    std::uint64_t done = 0;
    for (const TokenEvent& event : *generation) {
      outputs.put(event, requests, generation->completion(event.request));
      if (event.finish != Finish::running) line.show(++done, requests.size());
    }
  }
  if (!runtime.root()) return;
  if (on_terminal(STDERR_FILENO)) print_timings(requests, *generation);
  if (draft_tokens > 0) tell_guesses(requests.size(), *generation);
}

BatchOptions batch_of(const GenerateOptions& options) {
  return {.model = options.model,
          .prompts = options.prompts_file,
          .output = options.output,
          .max_walltime = options.max_walltime,
          .max_sequences = options.max_sequences,
          .draft = options.draft,
          .otherwise = {.max_new_tokens = options.max_new_tokens,
                        .stop = options.stop,
                        .ignore_eos = options.ignore_eos},
          .sampling = options.sampling};
}

/// The options that give a prompt, and what they leave in `prompts` in the order of the command line.
class PromptOptions {
public:
  void add_to(CLI::App& app) {
    kinds_[add_texts(app, "--prompt", "A prompt; special tokens in it are parsed; empty: BOS alone. These four may be "
                                      "repeated and mixed: one batch")] = Prompt::text;
    kinds_[add_texts(app, "--prompt-file",
                     "A file that holds a prompt, - for stdin; taken as it is, a last newline too, but "
                     "a byte order mark is left out")
               ->type_name("FILE")] = Prompt::file;
    kinds_[add_texts(app, "--chat", "A user's message, put in the model's chat template")] = Prompt::chat;
    kinds_[add_texts(app, "--prompt-ids", "A prompt as token ids: 1,15043,3186")->type_name("IDS")] = Prompt::ids;
  }

  [[nodiscard]] std::vector<Prompt> given(const CLI::App& app) const {
    std::map<const CLI::Option*, std::size_t> seen;
    std::vector<Prompt> prompts;
    for (const CLI::Option* option : app.parse_order())
      if (const auto kind = kinds_.find(option); kind != kinds_.end())
        prompts.push_back({kind->second, option->results()[seen[option]++]});
    return prompts;
  }

private:
  std::map<const CLI::Option*, Prompt::Kind> kinds_;
};

}  // namespace

void add_generate(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("generate", "Continue prompts; the text streams to stdout");
  const auto options = std::make_shared<GenerateOptions>();
  options->model.add_to(*verb, action);
  PromptOptions prompts;
  prompts.add_to(*verb);
  add_text(*verb, "--system", options->system, "System message for --chat");
  verb->add_option("--max-new-tokens", options->max_new_tokens, "Tokens to generate at most")->capture_default_str();
  verb->add_flag("--ignore-eos", options->ignore_eos,
                 "Go on after an end token, for measurements; stop texts still end");
  options->draft.add_to(*verb);
  options->sampling.add_to(*verb);
  add_texts(*verb, "--stop", "A text that ends the generation, may be repeated")
      ->each([options](const std::string& text) { options->stop.push_back(text); });
  verb->add_flag(
      "--json", options->json,
      "One line a prompt on stdout, as soon as it is done: index (of the prompt on the command line, from 0), "
      "prompt_ids, new_ids, text, finish (stop or length), timings");
  verb->add_option("--json-file", options->json_file, "The same lines into a file, while the text streams to stdout")
      ->type_name("FILE");
  auto* file = verb->add_option("--prompts", options->prompts_file,
                                "Batch inference: JSON lines, each with prompt, prompt_ids or messages; with id, and "
                                "with how to choose tokens where a line differs: {\"id\": 7, \"prompt\": \"Once\", "
                                "\"max_new_tokens\": 20}")
                   ->type_name("FILE.jsonl");
  auto* output = verb->add_option("--output", options->output,
                                  "Where their answers go, a line each as soon as it is known: id, prompt_ids, "
                                  "new_ids, text, finish. The same command goes on where it was stopped, with any "
                                  "number of ranks")
                     ->type_name("FILE.jsonl")
                     ->check([](const std::string& name) { return name == "-" ? "is a file, not stdout" : ""; })
                     ->needs(file);
  file->needs(output);
  verb->add_option("--max-sequences", options->max_sequences, "Prompts that a replica works on at a time")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str()
      ->needs(file);
  add_walltime_to(*verb, options->max_walltime)->needs(file);
  options->model.add_replicas_to(*verb)->needs(file);
  for (const char* other : {"--prompt", "--prompt-file", "--chat", "--prompt-ids", "--system", "--json", "--json-file"})
    file->excludes(verb->get_option(other));
  verb->footer("Examples:\n"
               "  grist generate --model model.gguf --chat \"What is MPI?\"\n"
               "  grist generate --model Llama-3.2-1B --prompt \"Once upon\" --temperature 0.8 --top-p 0.95 --seed 7\n"
               "  grist generate --model model.gguf --prompt-file a.txt --prompt-file b.txt --json > answers.jsonl\n"
               "  mpirun -n 4 grist generate --model Llama-3.2-1B --prompt \"Once upon a time\" --tp 2 --pp 2\n"
               "  srun grist generate --model Llama-3.2-1B --prompts prompts.jsonl --output answers.jsonl --tp 2");
  verb->callback([options, &action, prompts, verb] {
    options->prompts = prompts.given(*verb);
    const bool batch = !options->prompts_file.empty();
    if (batch) options->model.default_to_all_ranks(*verb);
    action.keeps_work = batch;
    action.run = [options, batch](Runtime& runtime) {
      if (batch)
        run_batch(runtime, batch_of(*options));
      else
        run(runtime, *options);
    };
  });
}

}  // namespace grist::cli
