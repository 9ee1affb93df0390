// grist bench: how fast, and which fraction of what the machine can do. The machine is measured first, in the same run.
#include "bench_options.hpp"
#include "bench_training.hpp"
#include "progress.hpp"
#include "random_model.hpp"
#include "version.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/gemm.hpp>
#include <grist/backends/threads.hpp>
#include <grist/bench/build.hpp>
#include <grist/bench/kernels.hpp>
#include <grist/bench/machine.hpp>
#include <grist/bench/messages.hpp>
#include <grist/bench/model_work.hpp>
#include <grist/bench/passes.hpp>
#include <grist/bench/timing.hpp>
#include <grist/core/clock.hpp>
#include <grist/core/staging.hpp>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <optional>

namespace grist::cli {
namespace {

class Bench {
public:
  Bench(Runtime& runtime, const BenchOptions& options, const std::string& command)
      : runtime_(runtime), options_(options), printer_(std::cout, options.format()) {
    setting_.command = command;
  }
  void go();

private:
  void open();
  void describe();
  void measure_machine();
  void measure_passes();
  void measure_pass(bench::Passes& passes, Index batch, Index depth, Index tokens, bool generates);
  void take(const bench::Test& test, const bench::Setting& setting);

  Runtime& runtime_;
  const BenchOptions& options_;
  bench::Printer printer_;
  bench::Setting setting_;
  std::optional<ModelFiles> spec_;  // of the model that is measured
  ModelNumbers numbers_;
  ModelLimits limits_;
  std::optional<bench::ModelWork> work_;
};

void Bench::go() {
  open();
  describe();
  measure_machine();
  const bench::Setting no_model = [&] {
    bench::Setting setting = setting_;
    for (auto* text : {&setting.model_file, &setting.model, &setting.weights, &setting.kv_type, &setting.layout})
      text->clear();
    setting.model_bytes = setting.parameters = 0;
    return setting;
  }();
  const auto alone = [&](const bench::Test& test) { take(test, no_model); };
  const Communicator& world = runtime_.world();
  if (options_.comm) {
    bench::Setting floats = no_model;
    floats.dtype = name_of(DType::f32);
    bench::measure_messages(runtime_.exec(), world, setting_.machine, options_.repetitions,
                            [&](const bench::Test& test) { take(test, floats); });
  }
  if (options_.kernels) {
    const auto sizes = spec_ ? bench::sizes_of(spec_->spec) : bench::KernelSizes();
    const auto measure = numbers_.type == DType::f32 ? bench::measure_kernels<float> : bench::measure_kernels<bf16>;
    measure(runtime_.exec(), world, setting_.machine, sizes, options_.model.products, options_.repetitions, alone);
  }
  if (options_.passes) measure_passes();
  bench::Setting training = setting_;  // master weights are float, and there is no cache
  training.weights = name_of(DType::f32), training.kv_type = "";
  training.model_bytes = sizeof(float) * setting_.parameters;
  const Layout model = options_.model.layout();
  training.layout = to_string(Layout{.dp = world.size() / (model.pp * model.tp), .pp = model.pp, .tp = model.tp});
  const auto trained = [&](const bench::Test& test) { take(test, training); };
  if (options_.train) bench_training(runtime_, options_, numbers_.type, setting_.machine, trained);
  if (!options_.io.empty()) bench_checkpoints(runtime_, options_, numbers_.type, setting_.machine, trained);
  if (runtime_.root()) printer_.end(setting_);
}

/// What can be refused is refused before anything is measured.
void Bench::open() {
  runtime_.together([&] {
    make_gemm(options_.model.products);
    if (options_.comm && runtime_.world().size() == 1) throw UsageError("--comm wants two or more ranks (mpirun -n 2)");
    if (!options_.has_model()) {
      numbers_ = chosen_numbers(options_.model, Format::bf16);
      return;
    }
    if (options_.passes) options_.model.layout().expect_ranks(runtime_.world().size());
    spec_ = options_.config.empty() ? open_model(io::gguf_file_of(options_.model.model)) : read_spec(options_.config);
    numbers_ = chosen_numbers(options_.model, spec_->stored);
    work_.emplace(*spec_, numbers_);
    if (options_.passes) limits_ = options_.limits(spec_->spec);
    if (options_.train) check_training(options_, numbers_.type, runtime_.world().size());
    if (!options_.io.empty()) check_checkpoints(options_, numbers_.type, runtime_.world().size());
  });
}

void Bench::describe() {
  const auto facts = device_facts();
  const auto built = bench::build_facts();
  const auto& model = options_.model;
  setting_.build_commit = commit;
  setting_.version = version;
  setting_.device = facts.name;
  setting_.device_is_host = host_reaches_memory;
  setting_.backend = Exec::name();
  setting_.gemm = make_gemm(model.products)->name();
  setting_.compiler = built.compiler;
  setting_.kokkos = built.kokkos;
  setting_.mpi = mpi_library();
  setting_.onednn = built.onednn;
  setting_.binding = processors_of_threads();
  setting_.threads = runtime_.threads();
  setting_.ranks = runtime_.world().size();
  setting_.layout = to_string(model.layout());
  setting_.dtype = name_of(numbers_.type);
  setting_.kv_type = name_of(numbers_.kv_type);
  if (!spec_) return;
  const auto parameters = parameter_count(spec_->spec);
  setting_.model_file = options_.named();
  setting_.model = std::format("{} {:.3g}{}", spec_->family,
                               static_cast<double>(parameters) * (parameters < 1e9 ? 1e-6 : 1e-9),
                               parameters < 1e9 ? "M" : "B");
  setting_.model_bytes = work_->bytes();
  setting_.parameters = static_cast<std::uint64_t>(parameters);
  setting_.weights = model.weights == "stored" ? std::string(name_of(spec_->stored)) : model.weights;
}

void Bench::measure_machine() {
  constexpr std::uint64_t least = 16 << 20, most = 1 << 30;
  const Communicator& world = runtime_.world();
  setting_.machine = bench::measure_machine(runtime_.exec(), world);
  if (options_.io.empty()) return;
  // Together as large as the checkpoint, within bounds: weights and two moments, by all ranks at once, as those.
  const auto ranks = static_cast<std::uint64_t>(world.size());
  const std::uint64_t share = std::clamp(12 * setting_.parameters, least, most) / ranks;
  std::optional<bench::DiskFile> file;
  runtime_.together([&] {
    const auto name = std::format(".grist_bench_{}_{}", getpid(), world.rank());
    file.emplace(std::filesystem::path(options_.io) / name, share);
  });
  const auto rate = [&](auto&& transfer) {
    double seconds = 0;
    world.barrier();
    runtime_.together([&] {
      const auto begin = std::chrono::steady_clock::now();
      transfer();
      seconds = seconds_since(begin);
    });
    return static_cast<double>(share * ranks) / world.all_reduce(seconds, Reduction::max);
  };
  setting_.machine.disk_write = rate([&] { file->write(); });
  setting_.machine.disk_read = rate([&] { file->read(); });
}

void Bench::measure_passes() {
  ModelOptionsGroup named = options_.model;
  std::optional<RandomModel> random;
  if (!options_.config.empty()) named.model = random.emplace(runtime_, options_.config).folder().string();
  const auto loaded = load_model(runtime_, named, [&](const ModelFiles&, const text::Tokenizer*) { return limits_; });
  random.reset();  // its weights are in memory, or their files are mapped
  std::optional<bench::Passes> passes;
  runtime_.together([&] { passes.emplace(runtime_.exec(), *loaded.model); });
  for (const Index batch : options_.batches) {
    for (const Index depth : options_.depths) {
      for (const Index tokens : options_.prompts) measure_pass(*passes, batch, depth, tokens, false);
      for (const Index tokens : options_.tokens) measure_pass(*passes, batch, depth, tokens, true);
    }
  }
}

void Bench::measure_pass(bench::Passes& passes, Index batch, Index depth, Index tokens, bool generates) {
  bench::Test test{.name = std::format("{}{}{}", generates ? "tg" : "pp", tokens,
                                       depth > 0 ? std::format(" @ d{}", depth) : ""),
                   .batch = batch,
                   .pass_tokens = generates ? batch : std::min(limits_.batch_tokens, batch * tokens),
                   .prompt = generates ? 0 : tokens,
                   .generated = generates ? tokens : 0,
                   .depth = depth,
                   .amount = static_cast<double>(batch * tokens),
                   .time = bench::utc_time()};
  const bench::Rates rates{setting_.machine.gemm(numbers_.type, work_->in_blocks()), setting_.machine.read};
  test.work = generates ? work_->decode(batch, depth, tokens) : work_->prefill(batch, depth, tokens);
  if (generates) test.work = static_cast<double>(tokens) * test.work;
  const auto limit = bench::roofline(test.work, rates);
  test.limit_seconds = limit.seconds;
  test.limit_name = limit.name;
  const auto run = [&](Index count) { return generates ? passes.generate(count) : passes.prompt(count); };
  {
    ProgressLine line(test.name + ", depth", runtime_.root());
    passes.prepare(batch, depth, [&](Index done, Index total) {
      line.show(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total));
    });
  }
  ProgressLine line(test.name, runtime_.root());
  constexpr Index warm_steps = 2;
  run(generates ? std::min(tokens, warm_steps) : tokens);
  for (int i = 0; i < options_.repetitions; ++i) {
    line.show(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(options_.repetitions));
    passes.prepare(batch, depth, {});
    test.seconds.push_back(run(tokens));
  }
  take(test, setting_);
}

void Bench::take(const bench::Test& test, const bench::Setting& setting) {
  if (runtime_.root()) printer_.write(bench::row_of(setting, test));
}

/// As a shell would take it again.
std::string command_of(const std::vector<std::string>& words) {
  std::string command = "grist";
  for (const std::string& word : words) {
    const bool plain = !word.empty() && word.find_first_of(" \t\n\"'\\$`*?[](){}<>|&;#~!") == std::string::npos;
    command += " ";
    if (plain) {
      command += word;
      continue;
    }
    command += "'";
    for (const char c : word) command += c == '\'' ? "'\\''" : std::string(1, c);
    command += "'";
  }
  return command;
}

}  // namespace

void add_bench(CLI::App& app, Action& action, const std::vector<std::string>& words) {
  auto* verb = app.add_subcommand("bench", "Measure speed, and which fraction of the machine's limit it is");
  const auto options = std::make_shared<BenchOptions>();
  options->add_to(*verb, action);
  verb->footer("The machine's read bandwidth and GEMM rate are measured first, and every result is\n"
               "told beside its limit. Names are those of llama-bench. Examples:\n"
               "  grist bench --model MODEL -p 512,4096 -n 128 -b 1,8,32 -d 0,4096\n"
               "  grist bench --config config.json -o jsonl >> results.jsonl     random weights\n"
               "  mpirun -n 2 grist bench --model MODEL --tp 2 -p 512 -n 128 --comm\n"
               "  grist bench --config config.json --train --sequence 1024 -b 8 --io .");
  verb->callback([options, verb, words, &action] {
    action.run = [options, verb, words](Runtime& runtime) {
      runtime.together([&] { options->complete(*verb); });
      Bench(runtime, *options, command_of(words)).go();
    };
  });
}

}  // namespace grist::cli
