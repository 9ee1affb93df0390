#include "batch.hpp"

#include "answer_file.hpp"
#include "deadline.hpp"
#include "interrupt.hpp"
#include "progress.hpp"
#include "train_options.hpp"

#include <grist/comm/broadcast_text.hpp>
#include <grist/comm/shared_work.hpp>
#include <grist/generate/generation.hpp>
#include <grist/train/metrics.hpp>

#include <algorithm>
#include <chrono>
#include <format>
#include <map>
#include <memory>
#include <sstream>
#include <thread>

namespace grist::cli {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;
using train::seconds_since;

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
      std::istringstream in(text);
      std::size_t tokens = 0;
      int guessed = 0, right = 0;
      in >> tokens >> guessed >> right;
      file_.append(text.substr(static_cast<std::size_t>(in.tellg()) + 1));
      ++answered_;
      tokens_ += tokens;
      guesses_.add(tokens, guessed, right);
    }
    tell();
  }
  [[nodiscard]] bool all_left() const { return replicas_ == 0; }
  [[nodiscard]] std::size_t answered() const { return answered_; }
  [[nodiscard]] std::size_t tokens() const { return tokens_; }
  [[nodiscard]] const GuessCount& guesses() const { return guesses_; }

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
  GuessCount guesses_;
  int replicas_;
  ProgressLine line_;
  Clock::time_point begin_ = Clock::now(), told_ = begin_;
};

/// One replica's share: takes requests, runs them, sends answers. All its ranks do the same.
class Replica {
public:
  Replica(Runtime& runtime, const LoadedModel& loaded, const DraftSource& drafts, SharedWork& work, ToRoot& answers,
          Deadline deadline)
      : ranks_(loaded.grid->world()),
        work_(work),
        answers_(answers),
        deadline_(deadline),
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

  /// Until nothing is left, or all have to stop. Calls `between` after each step. No rank waits for another but for
  /// the results of stages before it.
  void run(const std::function<void()>& between) {
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
        deadline_.stepped(seconds_since(begin));
        between();
      }
    }
    if (ranks_.rank() == 0) answers_.send("");
  }

  /// Tells all ranks to stop where a signal came to this one or its time is over.
  void pass_on_stop() {
    if (told_ || !(Interrupt::came() || deadline_.reached(Clock::now()))) return;
    work_.stop();
    told_ = true;
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
        if (ranks_.rank() == 0) answers_.send(answer_of(asked.mapped(), completion));
      }
    } catch (const NumericalError& error) {
      for (const auto& [number, line] : group.asked)
        if (group.scheduler->completion(number).finish == Finish::cancelled)
          throw NumericalError("prompt {}: {}", line.id.dump(), error.what());
      throw;
    }
  }

  /// Gives a group what its free slots take, some at a time, so that other groups and replicas find work too. The first
  /// rank decides, and tells the others. False where all have to stop.
  bool take(Group& group) {
    constexpr int most = 4;
    pass_on_stop();
    json orders = json::array();
    if (ranks_.rank() == 0) {
      if (seconds_since(looked_) > 0.05) {
        looked_ = Clock::now();
        stopped_ = work_.stopped();
      }
      while (!stopped_ && !nothing_left_ && std::ssize(orders) < most && group.asked.size() + orders.size() < slots_) {
        auto text = work_.take();
        nothing_left_ = !text;
        if (text) orders.push_back(json::binary({text->begin(), text->end()}));
      }
    }
    if (ranks_.size() > 1) {
      const auto bytes = stopped_ || !orders.empty() ? json::to_msgpack({{"stop", stopped_}, {"take", orders}})
                                                     : std::vector<std::uint8_t>();
      const std::string told = broadcast_text(ranks_, {bytes.begin(), bytes.end()}, 0);
      if (!told.empty()) {
        const json all = json::from_msgpack(told);
        stopped_ = all.at("stop");
        orders = all.at("take");
      }
    }
    if (stopped_) return false;
    for (const auto& order : orders) {
      const auto& bytes = order.get_binary();
      PromptLine line = unpacked({bytes.begin(), bytes.end()});
      const int number = group.scheduler->submit(line.request);
      group.asked.emplace(number, std::move(line));
    }
    return true;
  }

  const Communicator& ranks_;
  SharedWork& work_;
  ToRoot& answers_;
  Deadline deadline_;
  std::vector<Group> groups_;
  std::size_t slots_;  // requests of a group
  bool nothing_left_ = false, stopped_ = false, told_ = false;
  Clock::time_point looked_ = Clock::now();
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
  Request otherwise = options.otherwise;
  std::optional<std::chrono::seconds> walltime;
  runtime.together([&] {
    options.draft.check();
    if (!options.max_walltime.empty()) walltime = parse_walltime(options.max_walltime);
    otherwise.sampling = options.sampling.options_for(options.model.model, runtime.root());
  });
  Plan plan;
  const auto sizes = [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
    return plan_of(plan, options, runtime.world().size(), otherwise, files, tokenizer);
  };
  const auto loaded = load_model(runtime, options.model, sizes, options.draft.model);
  bool finished = true;
  {
    const DraftSource drafts(runtime, loaded, options.draft);
    SharedWork work(runtime.world(), plan.requests);
    ToRoot answers(runtime.world());
    const int replicas = runtime.world().size() / loaded.grid->world().size();
    std::optional<Desk> desk;
    if (runtime.root()) desk.emplace(*plan.file, answers, plan.requests.size(), replicas);
    std::optional<Replica> replica;
    runtime.together([&] {
      replica.emplace(runtime, loaded, drafts, work, answers, Deadline(end_of_job(walltime, begin), 0));
    });
    replica->run([&] {
      if (desk) desk->write();
    });
    // Until the last replica has left, a signal to any rank is one to all.
    while (desk ? !desk->all_left() : !work.closed()) {
      replica->pass_on_stop();
      if (desk) desk->write();
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    if (desk) work.close();
    answers.flush();
    int all = desk ? desk->answered() == plan.requests.size() : 0;
    runtime.world().broadcast(&all, 1, 0);
    finished = all != 0;
    if (desk && on_terminal(STDERR_FILENO)) {
      note(std::format("{} prompts answered, {} tokens, {:.1f} tok/s", desk->answered(), desk->tokens(),
                       static_cast<double>(desk->tokens()) / seconds_since(begin)));
      if (desk->guesses().any()) note(desk->guesses().text());
    }
  }
  runtime.together([&] {
    if (!finished)
      throw Error(ended_by_signal, std::format("stopped before all prompts were answered; {} keeps what was, and the "
                                               "same command goes on", options.output));
  });
}

}  // namespace grist::cli
