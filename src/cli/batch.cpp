#include "batch.hpp"

#include "answer_file.hpp"
#include "deadline.hpp"
#include "interrupt.hpp"
#include "progress.hpp"
#include "train_options.hpp"

#include <grist/comm/broadcast_text.hpp>
#include <grist/comm/shared_work.hpp>
#include <grist/generate/generation.hpp>

#include <algorithm>
#include <chrono>
#include <format>
#include <map>
#include <memory>

namespace grist::cli {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

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

std::string answer_of(const PromptLine& line, const Completion& completion) {
  const nlohmann::ordered_json answer{{"id", line.id},
                                      {"prompt_ids", line.request.prompt},
                                      {"new_ids", completion.ids},
                                      {"text", completion.text},
                                      {"finish", name_of(completion.finish)}};
  return answer.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// Of all replicas, on the root: writes answers, and tells how far the work is.
class Desk {
public:
  Desk(AnswerFile& file, ToRoot& arriving, std::size_t prompts, int replicas)
      : file_(file), arriving_(arriving), prompts_(prompts), replicas_(replicas), line_("answered", true) {}

  /// Writes what has arrived. An empty text is a replica's last.
  void write() {
    for (const auto& text : arriving_.receive()) {
      if (text.empty()) {
        --replicas_;
        continue;
      }
      file_.append(text);
      ++answered_;
      tokens_ += json::parse(text).at("new_ids").size();
    }
    tell();
  }
  [[nodiscard]] bool all_left() const { return replicas_ == 0; }
  [[nodiscard]] std::size_t answered() const { return answered_; }
  [[nodiscard]] std::size_t tokens() const { return tokens_; }

private:
  /// On a terminal a line that changes; elsewhere one now and then.
  void tell() {
    const auto now = Clock::now();
    if (now - told_ < (on_terminal(STDERR_FILENO) ? std::chrono::milliseconds(200) : std::chrono::seconds(60))) return;
    told_ = now;
    const double seconds = seconds_since(begin_);
    std::string rate = std::format("{:.0f} tok/s", static_cast<double>(tokens_) / seconds);
    if (answered_ > 0) {
      const double each = seconds / static_cast<double>(answered_);
      const auto left = static_cast<long>(each * static_cast<double>(prompts_ - answered_));
      rate += std::format(", {}:{:02}:{:02} left", left / 3600, left / 60 % 60, left % 60);
    }
    if (on_terminal(STDERR_FILENO))
      line_.show(answered_, prompts_, rate);
    else
      note(std::format("{} of {} prompts answered, {}", answered_, prompts_, rate));
  }

  AnswerFile& file_;
  ToRoot& arriving_;
  std::size_t prompts_, answered_ = 0, tokens_ = 0;
  int replicas_;
  ProgressLine line_;
  Clock::time_point begin_ = Clock::now(), told_ = begin_;
};

/// One replica's share: takes requests, runs them, sends answers. All its ranks do the same.
class Replica {
public:
  Replica(Runtime& runtime, const LoadedModel& loaded, int draft_tokens, SharedWork& work, ToRoot& answers,
          Deadline deadline)
      : ranks_(loaded.grid->world()), work_(work), answers_(answers), deadline_(deadline) {
    // With as many groups of sequences as stages every stage has one to work on.
    for (int group = 0; group < loaded.model->limits().caches; ++group)
      groups_.push_back({std::make_unique<Scheduler>(
                             runtime.exec(), *loaded.model,
                             SchedulerOptions{.tokenizer = loaded.tokenizer.get(), .draft_tokens = draft_tokens}),
                         {}});
    most_ = static_cast<std::size_t>(loaded.model->limits().batch_sequences);
  }

  /// Until nothing is left, or it has to stop: then it returns false. Calls `between` after each step.
  bool run(const std::function<void()>& between) {
    while (true) {
      bool idle = true;
      for (auto& group : groups_) {
        const auto begin = Clock::now();
        end_step(group);
        if (must_stop()) return give_up();
        take(group);
        if (!group.scheduler->idle()) {
          group.scheduler->begin_step();
          idle = false;
        }
        deadline_.stepped(seconds_since(begin));
        between();
      }
      if (idle) break;
    }
    leave();
    return true;
  }

private:
  struct Group {
    std::unique_ptr<Scheduler> scheduler;
    std::map<int, PromptLine> asked;  // by the scheduler's numbers
  };

  void end_step(Group& group) {
    for (const auto& event : group.scheduler->end_step()) {
      if (event.finish == Finish::running) continue;
      const auto completion = group.scheduler->take(event.request);
      const auto asked = group.asked.extract(event.request);
      if (ranks_.rank() == 0) answers_.send(answer_of(asked.mapped(), completion));
    }
  }

  void take(Group& group) {
    while (!nothing_left_ && group.asked.size() < most_) {
      std::string text;
      if (ranks_.rank() == 0) text = work_.take().value_or("");
      if (ranks_.size() > 1) text = broadcast_text(ranks_, text, 0);
      nothing_left_ = text.empty();
      if (nothing_left_) return;
      PromptLine line = unpacked(text);
      const int number = group.scheduler->submit(line.request);
      group.asked.emplace(number, std::move(line));
    }
  }

  /// Whether a signal came to any rank of any replica, or the time is over.
  bool must_stop() {
    int stop = Interrupt::came() || deadline_.reached(Clock::now()) ? 1 : 0;
    if (ranks_.rank() == 0 && seconds_since(looked_) > 0.1) {
      looked_ = Clock::now();
      if (work_.stopped()) stop = 1;
    }
    return (ranks_.size() > 1 ? ranks_.all_reduce(stop, Reduction::max) : stop) != 0;
  }

  bool give_up() {
    if (ranks_.rank() == 0) work_.stop();
    for (auto& group : groups_) end_step(group);  // other groups are under way
    leave();
    return false;
  }

  void leave() {
    if (ranks_.rank() == 0) answers_.send("");
  }

  const Communicator& ranks_;
  SharedWork& work_;
  ToRoot& answers_;
  Deadline deadline_;
  std::vector<Group> groups_;
  std::size_t most_ = 0;  // requests of a group
  bool nothing_left_ = false;
  Clock::time_point looked_ = Clock::now();
};

/// What the root knows before the work begins.
struct Plan {
  std::optional<AnswerFile> file;
  std::vector<std::string> requests;  // packed, the longest first
};

ModelLimits plan_of(Plan& plan, const BatchOptions& options, const Request& otherwise, const ModelFiles& files,
                    const text::Tokenizer* tokenizer) {
  const PromptReader reader{
      [&](const std::string& text) { return encode_prompt(files.tokens, tokenizer, text, true); },
      [&](const std::vector<text::Message>& messages) {
        return encode_prompt(files.tokens, tokenizer, chat_prompt(tokenizer, messages), false);
      },
      [&](const Request& request) { check(request, "the prompt", files.spec.vocab_size, files.spec.max_positions); }};
  auto lines = read_prompts(options.prompts, otherwise, reader);
  const auto all = lines.size();
  plan.file.emplace(options.output);
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
  const int groups = options.model.pp;
  ModelLimits limits =
      limits_for(requests, files.spec.max_positions, std::max(1, (options.max_sequences + groups - 1) / groups), {},
                 options.draft_tokens);
  limits.caches = groups;
  return limits;
}

}  // namespace

void run_batch(Runtime& runtime, const BatchOptions& options) {
  const auto begin = Clock::now();
  const Interrupt interrupt({SIGTERM, SIGINT, SIGUSR1, SIGUSR2}, SA_RESTART);
  Request otherwise = options.otherwise;
  std::optional<std::chrono::seconds> walltime;
  runtime.together([&] {
    if (!options.max_walltime.empty()) walltime = parse_walltime(options.max_walltime);
    otherwise.sampling = options.sampling.options_for(options.model.model, runtime.root());
  });
  Plan plan;
  const auto loaded =
      load_model(runtime, options.model, [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
        return plan_of(plan, options, otherwise, files, tokenizer);
      });
  bool finished = true;
  {
    SharedWork work(runtime.world(), plan.requests);
    ToRoot answers(runtime.world());
    const int replicas = runtime.world().size() / loaded.grid->world().size();
    std::optional<Desk> desk;
    if (runtime.root()) desk.emplace(*plan.file, answers, plan.requests.size(), replicas);
    std::optional<Replica> replica;
    runtime.together([&] {
      replica.emplace(runtime, loaded, options.draft_tokens, work, answers, Deadline(end_of_job(walltime, begin), 0));
    });
    replica->run([&] {
      if (desk) desk->write();
    });
    while (desk && !desk->all_left()) desk->write();
    answers.flush();
    int all = desk ? desk->answered() == plan.requests.size() : 0;
    runtime.world().broadcast(&all, 1, 0);
    finished = all != 0;
    if (desk && on_terminal(STDERR_FILENO))
      note(std::format("{} prompts answered, {} tokens, {:.1f} tok/s", desk->answered(), desk->tokens(),
                       static_cast<double>(desk->tokens()) / seconds_since(begin)));
  }
  runtime.together([&] {
    if (!finished)
      throw Error(ended_by_signal, std::format("stopped before all prompts were answered; {} keeps what was, and the "
                                               "same command goes on", options.output));
  });
}

}  // namespace grist::cli
