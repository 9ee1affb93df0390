#include "train_info.hpp"

#include "runtime.hpp"
#include "train_data.hpp"
#include "train_options.hpp"
#include "train_setup.hpp"

#include <grist/backends/device.hpp>
#include <grist/core/errors.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/memory_plan.hpp>
#include <grist/model/sharding.hpp>

#include <algorithm>
#include <cstdio>
#include <format>
#include <memory>
#include <optional>
#include <vector>

namespace grist::cli {
namespace {

struct TrainInfoOptions {
  TrainOptions train;
  int node_ranks = 0;             // 0: all
  std::uint64_t node_memory = 0;  // 0: what is free here
};

using Plan = std::vector<train::TrainerMemory>;  // of each (pp, tp), tp varying fastest

Plan plan_of(const TrainOptions& options, const TrainSetup& setup) {
  Plan plan;
  for (int rank = 0; rank < setup.layout.pp * setup.layout.tp; ++rank)
    plan.push_back(memory_of(options, setup, rank));
  return plan;
}

/// What the process holds beside the plan, as this one does that has read the same files.
struct Process {
  std::uint64_t now, most;
  [[nodiscard]] std::uint64_t peak(const train::TrainerMemory& memory) const {
    return std::max(most, now + memory.total());
  }
};

/// The fullest node, where so many ranks that follow each other share one; there are dp times the plan's.
std::uint64_t fullest_node(const Plan& plan, int dp, const Process& process, std::size_t node_ranks) {
  const std::size_t ranks = plan.size() * static_cast<std::size_t>(dp);
  std::uint64_t most = 0;
  for (std::size_t first = 0; first < ranks; first += node_ranks) {
    std::uint64_t sum = 0;
    for (std::size_t rank = first; rank < std::min(ranks, first + node_ranks); ++rank)
      sum += process.peak(plan[rank % plan.size()]);
    most = std::max(most, sum);
  }
  return most;
}

void row(const char* name, const std::string& value) { std::printf("%-12s %s\n", name, value.c_str()); }

void print_setup(const TrainOptions& options, const TrainSetup& setup) {
  const auto& trainer = setup.trainer;
  row("model", std::format("{}, {}, {} parameters", options.model.empty() ? options.config : options.model,
                           setup.files.family, parameter_count(setup.files.spec)));
  row("ranks", std::format("{}: {}", setup.layout.ranks(), to_string(setup.layout)));
  row("step", std::format("{} sequences of {} tokens: on each rank {} micro-batches of {}", options.batch,
                          setup.sequence, trainer.micro_batches, trainer.micro_batch));
  row("numbers", std::format("{}, {}, zero {}, recompute {}", options.dtype, options.optimizer, options.zero,
                             options.recompute));
}

void print_plan(const Plan& plan, const Process& process, const Layout& layout) {
  std::printf("\nmost memory of each rank\n%5s %5s", "pp", "tp");
  for (const char* name :
       {"weights", "gradients", "moments", "activations", "messages", "checkpoint", "program", "sum"})
    std::printf(" %11s", name);
  std::printf("\n");
  for (std::size_t i = 0; i < plan.size(); ++i) {
    const auto& m = plan[i];
    std::printf("%5d %5d", static_cast<int>(i) / layout.tp, static_cast<int>(i) % layout.tp);
    for (const std::uint64_t bytes : {m.weights, m.gradients, m.moments, m.activations, m.communication, m.checkpoint,
                                      process.now + m.libraries, process.peak(m)})
      std::printf(" %11s", human_bytes(bytes).c_str());
    std::printf("\n");
  }
}

/// The largest micro-batch that divides what a rank has of a step, and fits.
std::optional<std::int64_t> largest_micro_batch(const TrainOptions& options, TrainSetup setup, const Process& process,
                                                std::size_t node_ranks, std::uint64_t memory) {
  const std::int64_t of_rank = options.batch / setup.layout.dp;
  for (std::int64_t micro = of_rank; micro > 0; --micro) {
    const std::int64_t count = of_rank / micro;
    if (of_rank % micro != 0 || (options.pipeline == "interleaved" && count % setup.layout.pp != 0)) continue;
    setup.trainer.micro_batch = micro;
    setup.trainer.micro_batches = static_cast<int>(count);
    if (fullest_node(plan_of(options, setup), setup.layout.dp, process, node_ranks) <= memory) return micro;
  }
  return std::nullopt;
}

void print(const Runtime& runtime, const TrainInfoOptions& options) {
  const TrainOptions& train = options.train;
  const int given = std::max(train.dp, 1) * train.pp * train.tp, started = runtime.world().size();
  TrainSetup setup = setup_of(train, started > 1 ? started : given, false);
  std::vector<std::unique_ptr<TrainData>> data;  // in memory, as in a run
  const auto read = [&](const std::vector<std::string>& files) {
    data.push_back(std::make_unique<TrainData>(files, train, setup.sequence, setup.tokenizer.get(),
                                               setup.files.spec.vocab_size));
    setup.trainer.documents = std::max(data.size() == 1 ? 1 : setup.trainer.documents, data.back()->most_documents());
  };
  if (!train.data.empty()) read(train.data);
  if (!train.eval_data.empty()) read({train.eval_data});
  const auto [now, most] = host_reaches_memory ? process_memory() : ProcessMemory{};  // a device's is another
  const Process process{now, most};
  const Plan plan = plan_of(train, setup);
  const auto ranks = static_cast<std::size_t>(setup.layout.ranks());
  const auto node_ranks =
      std::min(ranks, options.node_ranks > 0 ? static_cast<std::size_t>(options.node_ranks) : ranks);
  const std::uint64_t memory = options.node_memory > 0 ? options.node_memory : device_facts().available;
  print_setup(train, setup);
  print_plan(plan, process, setup.layout);
  const auto needed = fullest_node(plan, setup.layout.dp, process, node_ranks);
  std::printf("\n%zu ranks of a node need %s of the %s that %s: %s\n", node_ranks, human_bytes(needed).c_str(),
              human_bytes(memory).c_str(), options.node_memory > 0 ? "it has" : "are free here",
              needed <= memory ? "they fit" : "TOO MUCH");
  const std::int64_t of_rank = train.batch / setup.layout.dp;
  if (const auto micro = largest_micro_batch(train, std::move(setup), process, node_ranks, memory))
    std::printf("largest micro-batch that fits: %lld of the %lld sequences that each rank has of a step\n",
                static_cast<long long>(*micro), static_cast<long long>(of_rank));
  else
    std::printf("no micro-batch fits: try --recompute block, --zero 1, --dtype bf16, or more ranks\n");
}

}  // namespace

void add_training_info(CLI::App& verb, Action& action) {
  const auto options = std::make_shared<TrainInfoOptions>();
  options->train.add_to(verb);
  verb.add_option("--ranks-per-node", options->node_ranks, "Ranks that share the memory of a node; without it all do")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N")
      ->group("Nodes");
  verb.add_option("--node-memory", options->node_memory, "Memory of a node, e.g. 256GB; without it what is free here")
      ->transform(CLI::AsSizeValue(true))
      ->type_name("SIZE")
      ->group("Nodes");
  verb.footer(
      "Tells the most memory that each rank of `grist train` with these options would take,\n"
      "and the largest micro-batch that fits. --data may be left out: it is read where it is\n"
      "given, and says how many documents a sample may have. Examples:\n"
      "  grist info --train --config config.json --batch 32 --sequence 2048 --dtype bf16\n"
      "  grist info --train --options run.toml --dp 4 --tp 8 --ranks-per-node 8 --node-memory 512GB");
  verb.callback([options, &verb, &action] {
    action.run = [options, &verb](Runtime& runtime) {
      runtime.together([&] {
        options->train.complete(verb, false);
        if (runtime.root()) print(runtime, *options);
      });
    };
  });
}

}  // namespace grist::cli
