#include "train_options.hpp"

#include "train_option_list.hpp"

#include <algorithm>
#include <charconv>

namespace grist::cli {
namespace {

/// `value` is a multiple of all of `by`, or the batch cannot be shared.
void expect_divisible(std::int64_t batch, std::int64_t by, const std::string& what) {
  if (batch % by != 0) throw UsageError("--batch {} is no multiple of {} {}", batch, what, by);
}

void check_files(const TrainOptions& o, bool with_data) {
  if (o.model.empty() && o.config.empty())
    throw UsageError("give --model DIR to train further, or --config FILE to train from random weights");
  if (!o.model.empty() && !o.config.empty())
    throw UsageError("--model and --config exclude each other: train further, or from random weights");
  if (with_data && o.data.empty())
    throw UsageError("give --data FILE: a token file of `grist tokenize`, or a text");
  if (o.eval_every && o.eval_data.empty()) throw UsageError("--eval-every has no use without --eval-data");
  if (o.checkpoint.empty()) {
    if (o.resume == "auto") throw UsageError("--resume auto looks into --checkpoint DIR: give it");
    if (o.save_every > 0) throw UsageError("--save-every has no use without --checkpoint");
    if (o.keep_every > 0) throw UsageError("--keep-every has no use without --checkpoint");
  }
  for (const std::string& hint : o.io_hints)
    if (const auto equals = hint.find('='); equals == 0 || equals == std::string::npos || hint.find(';') != hint.npos)
      throw UsageError("--io-hint is '{}', expected KEY=VALUE, as striping_factor=8", hint);
  if (o.keep_every > 0 && o.save_every > 0 && o.keep_every % o.save_every != 0)
    throw UsageError("--keep-every {} is no multiple of --save-every {}: those steps are not saved", o.keep_every,
                     o.save_every);
}

void check_learning_rate(const TrainOptions& o) {
  if (o.min_lr && *o.min_lr > o.lr) throw UsageError("--min-lr {} is above --lr {}", *o.min_lr, o.lr);
  if (o.min_lr && o.schedule == "constant") throw UsageError("--min-lr has no use with --schedule constant");
  if (o.decay && o.schedule != "wsd")
    throw UsageError("--decay has no use with --schedule {}; it is for wsd", o.schedule);
  const train::LearningRate rate = o.learning_rate();
  if (rate.warmup > o.steps) throw UsageError("--warmup {} is above --steps {}", rate.warmup, o.steps);
  if (rate.warmup + rate.decay > o.steps)
    throw UsageError("--warmup {} and --decay {} do not fit in --steps {}", rate.warmup, rate.decay, o.steps);
}

void check_parallel(const TrainOptions& o) {
  if (o.chunks && o.pipeline != "interleaved")
    throw UsageError("--chunks has no use with --pipeline {}; it is for interleaved", o.pipeline);
  if (o.pipeline == "interleaved" && o.pp == 1)
    throw UsageError("--pipeline interleaved wants several stages: give --pp");
  if (o.sequence_parallel && o.tp == 1)
    throw UsageError("--sequence-parallel has no use without --tp: its ranks share the tokens");
  if (o.dp > 0) expect_divisible(o.batch, o.dp, "--dp");
  if (o.micro_batch > 0) expect_divisible(o.batch, o.micro_batch, "--micro-batch");
}

}  // namespace

void TrainOptions::complete(CLI::App& app, bool with_data) {
  if (!options_file.empty()) read_options_file(*this, app);
  if (print_config) return;
  if (!max_walltime.empty()) parse_walltime(max_walltime);
  check_files(*this, with_data);
  check_learning_rate(*this);
  check_parallel(*this);
}

Layout TrainOptions::layout(int ranks) const {
  const int of_one = pp * tp;
  if (dp == 0 && ranks % of_one != 0)
    throw UsageError("{} ranks cannot be shared by --pp {} and --tp {}: start a multiple of {}", ranks, pp, tp, of_one);
  const Layout layout{.dp = dp > 0 ? dp : ranks / of_one, .pp = pp, .tp = tp};
  layout.expect_ranks(ranks);
  expect_divisible(batch, layout.dp, "the data-parallel ranks, which are");
  const std::int64_t of_rank = batch / layout.dp, micro = micro_batch_of(layout);
  if (of_rank % micro != 0)
    throw UsageError("--batch {} is no multiple of {} data-parallel ranks times --micro-batch {}", batch, layout.dp,
                     micro);
  if (pipeline == "interleaved" && micro_batches(layout) % pp != 0)
    throw UsageError("--pipeline interleaved wants micro-batches in a multiple of --pp {}, and each rank has {} "
                     "(--batch {} over {} data-parallel ranks, --micro-batch {})",
                     pp, micro_batches(layout), batch, layout.dp, micro);
  return layout;
}

std::int64_t TrainOptions::micro_batch_of(const Layout& layout) const {
  if (micro_batch > 0) return micro_batch;
  return layout.pp > 1 ? 1 : batch / layout.dp;
}

std::int64_t TrainOptions::micro_batches(const Layout& layout) const {
  return batch / layout.dp / micro_batch_of(layout);
}

train::LearningRate TrainOptions::learning_rate() const {
  using Schedule = train::LearningRate::Schedule;
  const Schedule kind = schedule == "constant" ? Schedule::constant
                        : schedule == "linear" ? Schedule::linear
                        : schedule == "wsd"    ? Schedule::wsd
                                               : Schedule::cosine;
  return {.schedule = kind,
          .peak = lr,
          .least = min_lr.value_or(lr / 10),
          .warmup = warmup.value_or(std::min<std::int64_t>(100, steps / 10)),
          .steps = steps,
          .decay = kind == Schedule::wsd ? decay.value_or(steps / 5) : 0};
}

train::OptimizerConfig TrainOptions::optimizer_config() const {
  return {.beta1 = beta1, .beta2 = beta2, .eps = eps, .weight_decay = weight_decay};
}

train::Pipeline TrainOptions::pipeline_kind() const {
  return pipeline == "gpipe"         ? train::Pipeline::gpipe
         : pipeline == "interleaved" ? train::Pipeline::interleaved
                                     : train::Pipeline::one_f_one_b;
}

train::Recompute TrainOptions::recompute_kind() const {
  return recompute == "block"       ? train::Recompute::block
         : recompute == "selective" ? train::Recompute::selective
                                    : train::Recompute::none;
}

int TrainOptions::chunks_per_rank() const { return pipeline == "interleaved" ? chunks.value_or(2) : 1; }

std::string TrainOptions::mpi_io_hints() const {
  std::string hints;
  for (const std::string& hint : io_hints) hints += (hints.empty() ? "" : ";") + hint;
  return hints;
}

std::optional<std::chrono::seconds> TrainOptions::walltime() const {
  if (max_walltime.empty()) return std::nullopt;
  return parse_walltime(max_walltime);
}

std::chrono::seconds parse_walltime(const std::string& text) {
  const auto refuse = [&] {
    throw UsageError("--max-walltime is '{}', expected HH:MM:SS, as 23:45:00, or D-HH:MM:SS", text);
  };
  std::int64_t parts[4] = {};  // days, hours, minutes, seconds
  const bool with_days = text.find('-') != std::string::npos;
  const char *at = text.data(), *const end = at + text.size();
  for (int i = with_days ? 0 : 1; i < 4; ++i) {
    const auto [after, error] = std::from_chars(at, end, parts[i]);
    if (error != std::errc() || parts[i] < 0 || parts[i] > 1'000'000 || (i == 3) != (after == end)) refuse();
    if (i < 3 && *after != (i == 0 ? '-' : ':')) refuse();
    at = after + 1;
  }
  if (parts[2] > 59 || parts[3] > 59 || (with_days && parts[1] > 23)) refuse();
  const std::chrono::seconds total(((parts[0] * 24 + parts[1]) * 60 + parts[2]) * 60 + parts[3]);
  if (total.count() < 1) refuse();
  return total;
}

}  // namespace grist::cli
