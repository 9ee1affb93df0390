#include "batch.hpp"

#include "answer_file.hpp"
#include "interrupt.hpp"
#include "shared_run.hpp"

#include <grist/core/clock.hpp>
#include <grist/generate/generation.hpp>

#include <algorithm>
#include <chrono>
#include <format>
#include <map>
#include <memory>
#include <sstream>

namespace grist::cli {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

// A request on its way from the root to the replica that answers it.

std::string packed(const PromptLine& line) {
  const auto& [prompt, max_new_tokens, sampling, stop, eos, ignore_eos, copy] = line.request;
  const auto bytes = json::to_msgpack({{"id", line.id},
                                       {"prompt", prompt},
                                       {"max_new_tokens", max_new_tokens},
                                       {"temperature", sampling.temperature},
                                       {"top_k", sampling.top_k},
                                       {"top_p", sampling.top_p},
                                       {"min_p", sampling.min_p},
                                       {"repetition_penalty", sampling.repetition_penalty},
                                       {"seed", sampling.seed},
                                       {"stop", stop},
                                       {"ignore_eos", ignore_eos},
                                       {"copy", copy}});
  return {bytes.begin(), bytes.end()};
}

PromptLine unpacked(const std::string& bytes) {
  const json from = json::from_msgpack(bytes);
  PromptLine line{from.at("id"), {}};
  auto& request = line.request;
  auto& sampling = request.sampling;
  from.at("prompt").get_to(request.prompt);
  from.at("max_new_tokens").get_to(request.max_new_tokens);
  from.at("temperature").get_to(sampling.temperature);
  from.at("top_k").get_to(sampling.top_k);
  from.at("top_p").get_to(sampling.top_p);
  from.at("min_p").get_to(sampling.min_p);
  from.at("repetition_penalty").get_to(sampling.repetition_penalty);
  from.at("seed").get_to(sampling.seed);
  from.at("stop").get_to(request.stop);
  from.at("ignore_eos").get_to(request.ignore_eos);
  from.at("copy").get_to(request.copy);
  return line;
}

/// Its new tokens, how many were guessed and how many of these right, and the line, on the way to the root.
std::string answer_of(const PromptLine& line, const Completion& completion) {
  const nlohmann::ordered_json answer{{"id", line.id},
                                      {"prompt_ids", line.request.prompt},
                                      {"new_ids", completion.ids},
                                      {"text", completion.text},
                                      {"finish", name_of(completion.finish)}};
  return std::format("{} {} {} {}", completion.ids.size(), completion.guessed, completion.guessed_right,
                     answer.dump(-1, ' ', false, json::error_handler_t::replace));
}

/// Writes what answer_of() made, adds to `guesses`, and tells its new tokens.
std::size_t write(AnswerFile& file, GuessCount& guesses, std::string_view answer) {
  std::istringstream in{std::string(answer)};
  std::size_t tokens = 0;
  int guessed = 0, right = 0;
  in >> tokens >> guessed >> right;
  file.append(std::string(answer.substr(static_cast<std::size_t>(in.tellg()) + 1)));
  guesses.add(tokens, guessed, right);
  return tokens;
}

/// One replica's share: takes requests, runs them, sends answers. All its ranks do the same.
class Replica {
public:
  Replica(Runtime& runtime, const LoadedModel& loaded, const DraftSource& drafts, SharedRun& shared)
      : shared_(shared),
        slots_(static_cast<std::size_t>(loaded.model->limits().batch_sequences)) {
    // With as many groups of sequences as stages every stage has one to work on.
    for (int group = 0; group < loaded.model->limits().caches; ++group)
      groups_.push_back({std::make_unique<Scheduler>(
                             runtime.exec(), *loaded.model,
                             SchedulerOptions{.tokenizer = loaded.tokenizer.get(),
                                              .draft_tokens = drafts.draft_tokens(),
                                              .drafter = drafts.drafter()}),
                         {}});
  }

  /// Until nothing is left, or all have to stop. No rank waits for another but for the results of stages before it.
  void run() {
    for (bool idle = false, stop = false; !idle && !stop;) {
      idle = true;
      for (auto& group : groups_) {
        const auto begin = Clock::now();
        end_step(group);
        stop = stop || !take(group);
        if (stop) continue;  // what other groups have begun ends first
        if (!group.scheduler->idle()) {
          group.scheduler->begin_step();
          idle = false;
        }
        shared_.stepped(seconds_since(begin));
      }
    }
  }

private:
  struct Group {
    std::unique_ptr<Scheduler> scheduler;
    std::map<int, PromptLine> asked;  // by the scheduler's numbers
  };

