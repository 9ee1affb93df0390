#include "bench_options.hpp"

#include <grist/core/errors.hpp>
#include <grist/generate/scheduler.hpp>

#include <algorithm>

namespace grist::cli {
namespace {

constexpr std::int64_t most = 1 << 24;

/// "-p 512,4096"; 0 stands for a test that is skipped.
void add_numbers(CLI::App& app, const std::string& name, std::vector<std::int64_t>& values, std::int64_t least,
                 const std::string& help) {
  app.add_option(name, values, help)
      ->delimiter(',')
      ->check(CLI::Range(least, most))
      ->type_name("N,...")
      ->capture_default_str();
}

}  // namespace

void BenchOptions::add_to(CLI::App& app, Action& action) {
  model.add_to(app, action);
  app.get_option("--model")->required(false);
  app.add_option("--config", config, "config.json of a model with random weights, as `grist init` makes it")
      ->check(CLI::ExistingFile)
      ->excludes("--model")
      ->type_name("FILE");
  add_numbers(app, "-p,--n-prompt", prompts, 0, "Prompt processing: tokens of a prompt; 0: skip");
  add_numbers(app, "-n,--n-gen", tokens, 0, "Text generation: tokens of each sequence; 0: skip");
  add_numbers(app, "-b,--batch", batches, 1, "Sequences at once");
  add_numbers(app, "-d,--n-depth", depths, 0, "Tokens that are in the KV cache before");
  app.add_option("-r,--repetitions", repetitions, "Repetitions of each test, after one that warms up")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_flag("--train", train, "Training steps of -b sequences");
  add_numbers(app, "--sequence", sequences, 1, "Tokens of a sequence of --train");
  app.add_flag("--comm", comm, "Collectives and messages over their sizes, on two or more ranks");
  app.add_option("--io", io, "Disk and checkpoints: written into this folder, read back, removed")
      ->check(CLI::ExistingDirectory)
      ->type_name("DIR");
  app.add_flag("--kernels", kernels, "A handful of kernels alone");
  app.add_option("-o,--output", output, "Format of the results")
      ->check(CLI::IsMember({"md", "csv", "json", "jsonl"}))
      ->capture_default_str();
}

void BenchOptions::complete(const CLI::App& app) {
  const bool others = train || comm || kernels || !io.empty();
  const bool asked = app.count("-p") + app.count("-n") > 0;
  for (const char* name : {"-p", "-n", "-d"})
    if (app.count(name) > 0 && !has_model()) throw UsageError("{} is of a model: give --model or --config", name);
  if (app.count("--sequence") > 0 && !train) throw UsageError("--sequence goes with --train");
  if (train && !has_model()) throw UsageError("--train is of a model: give --model or --config");
  if (!io.empty() && !has_model()) throw UsageError("--io writes a model's checkpoint: give --model or --config");
  if (!has_model() && !others) throw UsageError("nothing to measure: give --model, --config, --kernels or --comm");
  std::erase(prompts, 0);
  std::erase(tokens, 0);
  const bool none = prompts.empty() && tokens.empty();
  if (none && !others) throw UsageError("-p 0 -n 0 leaves nothing to measure");
  passes = has_model() && !none && (asked || !others);
  if (app.count("-d") > 0 && !passes) throw UsageError("-d goes with -p or -n");
  if (app.count("-b") > 0 && !passes && !train) throw UsageError("-b goes with -p, -n or --train");
  for (const char* name : {"--weights", "--kv-dtype"})
    if (app.count(name) > 0 && !passes) throw UsageError("{} goes with -p or -n", name);
  for (const char* name : {"--tp", "--pp"})
    if (app.count(name) > 0 && !passes && !train && io.empty())
      throw UsageError("{} goes with -p, -n, --train or --io", name);
}

bench::Output BenchOptions::format() const {
  return output == "csv"     ? bench::Output::csv
         : output == "json"  ? bench::Output::json
         : output == "jsonl" ? bench::Output::jsonl
                             : bench::Output::markdown;
}

ModelLimits BenchOptions::limits(const ModelSpec& spec) const {
  std::int64_t longest = 0;
  for (const auto& lengths : {prompts, tokens})
    for (const std::int64_t length : lengths) longest = std::max(longest, length);
  const std::int64_t context = longest + std::ranges::max(depths), batch = std::ranges::max(batches);
  if (context > spec.max_positions)
    throw UsageError("-d {} and {} tokens behind it are more than the model's {} positions", std::ranges::max(depths),
                     longest, spec.max_positions);
  return {.batch_tokens = std::max<Index>(prefill_tokens, batch),
          .batch_sequences = static_cast<int>(batch),
          .logit_rows = batch,
          .context = context,
          .kv_tokens = batch * context};
}

}  // namespace grist::cli
