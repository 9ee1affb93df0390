#include "batch.hpp"

#include "answer_file.hpp"
#include "answer_json.hpp"
#include "interrupt.hpp"
#include "model_files.hpp"
#include "output_file.hpp"
#include "packed_json.hpp"
#include "request_options.hpp"
#include "shared_run.hpp"
#include "texts.hpp"

#include <grist/core/clock.hpp>
#include <grist/core/philox.hpp>
#include <grist/generate/generation.hpp>

#include <algorithm>
#include <chrono>
#include <format>
#include <map>
#include <memory>
#include <utility>

namespace grist::cli {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

// A request on its way from the root to the replica that answers it.

json options_of(const Request& request) {
  json to;
  for_each_option(request, [&](const char* name, const auto& value) { to[name] = value; });
  return to;
}

std::string packed_line(const PromptLine& line) {
  json to = options_of(line.request);
  to.update({{"id", line.id}, {"prompt", line.request.prompt}, {"copy", line.request.copy},
             {"settings", line.settings}});
  return packed(to);
}

PromptLine unpacked_line(const std::string& bytes) {
  const json from = unpacked(bytes);
  PromptLine line{from.at("id"), {}, from.at("settings")};
  from.at("prompt").get_to(line.request.prompt);
  from.at("copy").get_to(line.request.copy);
  for_each_option(line.request, [&](const char* name, auto& value) { from.at(name).get_to(value); });
  return line;
}

// Its answer on the way back: the line of the file, and what guesses gave.

std::string packed_answer(const PromptLine& line, const Completion& completion) {
  nlohmann::ordered_json answer{{"id", line.id}};
  answer.update(answer_json(line.request, completion));
  answer["settings"] = line.settings;
  return packed({{"line", answer.dump(-1, ' ', false, json::error_handler_t::replace)},
                 {"tokens", completion.ids.size()},
                 {"guessed", completion.guessed},
                 {"right", completion.guessed_right}});
}

/// What comes back instead where the logits of a prompt are not finite.
std::string packed_failure(const PromptLine& line, const std::string& why) {
  return packed({{"failed", std::format("prompt {}: {}", line.id.dump(), why)}});
}

void write(AnswerFile& file, GuessCount& guesses, std::vector<std::string>& failed, std::string_view bytes) {
  const json answer = unpacked(bytes);
  if (const auto why = answer.find("failed"); why != answer.end()) {
    failed.push_back(*why);
    return note(failed.back());
  }
  file.append(answer.at("line"));
  guesses.add(answer.at("tokens"), answer.at("guessed"), answer.at("right"));
}

/// Tokens that a request may take at most.
Index most_tokens(const Request& request, Index context) {
  return std::min(std::ssize(request.prompt) + request.max_new_tokens, context);
}

/// One replica's share: takes requests, runs them, sends answers. All its ranks do the same.
class Replica {
public:
  Replica(Runtime& runtime, const LoadedModel& loaded, const DraftSource& drafts, SharedRun& shared)
      : shared_(shared),
        context_(loaded.model->limits().context),
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
        stop = !take(group);
        if (stop) break;
        if (!group.scheduler->idle()) {
          group.scheduler->begin_step();
          idle = false;
        }
        shared_.stepped(seconds_since(begin));
      }
    }
    for (auto& group : groups_) end_step(group);  // what was begun before all had to stop
  }

  /// Of all replicas, of which `first` ranks count. Collective over `world`.
  [[nodiscard]] PassTimes::Compared pass_times(const Communicator& world, bool first) const {
    PassTimes::Compared all;
    for (const auto& group : groups_) {
      const auto times = group.scheduler->pass_times().compared();
      all.with_guesses += first ? times.with_guesses : 0;
      all.without += first ? times.without : 0;
    }
    return {world.all_reduce(all.with_guesses), world.all_reduce(all.without)};
  }

private:
  struct Asked {
    PromptLine line;
    bool begun = false;  // it has a new token
  };
  struct Group {
    std::unique_ptr<Scheduler> scheduler;
    std::map<int, Asked> asked;  // by the scheduler's numbers
  };

  void end_step(Group& group) {
    std::vector<TokenEvent> events;
    try {
      events = group.scheduler->end_step();
    } catch (const NumericalError&) {
      set_aside(group);
      events = group.scheduler->end_step();  // of the others
    }
    for (const auto& event : events) {
      auto& [line, begun] = group.asked.at(event.request);
      const Index read = std::exchange(begun, true) ? 0 : std::ssize(line.request.prompt);
      shared_.count({.worked_on = read + 1, .told = 1});
      if (event.finish == Finish::running) continue;
      const auto completion = group.scheduler->take(event.request);
      const auto asked = group.asked.extract(event.request);
      const auto& request = asked.mapped().line.request;
      shared_.send(packed_answer(asked.mapped().line, completion), most_tokens(request, context_),
                   std::ssize(request.prompt) + std::ssize(completion.ids));
    }
  }

  /// Requests that the scheduler cancelled: the other prompts are answered.
  void set_aside(Group& group) {
    for (auto asked = group.asked.begin(); asked != group.asked.end();) {
      const auto [number, one] = *asked++;
      if (group.scheduler->completion(number).finish != Finish::cancelled) continue;
      const Request& request = one.line.request;
      const auto completion = group.scheduler->take(number);
      if (!one.begun) shared_.count({.worked_on = std::ssize(request.prompt)});
      shared_.send(packed_failure(one.line, completion.broken), most_tokens(request, context_),
                   std::ssize(request.prompt) + std::ssize(completion.ids));
      group.asked.erase(number);
    }
  }

  /// Gives a group what its free slots take, some at a time, so that other groups and replicas find work too. False
  /// where all have to stop.
  bool take(Group& group) {
    constexpr std::size_t most = 4;
    const bool idle = std::ranges::all_of(groups_, [](const Group& one) { return one.scheduler->idle(); });
    const auto items = shared_.take(std::min(most, slots_ - group.asked.size()), idle);
    if (!items) return false;
    for (const auto& item : *items) {
      PromptLine line = unpacked_line(item);
      const int number = group.scheduler->submit(line.request);
      group.asked.emplace(number, Asked{std::move(line)});
    }
    return true;
  }

  SharedRun& shared_;
  std::vector<Group> groups_;
  Index context_;
  std::size_t slots_;  // requests of a group
};

