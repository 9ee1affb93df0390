// grist train: a model from scratch or from a Hugging Face folder, on one core or many nodes, in jobs with a wall time.
#include "deadline.hpp"
#include "interrupt.hpp"
#include "model_files.hpp"
#include "progress.hpp"
#include "runtime.hpp"
#include "train_data.hpp"
#include "train_files.hpp"
#include "train_options.hpp"
#include "train_setup.hpp"
#include "verbs.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/rates.hpp>
#include <grist/comm/broadcast_text.hpp>
#include <grist/core/clock.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/memory_plan.hpp>
#include <grist/train/step_line.hpp>
#include <grist/train/trainer.hpp>

#include <csignal>
#include <functional>
#include <iostream>
#include <optional>

namespace grist::cli {
namespace {

using Clock = std::chrono::steady_clock;

/// One run: the trainer, its data, and what it writes.
class Run {
public:
  Run(Runtime& runtime, const TrainOptions& options) : runtime_(runtime), options_(options) {}

  void go();

private:
  void open();
  void check_memory() const;
  void begin_to_show();
  void train();
  void step();
  void show(const train::StepResult& result, double seconds);
  void write_metrics(const std::function<void()>& write);
  void evaluate();
  void save();
  void write_trace();
  void end();
  [[nodiscard]] bool asked_to_stop() const;
  [[nodiscard]] double expected_save_seconds(std::optional<Clock::time_point> end) const;
  [[nodiscard]] double peak_rate() const;
  [[nodiscard]] std::uint64_t memory() const;
  [[nodiscard]] train::StepSeconds mean(train::StepSeconds spent) const;

