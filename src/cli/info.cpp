// grist info: what this build can do, what this machine is, and what a model would need.
#include "model_options.hpp"
#include "processes.hpp"
#include "train_info.hpp"
#include "version.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/products.hpp>
#include <grist/backends/rates.hpp>
#include <grist/backends/threads.hpp>
#include <grist/core/staging.hpp>
#include <grist/generate/generation.hpp>

#include <algorithm>
#include <cstdio>

namespace grist::cli {
namespace {

struct InfoOptions {
  ModelOptionsGroup model;
  int context = 0;
  bool measure = false;
};

void row(const char* name, const std::string& value) { std::printf("%-12s %s\n", name, value.c_str()); }

void print_build(const Runtime& runtime) {
  const auto facts = device_facts();
  std::string providers;
  for (const auto name : gemm_providers())
    providers += std::format("{}{}{}", providers.empty() ? "" : ", ", name,
                             make_gemm(name)->batch_invariant() ? "" : " (a token's last bits depend on its batch)");
  row("version", std::format("grist {} ({})", version, commit));
  row("backend", std::format("Kokkos {}.{}.{} {}", KOKKOS_VERSION / 10000, KOKKOS_VERSION / 100 % 100,
                             KOKKOS_VERSION % 100, Exec::name()));
  row("gemm", providers);
  row("device", facts.address.empty() ? facts.name : std::format("{} at {}", facts.name, facts.address));
  row("memory", std::format("{}, {} free", human_bytes(facts.memory), human_bytes(facts.available)));
  row("mpi", has_mpi ? mpi_library() : "none: one rank");
  if (!host_reaches_memory)
    row("gpu-aware", runtime.world().direct() ? "yes" : "no: messages go through host memory");
  row("ranks", std::format("{} with {} threads each", runtime.world().size(), runtime.threads()));
}

/// Where the threads of each rank may run; collective.
void print_processors(const Runtime& runtime) {
  constexpr int most = 16;
  for (int rank = 0; rank < std::min(runtime.world().size(), most); ++rank) {
    const auto own = processors_of_threads();
    std::vector<int> bytes(own.begin(), own.end());
    Index size = std::ssize(bytes);
    runtime.world().broadcast(&size, 1, rank);
    bytes.resize(static_cast<std::size_t>(size));
    runtime.world().broadcast(bytes.data(), size, rank);
    const std::string text(bytes.begin(), bytes.end());
    if (runtime.root() && !text.empty())
      row(rank == 0 ? "processors" : "", std::format("rank {}: its threads run on {}", rank, text));
  }
  if (runtime.root() && runtime.world().size() > most) row("", std::format("... of the first {} ranks", most));
}

/// The first rank alone: others on its node would share what is measured.
void print_rates(const Exec& exec) {
  ReadBandwidth bandwidth(exec);
  double read = 0;
  for (int round = 0; round < 4; ++round)
    read = std::max(read, bandwidth.measure());  // the first one warms a device up
  row("read", std::format("{:.1f} GB/s", read * 1e-9));
  for (const auto name : gemm_providers()) {
    for (const DType type : {DType::f32, DType::bf16}) {
      if (const double rate = gemm_rate(exec, *make_gemm(name), type); rate > 0)
        row(name == gemm_providers().front() && type == DType::f32 ? "products" : "",
            std::format("{:.0f} GFLOP/s in {} by {}", rate * 1e-9, name_of(type), name));
    }
  }
}

/// "24 layers of hidden 896"; then a line for each kind of layer.
void print_layers(const ModelSpec& spec) {
  const auto describe = [](const LayerSpec& layer) {
    const auto& a = layer.attention;
    const auto& m = layer.mlp;
    return std::format(
        "{} heads of {}, {} KV heads{}{}; {}intermediate {}", a.heads, a.head_dim, a.kv_heads,
        a.window > 0 ? std::format(", window {}", a.window) : "", a.position == Position::alibi ? ", ALiBi" : "",
        m.experts > 0 ? std::format("{} of {} experts of ", m.experts_per_token, m.experts) : "", m.intermediate_size);
  };
  std::vector<std::pair<std::string, int>> kinds;
  for (const auto& layer : spec.layers) {
    const auto text = describe(layer);
    const auto found = std::ranges::find(kinds, text, &std::pair<std::string, int>::first);
    if (found == kinds.end()) kinds.emplace_back(text, 1);
    else ++found->second;
  }
  row("layers", std::format("{} of hidden {}", spec.layer_count(), spec.hidden_size));
  for (const auto& [text, count] : kinds) row("", std::format("{} x {}", count, text));
}

void print_model(const InfoOptions& options) {
  const auto files = read_spec(options.model.model);
  const auto& spec = files.spec;
  const Layout layout = options.model.layout();
  const ModelNumbers numbers = chosen_numbers(options.model, files.stored);
  const int context = options.context > 0 ? options.context : spec.max_positions;
  const ModelLimits limits{.batch_tokens = prefill_tokens, .context = context, .kv_tokens = context};
  std::vector<MemoryPlan> plans;  // first of all: a layout that cannot be prints nothing
  Products products;
  for (int p = 0; p < layout.pp; ++p)
    for (int t = 0; t < layout.tp; ++t)
      plans.push_back(scheduler_plan(files, layout, p, t, numbers, limits, products));
  row("model", options.model.model);
  row("family", files.family);
  const auto parameters = parameter_count(spec), active = parameter_count(spec, true);
  row("parameters", std::format("{} ({:.2f} B){}", parameters, static_cast<double>(parameters) * 1e-9,
                                active < parameters ? std::format(", {:.2f} B of them for each token",
                                                                  static_cast<double>(active) * 1e-9)
                                                    : ""));
  row("stored", std::format("mostly {}", name_of(files.stored)));
  print_layers(spec);
  row("vocabulary", std::format("{}, {} embeddings", spec.vocab_size, spec.tied_embeddings ? "tied" : "untied"));
  row("context", std::format("{} (trained for {})", context, spec.max_positions));
  std::printf(
      "\nmemory of each rank with activations in %s, weights %s, keys and values in %s, at %s, one sequence of %d "
      "tokens\n",
      std::string(name_of(numbers.type)).c_str(), options.model.weights.c_str(),
      std::string(name_of(numbers.kv_type)).c_str(), to_string(layout).c_str(), context);
  std::printf("%5s %5s %12s %12s %12s %12s\n", "pp", "tp", "weights", "KV cache", "scratch", "sum");
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto& plan = plans[i];
    std::printf("%5d %5d %12s %12s %12s %12s\n", static_cast<int>(i) / layout.tp, static_cast<int>(i) % layout.tp,
                human_bytes(plan.parameters).c_str(), human_bytes(plan.kv_cache).c_str(),
                human_bytes(plan.scratch()).c_str(), human_bytes(plan.total()).c_str());
  }
}

void run(Runtime& runtime, const InfoOptions& options) {
  runtime.together([&] {
    if (!runtime.root()) return;
    if (!options.model.model.empty()) return print_model(options);
    print_build(runtime);
  });
  if (!options.model.model.empty()) return;
  print_processors(runtime);
  runtime.together([&] {
    if (runtime.root() && options.measure) print_rates(runtime.exec());
  });
}

}  // namespace

void add_info(CLI::App& app, Action& action, bool training) {
  auto* verb = app.add_subcommand("info", "What this build and machine can do; with --model what a model needs");
  verb->add_flag("--train",
                 "Tell what training needs; takes the options of `grist train`, `grist info --train --help`");
  if (training) return add_training_info(*verb, action);
  const auto options = std::make_shared<InfoOptions>();
  verb->add_option("--model", options->model.model, "Hugging Face folder, config.json or GGUF file")->type_name("PATH");
  add_number_options(*verb, options->model);
  verb->add_option("--context", options->context, "Tokens of the KV cache; default: the model's context")
      ->check(CLI::Range(1, 1 << 30));
  verb->add_option("--tp", options->model.tp, "Tensor parallel ranks of the estimate")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--pp", options->model.pp, "Pipeline stages of the estimate")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb->add_flag("--measure", options->measure, "Measure read bandwidth and matrix products too (some seconds)")
      ->excludes("--model");
  verb->footer("Start it as you start a job, and it tells where the ranks' threads run:\n"
               "  mpirun -n 4 grist info\n"
               "  grist info --model MODEL --tp 4 --context 8192      the memory of each rank, without starting four\n"
               "  grist info --train --config config.json --tp 4      the same for training");
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