/// Sets `settings`: layout and threads do not decide an answer, and which copy of equal prompts a line is decides what
/// it draws.
void set_settings(const BatchOptions& options, const ModelFiles& files, std::vector<PromptLine>& lines) {
  const ModelNumbers numbers = chosen_numbers(options.model, files.stored);
  const std::string model = std::format("{}{} {} {}\n", describe_files(options.model.model),
                                        static_cast<int>(numbers.type), static_cast<int>(numbers.kv_type),
                                        static_cast<int>(numbers.weights));
  for (PromptLine& line : lines) {
    const int copy = line.request.sampling.temperature > 0 ? line.request.copy : 0;
    const auto settings = std::format("{}{} {}", model, options_of(line.request).dump(), copy);
    line.settings = std::format("{:016x}", hash_name(settings));
  }
}

/// What the root knows before the work begins.
struct Plan {
  std::optional<AnswerFile> file;
  std::vector<std::string> requests;  // packed, the longest first
  Index tokens = 0;                   // that all of them take at most
};

ModelLimits plan_of(Plan& plan, const BatchOptions& options, int ranks, const PromptDefaults& defaults,
                    const ModelFiles& files, const text::Tokenizer* tokenizer) {
  expect_no_input(options.output, "--output", {options.prompts});
  bool doubled = false;
  const PromptReader reader{
      [&](const std::string& text) {
        auto ids = encode_prompt(files.tokens, tokenizer, text, true);
        doubled = doubled || tokenizer->doubles_bos(ids);
        return ids;
      },
      [&](const std::vector<text::Message>& messages) {
        return encode_prompt(files.tokens, tokenizer, chat_prompt(tokenizer, messages), false);
      },
      [&](const Request& request) {
        Interrupt::check("reading the prompts");
        check(request, "the prompt", files.spec.vocab_size, files.spec.max_positions);
        if (tokenizer == nullptr && !request.stop.empty())
          throw InputError("'stop' needs a tokenizer, and the model has none");
      }};
  auto lines = read_prompts(options.prompts, defaults, reader);
  if (doubled) note(second_bos);
  const auto all = lines.size();
  set_settings(options, files, lines);
  plan.file.emplace(options.output);
  lines = plan.file->without_answered(std::move(lines));
  if (plan.file->cut_off())
    note(std::format("{}: its last line was not whole and is computed again", options.output));
  if (lines.size() < all)
    note(std::format("{}: {} of {} prompts are answered already", options.output, all - lines.size(), all));
  // Those that take longest first, so that none is left to one replica at the end.
  const auto work = [&](const PromptLine& line) { return most_tokens(line.request, files.spec.max_positions); };
  std::ranges::stable_sort(lines, std::greater(), work);
  std::vector<Request> requests;
  for (const auto& line : lines) {
    plan.requests.push_back(packed_line(line));
    plan.tokens += work(line);
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
  const Deadline deadline = deadline_of(runtime, options.max_walltime, begin);
  PromptDefaults defaults{options.otherwise, options.otherwise};
  runtime.together([&] {
    SamplingGroup greedy = options.sampling;
    greedy.choice.temperature = 0;
    defaults.otherwise.sampling = options.sampling.options_for(options.model.model, runtime.root());
    defaults.greedy.sampling = greedy.options_for(options.model.model, false);
    options.draft.check(defaults.otherwise.sampling, runtime.root());
  });
  Plan plan;
  const auto sizes = [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
    return plan_of(plan, options, runtime.world().size(), defaults, files, tokenizer);
  };
  const auto loaded = load_model(runtime, options.model, sizes, options.draft.model);
  bool finished = true;
  std::vector<std::string> failed;
  {
    const DraftSource drafts(runtime, loaded, options.draft);
    GuessCount guesses;
    const auto take = [&](std::string_view answer) { write(*plan.file, guesses, failed, answer); };
    SharedRun shared(runtime.world(), loaded.grid->world(), plan.requests, plan.tokens, deadline,
                     {"answered", "prompts"}, take);
    std::optional<Replica> replica;
    runtime.together([&] { replica.emplace(runtime, loaded, drafts, shared); });
    replica->run();
    finished = shared.finish();
    guesses.add(replica->pass_times(runtime.world(), loaded.grid->world().rank() == 0));
    if (drafts.draft_tokens() > 0 && runtime.root()) note(guesses.text());
  }
  runtime.together([&] {
    if (!finished)
      throw Error(ended_by_signal, std::format("stopped before all prompts were answered; {} keeps what was, and the "
                                               "same command goes on", options.output));
    if (!failed.empty())
      throw NumericalError("{}; {} prompts of {} have no answer, all others are answered", failed.front(),
                           failed.size(), options.prompts);
  });
}

}  // namespace grist::cli