  void end_step(Group& group) {
    try {
      for (const auto& event : group.scheduler->end_step()) {
        if (event.finish == Finish::running) continue;
        const auto completion = group.scheduler->take(event.request);
        const auto asked = group.asked.extract(event.request);
        shared_.send(answer_of(asked.mapped(), completion));
      }
    } catch (const NumericalError& error) {
      for (const auto& [number, line] : group.asked)
        if (group.scheduler->completion(number).finish == Finish::cancelled)
          throw NumericalError("prompt {}: {}", line.id.dump(), error.what());
      throw;
    }
  }

  /// Gives a group what its free slots take, some at a time, so that other groups and replicas find work too. False
  /// where all have to stop.
  bool take(Group& group) {
    constexpr std::size_t most = 4;
    const bool idle = std::ranges::all_of(groups_, [](const Group& one) { return one.scheduler->idle(); });
    const auto texts = shared_.take(std::min(most, slots_ - group.asked.size()), idle);
    if (!texts) return false;
    for (const auto& text : *texts) {
      PromptLine line = unpacked(text);
      const int number = group.scheduler->submit(line.request);
      group.asked.emplace(number, std::move(line));
    }
    return true;
  }

  SharedRun& shared_;
  std::vector<Group> groups_;
  std::size_t slots_;  // requests of a group
};

/// What the root knows before the work begins.
struct Plan {
  std::optional<AnswerFile> file;
  std::vector<std::string> requests;  // packed, the longest first
};

ModelLimits plan_of(Plan& plan, const BatchOptions& options, int ranks, const Request& otherwise,
                    const ModelFiles& files, const text::Tokenizer* tokenizer) {
  const PromptReader reader{
      [&](const std::string& text) { return encode_prompt(files.tokens, tokenizer, text, true); },
      [&](const std::vector<text::Message>& messages) {
        return encode_prompt(files.tokens, tokenizer, chat_prompt(tokenizer, messages), false);
      },
      [&](const Request& request) { check(request, "the prompt", files.spec.vocab_size, files.spec.max_positions); }};
  auto lines = read_prompts(options.prompts, otherwise, reader);
  const auto all = lines.size();
  plan.file.emplace(options.output, options.prompts);
  lines = plan.file->without_answered(std::move(lines));
  if (lines.size() < all)
    note(std::format("{}: {} of {} prompts are answered already", options.output, all - lines.size(), all));
  // Those that take longest first, so that none is left to one replica at the end.
  const auto work = [](const PromptLine& line) {
    return std::ssize(line.request.prompt) + line.request.max_new_tokens;
  };
  std::ranges::stable_sort(lines, std::greater(), work);
  std::vector<Request> requests;
  for (const auto& line : lines) {
    plan.requests.push_back(packed(line));
    requests.push_back(line.request);
  }
  // A group has no more slots than its share of the prompts, so that none takes what others could work on.
  const int groups = options.model.pp, replicas = std::max(1, ranks / static_cast<int>(options.model.layout().ranks()));
  const auto per = [](int whole, int parts) { return std::max(1, (whole + parts - 1) / parts); };
  const int slots = std::min(per(options.max_sequences, groups),
                             per(static_cast<int>(std::min<std::size_t>(lines.size(), 1 << 30)), replicas * groups));
  ModelLimits limits = limits_for(requests, files.spec.max_positions, slots, {}, options.draft.draft_tokens());
  limits.caches = groups;
  return limits;
}

}  // namespace

void run_batch(Runtime& runtime, const BatchOptions& options) {
  const auto begin = Clock::now();
  const Interrupt interrupt({SIGTERM, SIGINT, SIGUSR1, SIGUSR2}, SA_RESTART);
  const Deadline deadline = deadline_of(runtime, options.max_walltime, begin);
  Request otherwise = options.otherwise;
  runtime.together([&] {
    otherwise.sampling = options.sampling.options_for(options.model.model, runtime.root());
    options.draft.check(otherwise.sampling, runtime.root());
  });
  Plan plan;
  const auto sizes = [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
    return plan_of(plan, options, runtime.world().size(), otherwise, files, tokenizer);
  };
  const auto loaded = load_model(runtime, options.model, sizes, options.draft.model);
  bool finished = true;
  {
    const DraftSource drafts(runtime, loaded, options.draft);
    GuessCount guesses;
    SharedRun shared(runtime.world(), loaded.grid->world(), plan.requests, deadline, {"answered", "prompts"},
                     [&](std::string_view answer) { return write(*plan.file, guesses, answer); });
    std::optional<Replica> replica;
    runtime.together([&] { replica.emplace(runtime, loaded, drafts, shared); });
    replica->run();
    finished = shared.finish();
    if (guesses.any()) note(guesses.text());
  }
  runtime.together([&] {
    if (!finished)
      throw Error(ended_by_signal, std::format("stopped before all prompts were answered; {} keeps what was, and the "
                                               "same command goes on", options.output));
  });
}

}  // namespace grist::cli