  Runtime& runtime_;
  const TrainOptions& options_;
  const Clock::time_point begin_ = Clock::now();
  TrainSetup setup_;
  std::optional<TrainData> data_, held_out_;
  std::optional<ProcessGrid> grid_;
  std::optional<TrainFiles> files_;
  std::optional<train::Trainer> trainer_;
  std::optional<Deadline> deadline_;
  std::optional<train::StepDisplay> display_;
  std::optional<train::MetricsFile> metrics_;
  std::optional<train::Trace> trace_;
  TrainProgress done_;
  Index saved_ = -1;                     // the step of the last checkpoint
  Index retry_ = 0, retry_after_ = 1;    // when a save that failed is tried again, and how many steps later if it fails
  bool metrics_fail_ = false, finished_before_ = false;
  double flops_per_token_ = 0, peak_rate_ = 0;
};

void Run::go() {
  std::signal(SIGXFSZ, SIG_IGN);  // a limit of files is an error then, as a full disk is
  open();
  begin_to_show();
  train();
  end();
}

void Run::open() {
  std::string description;
  runtime_.together([&] {
    if (runtime_.world().size() > 1 && std::filesystem::is_directory(options_.model))
      description = describe_files(options_.model);
  });
  runtime_.expect_same("the model", description, ExitCode::bad_input);
  runtime_.together([&] {
    setup_ = setup_of(options_, runtime_.world().size(), true);
    if (setup_.tokenizer) setup_.tokenizer->pause = [] { Interrupt::check("tokenizing"); };
    const auto read = [&](std::optional<TrainData>& data, const std::vector<std::string>& files) {
      data.emplace(files, options_, setup_.sequence, setup_.tokenizer.get(), setup_.files.spec.vocab_size);
    };
    read(data_, options_.data);
    if (!options_.eval_data.empty()) read(held_out_, {options_.eval_data});
    setup_.trainer.documents = std::max(data_->most_documents(), held_out_ ? held_out_->most_documents() : 1);
    TrainFiles::prepare(options_, runtime_.root());
  });
  if (runtime_.root()) note_all(setup_.files.notes);
  if (runtime_.root() && setup_.tokenizer) note_all(setup_.tokenizer->notes);
  check_memory();
  if (!options_.metrics.empty()) peak_rate_ = peak_rate();
  flops_per_token_ = train::model_flops(setup_.files.spec, setup_.sequence);
  grid_.emplace(runtime_.world().handle(), setup_.layout);
  files_.emplace(runtime_, options_, setup_, *grid_);
  trainer_.emplace(runtime_.exec(), setup_.files, *grid_, setup_.trainer, options_.gemm, options_.seed);
  done_ = files_->resume(*trainer_);
  if (done_.step > 0) saved_ = done_.step;
  finished_before_ = done_.step >= options_.steps;
  runtime_.together([&] {
    if (!finished_before_) TrainFiles::expect_free(options_);
  });
  const auto end = end_of_job(options_.walltime(), begin_);
  deadline_.emplace(end, options_.checkpoint.empty() ? 0 : expected_save_seconds(end));
}

/// As the last save of the run before, or by the size of weights and two moments.
double Run::expected_save_seconds(std::optional<Clock::time_point> end) const {
  if (done_.save_seconds > 0) return done_.save_seconds;
  const int nodes = runtime_.world().all_reduce(runtime_.world().split_by_node().rank() == 0 ? 1 : 0);
  return first_save_seconds(12 * static_cast<double>(trainer_->parameters()), nodes, end, Clock::now());
}

void Run::check_memory() const {
  train::TrainerMemory memory;
  runtime_.together([&] { memory = memory_of(options_, setup_, runtime_.world().rank()); });
  const Communicator node = runtime_.world().split_by_node();
  const Communicator sharers = node.split(memory_hash(device_facts()), node.rank());
  const auto needed = static_cast<std::uint64_t>(sharers.all_reduce(static_cast<Index>(memory.total())));
  runtime_.together([&] {
    const std::uint64_t free = device_facts().available;
    if (free != 0 && needed > free)
      throw MemoryError(
          "the ranks that share this memory need {} for training (this one {}), {} is free; use a smaller "
          "--micro-batch, "
          "--recompute block, --zero 1 or more nodes (`grist info --train` tells what takes how much)",
          human_bytes(needed), human_bytes(memory.total()), human_bytes(free));
  });
}

/// FLOP per second of the matrix products of all ranks together, measured at the same time; of bf16 where that is used.
double Run::peak_rate() const {
  runtime_.world().barrier();
  return runtime_.world().all_reduce(gemm_rate(runtime_.exec(), *make_gemm(options_.gemm), setup_.trainer.type));
}

/// The most that any rank has held.
std::uint64_t Run::memory() const {
  const std::uint64_t mine = host_reaches_memory ? process_memory().most : trainer_->bytes();
  return static_cast<std::uint64_t>(runtime_.world().all_reduce(static_cast<Index>(mine), Reduction::max));
}

train::StepSeconds Run::mean(train::StepSeconds spent) const {
  const Communicator& world = runtime_.world();
  for (double* seconds : {&spent.compute, &spent.communication, &spent.bubble, &spent.data})
    *seconds = world.all_reduce(*seconds) / world.size();
  return spent;
}

bool Run::asked_to_stop() const {
  const int stop = Interrupt::came() || deadline_->reached(Clock::now()) ? 1 : 0;
  return runtime_.world().all_reduce(stop, Reduction::max) != 0;
}

void Run::begin_to_show() {
  const bool root = runtime_.root(), live = root && on_terminal(STDERR_FILENO);
  runtime_.together([&] {
    if (root) display_.emplace(stderr, live, done_.step, options_.steps, options_.log_every);
    if (root && !options_.metrics.empty()) metrics_.emplace(options_.metrics, done_.step);
  });
  if (options_.trace.empty()) return;
  runtime_.world().barrier();
  trace_.emplace(runtime_.world().rank(), std::format("rank {}: dp {}, pp {}, tp {}", runtime_.world().rank(),
                                                      grid_->dp().rank(), grid_->pp().rank(), grid_->tp().rank()));
}

void Run::train() {
  const bool goes_on = done_.step < options_.steps;
  const bool late = runtime_.world().all_reduce(deadline_->reached(Clock::now()) ? 1 : 0, Reduction::max) != 0;
  runtime_.together([&] {
    if (goes_on && late)
      throw UsageError("the job ends too soon for a step and a save after it; give it more time (--max-walltime)");
  });
  bool stopped = goes_on && asked_to_stop();
  while (done_.step < options_.steps && !stopped) {
    const auto begin = Clock::now();
    step();
    const bool last = done_.step == options_.steps;
    if (held_out_ && (last || (options_.eval_every && done_.step % *options_.eval_every == 0))) evaluate();
    deadline_->stepped(seconds_since(begin));
    stopped = asked_to_stop();
    const bool due = (options_.save_every > 0 && done_.step % options_.save_every == 0) || done_.step == retry_;
    if (!options_.checkpoint.empty() && (due || stopped || last)) {
      save();
      stopped = stopped || asked_to_stop();  // since: then nothing is done twice
    }
  }
}

void Run::step() {
  const Index micro = setup_.trainer.micro_batch;
  const auto share = train::samples_of(static_cast<std::uint64_t>(done_.step), options_.batch, grid_->dp().rank(),
                                       setup_.layout.dp);
  const auto begin = Clock::now();
  const auto result = trainer_->step(
      runtime_.exec(), done_.step + 1,
      [&](int i) {
        const auto reading = Clock::now();
        auto batch = data_->micro_batch(share.first + static_cast<std::uint64_t>(i * micro), micro);
        if (trace_) trace_->add(train::Lane::data, "read", reading, Clock::now(), std::format("micro-batch {}", i));
        return batch;
      },
      trace_ ? &*trace_ : nullptr);
  ++done_.step;
  done_.tokens += options_.batch * setup_.sequence;
  show(result, seconds_since(begin));
}

void Run::show(const train::StepResult& result, double seconds) {
  train::StepMetrics line{.step = done_.step,
                          .loss = result.loss,
                          .learning_rate = options_.learning_rate().at(done_.step),
                          .router_loss = result.router_loss,
                          .gradient_norm = result.gradient_norm,
                          .tokens_per_second = static_cast<double>(options_.batch * setup_.sequence) / seconds,
                          .mfu = {},
                          .memory = options_.metrics.empty() ? 0 : memory(),
                          .seconds = seconds,
                          .spent = options_.metrics.empty() ? result.spent : mean(result.spent)};
  if (peak_rate_ > 0) line.mfu = flops_per_token_ * line.tokens_per_second / peak_rate_;
  if (display_) display_->show(line);
  if (display_ && result.skipped)
    display_->say(std::format("step {}: {}, skipped", done_.step,
                              result.tokens == 0 ? "all targets are masked" : "not finite"));
  write_metrics([&] { metrics_->write(line); });
}

/// What cannot be written is told once, and training goes on: the lines wait for the next ones.
void Run::write_metrics(const std::function<void()>& write) {
  if (!metrics_) return;
  try {
    write();
    metrics_fail_ = false;
  } catch (const InputError& error) {
    if (!metrics_fail_) display_->say(error.what());
    metrics_fail_ = true;
  }
}

/// The same samples at every layout.
void Run::evaluate() {
  const Index micro = setup_.trainer.micro_batch, dp = setup_.layout.dp;
  const auto begin = Clock::now();
  const Index samples = std::min<Index>(held_out_->samples_per_epoch(), 32);
  const Index first = samples * grid_->dp().rank() / dp, end = samples * (grid_->dp().rank() + 1) / dp;
  const Index count = ((samples + dp - 1) / dp + micro - 1) / micro;
  const auto loss = trainer_->evaluate(
      runtime_.exec(), static_cast<int>(count),
      [&](int i) {
        const Index begins = first + i * micro, size = std::min(micro, end - begins);
        return size <= 0 ? train::MicroBatch{} : held_out_->micro_batch(static_cast<std::uint64_t>(begins), size);
      },
      [&] { return asked_to_stop(); });
  if (!loss) return;
  if (display_) display_->say(std::format("step {}: held-out loss {:.4f}", done_.step, *loss));
  write_metrics([&] { metrics_->write_evaluation(done_.step, *loss); });
  if (trace_) trace_->add(train::Lane::compute, "evaluate", begin, Clock::now());
}

/// What cannot be saved is told, and training goes on: the last good checkpoint stays, and after 1, 2, 4 ... more steps
/// it is tried again.
void Run::save() {
  const auto begin = Clock::now();
  try {
    const auto file = files_->save(*trainer_, done_);
    if (display_) display_->say(std::format("step {}: saved {}", done_.step, file.string()));
  } catch (const InputError& error) {
    if (display_) display_->say(std::format("step {}: not saved: {}", done_.step, error.what()));
    retry_ = done_.step + retry_after_;
    retry_after_ *= 2;
    return;
  }
  retry_ = 0, retry_after_ = 1;
  saved_ = done_.step;
  done_.save_seconds = runtime_.world().all_reduce(seconds_since(begin), Reduction::max);  // a file's attribute
  deadline_->saved(done_.save_seconds);
  files_->prune([&](const std::string& line) { display_->say(line); });
  if (trace_) trace_->add(train::Lane::checkpoint, "save", begin, Clock::now());
}

void Run::write_trace() {
  std::vector<std::string> events;
  for (int rank = 0; rank < runtime_.world().size(); ++rank)
    events.push_back(broadcast_text(runtime_.world(), trace_->events(), rank));
  runtime_.together([&] {
    if (runtime_.root()) train::write_trace(options_.trace, events);
  });
}

void Run::end() {
  if (trace_) write_trace();
  display_.reset();
  const bool saves = !options_.checkpoint.empty(), saved = saved_ == done_.step, begun = done_.step > 0;
  if (done_.step >= options_.steps) {
    if (!options_.save_hf.empty() && !(finished_before_ && TrainFiles::holds_folder(options_)))
      files_->save_folder(*trainer_, done_, [&] { trainer_.reset(); });
    runtime_.together([&] {
      if (saves && !saved) throw InputError("{}: the last step could not be saved there", options_.checkpoint);
    });
    return;
  }
  if (runtime_.root()) {
    const std::string stopped_after = std::format("stopped after step {} of {}", done_.step, options_.steps);
    note(saved    ? stopped_after + ", saved; the same command with --resume auto goes on"
         : !begun ? "stopped before the first step; the same command begins anew"
         : !saves ? stopped_after + ", and nothing was saved: give --checkpoint DIR"
                  : stopped_after + ", which is not saved");
  }
  throw ToldError{saved || !begun ? ended_by_signal : ExitCode::failed};  // what is lost cannot be gone on with
}

}  // namespace

void add_train(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("train", "Train a model: from scratch, or from a Hugging Face folder");
  const auto options = std::make_shared<TrainOptions>();
  options->add_to(*verb);
  verb->add_option("--threads", action.threads, "Threads of each rank; without it ranks times threads fit the cores")
      ->check(CLI::Range(1, 1024))
      ->envname("OMP_NUM_THREADS");
  verb->callback([options, verb, &action] {
    if (options->print_config) {
      action.run_alone = [options, verb] {
        options->complete(*verb);
        std::cout << options->to_toml();
      };
      return;
    }
    action.keeps_work = true;
    action.run = [options, verb](Runtime& runtime) {
      runtime.together([&] { options->complete(*verb); });
      Run(runtime, *options).go();
    };
  });
}

}  // namespace grist::cli
