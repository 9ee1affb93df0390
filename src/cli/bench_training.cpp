#include "bench_training.hpp"

#include "progress.hpp"
#include "train_options.hpp"
#include "train_setup.hpp"

#include <grist/backends/device.hpp>
#include <grist/bench/machine.hpp>
#include <grist/bench/timing.hpp>
#include <grist/model/memory_plan.hpp>
#include <grist/train/checkpoint.hpp>
#include <grist/train/metrics.hpp>
#include <grist/train/trainer.hpp>

#include <unistd.h>

#include <optional>

namespace grist::cli {
namespace {

/// A trainer as `grist train` would have it, with its grid.
struct Training {
  Training(Runtime& runtime, const BenchOptions& bench, DType type, Index batch, Index sequence);

  TrainOptions options;
  TrainSetup setup{};
  std::optional<ProcessGrid> grid{};
  std::optional<train::Trainer> trainer{};
};

TrainOptions train_options(const BenchOptions& bench, DType type, Index batch, Index sequence) {
  TrainOptions options;
  options.config = bench.named();
  options.dtype = name_of(type);
  options.tp = bench.model.tp;
  options.pp = bench.model.pp;
  options.gemm = bench.model.products;
  options.batch = batch;
  options.sequence = sequence;
  return options;
}

Training::Training(Runtime& runtime, const BenchOptions& bench, DType type, Index batch, Index sequence)
    : options(train_options(bench, type, batch, sequence)) {
  train::TrainerMemory memory;
  runtime.together([&] {
    setup = setup_of(options, runtime.world().size(), false);
    setup.trainer.documents = 1;
    memory = memory_of(options, setup, runtime.world().rank());
  });
  const Communicator node = runtime.world().split_by_node();
  const Communicator sharers = node.split(memory_hash(device_facts()), node.rank());
  const auto needed = static_cast<std::uint64_t>(sharers.all_reduce(static_cast<Index>(memory.total())));
  runtime.together([&] {
    const std::uint64_t free = device_facts().available;
    if (free != 0 && needed > free)
      throw MemoryError("the ranks that share this memory need {} to train {} sequences of {} tokens, {} is free",
                        human_bytes(needed), batch, sequence, human_bytes(free));
  });
  grid.emplace(runtime.world().handle(), setup.layout);
  trainer.emplace(runtime.exec(), setup.files, *grid, setup.trainer, options.gemm, options.seed);
}

/// Sequences of tokens that mean nothing.
train::MicroBatch micro_batch(Index sequences, Index length, Index vocab_size) {
  train::MicroBatch batch;
  for (Index s = 0; s < sequences; ++s) {
    batch.begins.push_back(static_cast<int>(s * length));
    for (Index i = 0; i < length; ++i) {
      batch.ids.push_back(static_cast<int>((s * length + i) * 37 % vocab_size));
      batch.targets.push_back(static_cast<int>((s * length + i + 1) * 37 % vocab_size));
    }
  }
  return batch;
}

/// A file that this process removes, whatever happens.
class Scratch {
public:
  Scratch(std::filesystem::path path, bool mine) : path_(std::move(path)), mine_(mine) {}
  ~Scratch() {
    std::error_code ignored;
    if (mine_) std::filesystem::remove(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
  std::filesystem::path path_;
  bool mine_;
};

/// A step of a checkpoint's model brings a sequence for each.
Index replicas(const BenchOptions& options, int ranks) {
  return std::max<Index>(1, ranks / options.model.layout().ranks());
}

}  // namespace

void check_training(const BenchOptions& options, DType type, int ranks) {
  for (const Index batch : options.batches)
    for (const Index sequence : options.sequences)
      setup_of(train_options(options, type, batch, sequence), ranks, false);
}

void check_checkpoints(const BenchOptions& options, DType type, int ranks) {
  setup_of(train_options(options, type, replicas(options, ranks), 1), ranks, false);
}

void bench_training(Runtime& runtime, const BenchOptions& options, DType type, const bench::Machine& machine,
                    const TakeTest& take) {
  for (const Index batch : options.batches) {
    for (const Index sequence : options.sequences) {
      Training training(runtime, options, type, batch, sequence);
      const auto& [layout, files, config, tokenizer, length, trainer] = training.setup;
      const auto tokens = micro_batch(trainer.micro_batch, sequence, files.spec.vocab_size);
      const double amount = static_cast<double>(batch * sequence);
      bench::Test test{.name = std::format("train{}", sequence),
                       .batch = batch,
                       .pass_tokens = trainer.micro_batch * sequence,
                       .amount = amount,
                       .work = {.flops = amount * train::model_flops(files.spec, sequence)},
                       .limit_name = "gemm",
                       .time = bench::utc_time()};
      test.limit_seconds = bench::roofline(test.work, {.flops = machine.gemm(type, false)}).seconds;
      ProgressLine line(test.name, runtime.root());
      for (int step = 0; step <= options.repetitions; ++step) {  // the first one warms up
        line.show(static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(options.repetitions) + 1);
        const double seconds = bench::timed(runtime.exec(), runtime.world(), [&] {
          training.trainer->step(runtime.exec(), step + 1, [&](int) { return tokens; });
        });
        if (step > 0) test.seconds.push_back(seconds);
      }
      take(test);
    }
  }
}

void bench_checkpoints(Runtime& runtime, const BenchOptions& options, DType type, const bench::Machine& machine,
                       const TakeTest& take) {
  const Training training(runtime, options, type, replicas(options, runtime.world().size()), 1);
  std::string name = (std::filesystem::path(options.io) / std::format(".grist_bench_{}.h5", getpid())).string();
  runtime.share(name);
  const Scratch file(name, runtime.root());
  const auto& trainer = *training.trainer;
  std::vector<double> writes, reads;
  const std::string time = bench::utc_time();
  ProgressLine line("checkpoints", runtime.root());
  for (int i = 0; i <= options.repetitions; ++i) {  // the first one warms up
    line.show(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(options.repetitions) + 1);
    const double write = bench::timed(runtime.exec(), runtime.world(), [&] {
      save_checkpoint(runtime.exec(), file.path(), trainer.layout(), trainer.groups(), {}, *training.grid);
    });
    runtime.together([&] { bench::forget(file.path()); });
    const double read = bench::timed(runtime.exec(), runtime.world(), [&] {
      load_checkpoint(runtime.exec(), file.path(), trainer.layout(), trainer.groups(), *training.grid);
    });
    if (i > 0) writes.push_back(write), reads.push_back(read);
  }
  const auto bytes = static_cast<double>(std::filesystem::file_size(file.path()));
  const auto transfer = [&](const char* test, const std::vector<double>& seconds, double rate, const char* limit) {
    take({.name = test, .unit = "bytes", .amount = bytes, .seconds = seconds, .limit_seconds = bytes / rate,
          .limit_name = limit, .time = time});
  };
  transfer("checkpoint write", writes, *machine.disk_write, "disk write");
  transfer("checkpoint read", reads, *machine.disk_read, "disk read");
  runtime.world().barrier();  // all have asked for the size
}

}  // namespace grist::cli
