// grist train: a model from scratch or from a Hugging Face folder, on one core or many nodes, in jobs with a wall time.
#include "interrupt.hpp"
#include "model_files.hpp"
#include "progress.hpp"
#include "runtime.hpp"
#include "train_options.hpp"
#include "verbs.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/rates.hpp>
#include <grist/comm/broadcast_text.hpp>
#include <grist/core/errors.hpp>
#include <grist/model/memory_plan.hpp>
#include <grist/text/tokenizer.hpp>
#include <grist/train/batches.hpp>
#include <grist/train/checkpoint_convert.hpp>
#include <grist/train/checkpoint_folder.hpp>
#include <grist/train/step_line.hpp>
#include <grist/train/token_source.hpp>
#include <grist/train/trainer.hpp>

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <optional>

namespace grist::cli {
namespace {

using Clock = std::chrono::steady_clock;

std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError("{}: cannot be read", file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<io::TokenFile> token_files(const std::vector<std::string>& paths, const text::Tokenizer* tokenizer) {
  std::vector<io::TokenFile> files;
  for (const auto& path : paths) files.push_back(train::token_source(path, tokenizer));
  return files;
}

std::unique_ptr<const train::BatchSource> source_of(const std::vector<std::string>& paths, const TrainOptions& options,
                                                    Index sequence, const text::Tokenizer* tokenizer,
                                                    Index vocab_size) {
  const auto order = options.order == "shuffled" ? train::DataOrder::shuffled : train::DataOrder::sequential;
  auto source =
      std::make_unique<const train::BatchSource>(token_files(paths, tokenizer), sequence, order, options.seed);
  if (static_cast<Index>(source->vocab_size()) > vocab_size)
    throw InputError("{}: its tokens are of a vocabulary of {}, the model has {}", paths.front(), source->vocab_size(),
                     vocab_size);
  return source;
}

/// Samples first ... first + count as one micro-batch.
train::MicroBatch micro_batch(const train::BatchSource& source, std::uint64_t first, Index count) {
  train::MicroBatch batch;
  train::Sample sample;
  for (Index i = 0; i < count; ++i) {
    source.sample(first + static_cast<std::uint64_t>(i), sample);
    const int offset = static_cast<int>(batch.ids.size());
    for (const int begin : sample.begins) batch.begins.push_back(offset + begin);
    batch.ids.insert(batch.ids.end(), sample.ids.begin(), sample.ids.end());
    batch.targets.insert(batch.targets.end(), sample.targets.begin(), sample.targets.end());
  }
  return batch;
}

train::TrainerOptions trainer_options(const TrainOptions& options, const Layout& layout, Index sequence) {
  return {.type = options.dtype == "bf16" ? DType::bf16 : DType::f32,
          .recompute = options.recompute_kind(),
          .pipeline = options.pipeline_kind(),
          .chunks = options.chunks_per_rank(),
          .sequence_parallel = options.sequence_parallel,
          .zero = options.zero == 1,
          .optimizer = options.optimizer == "lamb"  ? train::Optimizer::lamb
                       : options.optimizer == "sgd" ? train::Optimizer::sgd
                                                    : train::Optimizer::adamw,
          .config = options.optimizer_config(),
          .learning_rate = options.learning_rate(),
          .clip = options.clip,
          .max_skipped = options.max_skipped,
          .sequence = sequence,
          .micro_batch = options.micro_batch_of(layout),
          .micro_batches = static_cast<int>(options.micro_batches(layout)),
          .documents = options.order == "shuffled" ? static_cast<int>(sequence) : 1,
          .router_aux_loss = options.router_aux_loss,
          .check_replicas = options.check_replicas};
}

/// When the job's time is over: by --max-walltime, or as Slurm says.
std::optional<Clock::time_point> end_of_job(const TrainOptions& options) {
  std::optional<Clock::time_point> end;
  if (const auto limit = options.walltime()) end = Clock::now() + *limit;
  if (const char* slurm = std::getenv("SLURM_JOB_END_TIME"); slurm != nullptr && std::atoll(slurm) > 0) {
    const auto left = std::chrono::seconds(std::atoll(slurm) - std::time(nullptr));
    end = std::min(end.value_or(Clock::now() + left), Clock::now() + left);
  }
  return end;
}

/// One run: the trainer, its data, and what it writes.
class Run {
public:
  Run(Runtime& runtime, const TrainOptions& options) : runtime_(runtime), options_(options) {}

  void go();

private:
  void open();
  void resume();
  void train();
  void evaluate(Index step);
  bool save(Index step);
  void write_checkpoint(const std::filesystem::path& file, const std::vector<TensorGroup>& groups) const;
  void save_folder();
  [[nodiscard]] bool asked_to_stop();
  [[nodiscard]] double peak_rate() const;

  Runtime& runtime_;
  const TrainOptions& options_;
  Layout layout_;
  Index sequence_ = 0;
  ModelFiles files_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::string model_config_;
  std::unique_ptr<const train::BatchSource> data_, held_out_;
  std::optional<ProcessGrid> grid_;
  std::optional<train::Trainer> trainer_;
  std::optional<train::StepDisplay> display_;
  std::optional<train::MetricsFile> metrics_;
  std::optional<train::Trace> trace_;
  std::optional<Clock::time_point> end_;
  double save_seconds_ = 5;  // of the last one; a guess before the first
  double step_seconds_ = 0;
  Index done_ = 0, tokens_ = 0, saved_ = -1;
};

void Run::go() {
  const Interrupt interrupt({SIGTERM, SIGINT, SIGUSR1, SIGUSR2});
  open();
  resume();
  train();
}

void Run::open() {
  std::string description;
  runtime_.together([&] {
    if (std::filesystem::is_regular_file(options_.model))
      throw UsageError("--model {}: is a file; training goes on from a Hugging Face folder", options_.model);
    layout_ = options_.layout(runtime_.world().size());
    if (runtime_.world().size() > 1 && !options_.model.empty()) description = describe_files(options_.model);
  });
  runtime_.expect_same("the model", description, ExitCode::bad_input);
  train::TrainerOptions wanted;
  std::uint64_t bytes = 0;
  runtime_.together([&] {
    const std::filesystem::path config =
        options_.model.empty() ? std::filesystem::path(options_.config) : std::filesystem::path(options_.model);
    files_ = options_.model.empty() ? read_spec(config) : open_model(config);
    if (std::filesystem::is_directory(config) || config.extension() == ".json")
      model_config_ = text_of(config.extension() == ".json" ? config : config / "config.json");
    const std::string tokenizer = options_.tokenizer.empty() ? options_.model : options_.tokenizer;
    if (!tokenizer.empty()) tokenizer_ = text::load_tokenizer(tokenizer);
    sequence_ = options_.sequence > 0 ? options_.sequence : std::min(files_.spec.max_positions, 1024);
    if (sequence_ > files_.spec.max_positions)
      throw UsageError("--sequence {} is more than the model's {} positions", sequence_, files_.spec.max_positions);
    data_ = source_of(options_.data, options_, sequence_, tokenizer_.get(), files_.spec.vocab_size);
    if (!options_.eval_data.empty())
      held_out_ = source_of({options_.eval_data}, options_, sequence_, tokenizer_.get(), files_.spec.vocab_size);
    wanted = trainer_options(options_, layout_, sequence_);
    const int rank = runtime_.world().rank();
    bytes = trainer_bytes(files_.spec, files_.names, layout_, rank / layout_.tp % layout_.pp, rank % layout_.tp,
                          wanted);
    for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
      if (!options_.save_hf.empty() && std::filesystem::exists(std::filesystem::path(options_.save_hf) / name))
        throw UsageError("--save-hf {}: already holds a {}; choose another folder", options_.save_hf, name);
    for (const std::filesystem::path folder : {options_.checkpoint, options_.save_hf}) {
      std::error_code error;
      if (runtime_.root() && !folder.empty()) std::filesystem::create_directories(folder, error);
      if (error) throw InputError("{}: cannot be made: {}", folder.string(), error.message());
    }
  });
  const Communicator node = runtime_.world().split_by_node();
  const auto needed = static_cast<std::uint64_t>(node.all_reduce(static_cast<Index>(bytes)));
  runtime_.together([&] {
    const std::uint64_t free = device_facts().available;
    if (free != 0 && needed > free)
      throw MemoryError(
          "the ranks of this node need {} for training (this one {}), {} is free; use a smaller "
          "--micro-batch, --recompute block, --zero 1 or more nodes",
          human_bytes(needed), human_bytes(bytes), human_bytes(free));
  });
  grid_.emplace(runtime_.world().handle(), layout_);
  trainer_.emplace(runtime_.exec(), files_, *grid_, wanted, options_.gemm, options_.seed);
  end_ = end_of_job(options_);
}

void Run::resume() {
  if (options_.resume.empty()) return;
  const auto warn = [](const std::string& line) { note(line); };
  std::optional<TrainingState> state;
  if (options_.resume == "auto") {
    state = load_latest(runtime_.exec(), options_.checkpoint, trainer_->layout(), trainer_->groups(), *grid_, warn);
  } else {
    state = load_checkpoint(runtime_.exec(), options_.resume, trainer_->layout(), trainer_->groups(), *grid_);
  }
  if (!state) return;
  done_ = saved_ = state->step;
  tokens_ = state->tokens;
  const auto updates = state->integers.find("updates");
  trainer_->loaded(runtime_.exec(), updates != state->integers.end() ? updates->second : done_);
  runtime_.together([&] {
    if (state->seed != options_.seed)
      throw UsageError("--seed {}: the checkpoint was made with {}, and the data would come in another order",
                       options_.seed, state->seed);
    for (const auto& [name, value] :
         {std::pair("batch", options_.batch), std::pair("sequence", std::int64_t{sequence_})})
      if (const auto held = state->integers.find(name); held != state->integers.end() && held->second != value)
        throw UsageError("--{} {}: the checkpoint was made with {}, and its step would stand for other data", name,
                         value, held->second);
  });
}

/// FLOP per second of the matrix products of all ranks together, measured at the same time; of bf16 where that is used.
double Run::peak_rate() const {
  runtime_.world().barrier();
  const DType type = options_.dtype == "bf16" ? DType::bf16 : DType::f32;
  return runtime_.world().all_reduce(gemm_rate(runtime_.exec(), *make_gemm(options_.gemm), type));
}

bool Run::asked_to_stop() {
  int stop = Interrupt::came() ? 1 : 0;
  if (end_) {
    const double left = std::chrono::duration<double>(*end_ - Clock::now()).count();
    if (left < 2 * save_seconds_ + 2 * step_seconds_) stop = 1;
  }
  return runtime_.world().all_reduce(stop, Reduction::max) != 0;
}

void Run::train() {
  const bool root = runtime_.root();
  const bool live = root && on_terminal(STDERR_FILENO);
  runtime_.together([&] {
    if (root) display_.emplace(stderr, live, done_, options_.steps, options_.log_every);
    if (root && !options_.metrics.empty()) metrics_.emplace(options_.metrics, done_);
  });
  if (!options_.trace.empty()) {
    runtime_.world().barrier();
    trace_.emplace(runtime_.world().rank(), std::format("rank {}: dp {}, pp {}, tp {}", runtime_.world().rank(),
                                                        grid_->dp().rank(), grid_->pp().rank(), grid_->tp().rank()));
  }
  const double flops = train::model_flops(files_.spec, sequence_);
  const double peak = options_.metrics.empty() ? 0 : peak_rate();
  const Index micro = options_.micro_batch_of(layout_);
  bool stopped = done_ < options_.steps && asked_to_stop();
  while (done_ < options_.steps && !stopped) {
    const Index step = done_ + 1;
    const auto share = train::samples_of(static_cast<std::uint64_t>(done_), options_.batch, grid_->dp().rank(),
                                         layout_.dp);
    const auto begin = Clock::now();
    const auto result = trainer_->step(
        runtime_.exec(), step,
        [&](int i) { return micro_batch(*data_, share.first + static_cast<std::uint64_t>(i * micro), micro); },
        trace_ ? &*trace_ : nullptr);
    step_seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
    done_ = step;
    tokens_ += options_.batch * sequence_;
    train::StepMetrics line{.step = step,
                            .loss = result.loss,
                            .learning_rate = options_.learning_rate().at(step),
                            .router_loss = result.router_loss,
                            .gradient_norm = result.gradient_norm,
                            .tokens_per_second = static_cast<double>(options_.batch * sequence_) / step_seconds_,
                            .mfu = {},
                            .memory = trainer_->bytes(),
                            .seconds = step_seconds_,
                            .spent = result.spent};
    if (peak > 0) line.mfu = flops * line.tokens_per_second / peak;
    if (display_) display_->show(line);
    if (display_ && result.skipped) display_->say(std::format("step {}: not finite, skipped", step));
    if (metrics_) metrics_->write(line);
    const bool at_interval = options_.eval_every && step % *options_.eval_every == 0;
    if (held_out_ && (at_interval || step == options_.steps)) evaluate(step);
    stopped = asked_to_stop();
    const bool due = options_.save_every > 0 && step % options_.save_every == 0;
    if (!options_.checkpoint.empty() && (due || stopped || step == options_.steps)) save(step);
  }
  if (trace_) {
    std::vector<std::string> events;
    for (int rank = 0; rank < runtime_.world().size(); ++rank)
      events.push_back(broadcast_text(runtime_.world(), trace_->events(), rank));
    runtime_.together([&] {
      if (root) train::write_trace(options_.trace, events);
    });
  }
  display_.reset();
  if (done_ >= options_.steps) {
    save_folder();
    if (!options_.checkpoint.empty() && saved_ != done_)
      runtime_.together([&] { throw InputError("{}: the last step could not be saved there", options_.checkpoint); });
    return;
  }
  if (root) {
    const std::string stopped_after = std::format("stopped after step {} of {}", done_, options_.steps);
    note(saved_ == done_               ? stopped_after + ", saved; the same command with --resume auto goes on"
         : options_.checkpoint.empty() ? stopped_after + ", and nothing was saved: give --checkpoint DIR"
                                       : stopped_after + ", which is not saved");
  }
  throw ToldError{ended_by_signal};
}

void Run::evaluate(Index step) {
  const Index micro = options_.micro_batch_of(layout_);
  const auto whole = static_cast<Index>(held_out_->samples_per_epoch());
  const Index count = std::max<Index>(1, std::min<Index>(whole, 32) / (micro * layout_.dp));
  const double loss = trainer_->evaluate(runtime_.exec(), static_cast<int>(count), [&](int i) {
    const auto first = static_cast<std::uint64_t>((Index{i} * layout_.dp + grid_->dp().rank()) * micro);
    return micro_batch(*held_out_, first, micro);
  });
  if (display_) display_->say(std::format("step {}: held-out loss {:.4f}", step, loss));
  if (metrics_) metrics_->write_evaluation(step, loss);
}

void Run::write_checkpoint(const std::filesystem::path& file, const std::vector<TensorGroup>& groups) const {
  save_checkpoint(runtime_.exec(), file, trainer_->layout(), groups,
                  {.step = done_,
                   .tokens = tokens_,
                   .seed = options_.seed,
                   .integers = {{"updates", trainer_->updates()}, {"batch", options_.batch}, {"sequence", sequence_}},
                   .configuration = nlohmann::json{{"options", options_.to_toml()}}.dump(),
                   .model_config = model_config_},
                  *grid_);
}

/// What cannot be saved is told, and training goes on: the last good checkpoint stays.
bool Run::save(Index step) {
  const auto begin = Clock::now();
  const std::filesystem::path folder = options_.checkpoint, file = folder / checkpoint_name(step);
  try {
    write_checkpoint(file, trainer_->groups());
    if (runtime_.root()) prune_checkpoints(folder, static_cast<int>(options_.keep), options_.keep_every);
  } catch (const InputError& error) {
    if (display_) display_->say(std::format("step {}: not saved: {}", step, error.what()));
    return false;
  }
  save_seconds_ = std::chrono::duration<double>(Clock::now() - begin).count();
  saved_ = step;
  if (display_) display_->say(std::format("step {}: saved {}", step, file.string()));
  return true;
}

/// The trained model as a Hugging Face folder, beside it the tokenizer's files.
void Run::save_folder() {
  if (options_.save_hf.empty()) return;
  const std::filesystem::path folder = options_.save_hf;
  // A checkpoint of this step may be missing, or never have been wanted.
  const auto file = folder / "checkpoint.h5";
  runtime_.together([&] {
    if (runtime_.root()) std::filesystem::create_directories(folder);
  });
  write_checkpoint(file, {trainer_->groups().front()});  // the weights
  runtime_.together([&] {
    if (!runtime_.root()) return;
    convert_to_folder(file, folder, std::nullopt, std::uint64_t{5} << 30, {});
    std::filesystem::remove(file);
    const std::string tokenizer = options_.tokenizer.empty() ? options_.model : options_.tokenizer;
    if (!std::filesystem::is_directory(tokenizer)) return;
    for (const char* name :
         {"tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
          "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json"})
      if (const auto from = std::filesystem::path(tokenizer) / name; std::filesystem::exists(from))
        std::filesystem::copy_file(from, folder / name, std::filesystem::copy_options::overwrite_existing);
  });
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
    action.run = [options, verb](Runtime& runtime) {
      runtime.together([&] { options->complete(*verb); });
      Run(runtime, *options).go();
    };
  });
}

}  // namespace grist::cli
