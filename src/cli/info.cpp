// grist info: what this build can do, what this machine is, and what a model would need.
#include "model_options.hpp"
#include "version.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/rates.hpp>
#include <grist/generate/generation.hpp>

#include <algorithm>
#include <cstdio>

namespace grist::cli {
namespace {

struct Options {
  std::string model;
  std::string dtype = "auto";
  int context = 0;
  int tp = 1, pp = 1;
  bool measure = false;
};

void row(const char* name, const std::string& value) { std::printf("%-12s %s\n", name, value.c_str()); }

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(text, &length);
  std::string line(text, static_cast<std::size_t>(length));
  line.resize(std::min(line.find('\n'), line.size()));
  for (auto& c : line)
    if (c == '\t') c = ' ';
  return line;
}

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
  row("mpi", mpi_library());
  if (!host_reaches_memory) row("gpu-aware", runtime.world().direct() ? "yes" : "no: messages go by host memory");
  row("ranks", std::format("{} with {} threads each", runtime.world().size(), runtime.threads()));
}

/// The first rank alone: others on its node would share what is measured.
void print_rates(const Exec& exec) {
  ReadBandwidth bandwidth(exec);
  double read = 0;
  for (int round = 0; round < 4; ++round) read = std::max(read, bandwidth.measure());  // the first one warms a device up
  row("read", std::format("{:.1f} GB/s", read * 1e-9));
  for (const auto name : gemm_providers()) {
    for (const DType type : {DType::f32, DType::bf16}) {
      if (const double rate = gemm_rate(exec, *make_gemm(name), type); rate > 0)
        row(name == gemm_providers().front() && type == DType::f32 ? "products" : "",
            std::format("{:.0f} GFLOP/s in {} by {}", rate * 1e-9, name_of(type), name));
    }
  }
}

void print_model(const Options& options) {
  const auto spec = read_spec(options.model);
  const Layout layout{.pp = options.pp, .tp = options.tp};
  const DType type = chosen_type(options.dtype, spec);
  const int context = options.context > 0 ? options.context : spec.max_positions;
  const ModelLimits limits{.cache_tokens = context, .batch_tokens = prefill_chunk + few_tokens};
  std::vector<MemoryPlan> plans;  // first of all: a layout that cannot be prints nothing
  for (int p = 0; p < layout.pp; ++p)
    for (int t = 0; t < layout.tp; ++t) plans.push_back(memory_plan(spec, layout, p, t, type, limits));
  row("model", options.model);
  row("family", spec.family);
  row("parameters", std::format("{} ({:.2f} B)", parameter_count(spec), static_cast<double>(parameter_count(spec)) * 1e-9));
  row("layers", std::format("{} of hidden {}, intermediate {}", spec.layers, spec.hidden_size, spec.intermediate_size));
  row("attention", std::format("{} heads of {}, {} KV heads{}", spec.heads, spec.head_dim, spec.kv_heads,
                               spec.sliding_window > 0 ? std::format(", window {}", spec.sliding_window) : ""));
  row("vocabulary", std::format("{}, {} embeddings", spec.vocab_size, spec.tied_embeddings ? "tied" : "untied"));
  row("context", std::format("{} (trained for {})", context, spec.max_positions));
  std::printf("\nmemory of each rank in %s at %s, one sequence of %d tokens\n", std::string(name_of(type)).c_str(),
              to_string(layout).c_str(), context);
  std::printf("%5s %5s %12s %12s %12s %12s\n", "pp", "tp", "weights", "KV cache", "scratch", "sum");
  for (std::size_t i = 0; i < plans.size(); ++i) {
    const auto& plan = plans[i];
    std::printf("%5d %5d %12s %12s %12s %12s\n", static_cast<int>(i) / layout.tp, static_cast<int>(i) % layout.tp,
                human_bytes(plan.parameters).c_str(), human_bytes(plan.kv_cache).c_str(),
                human_bytes(plan.workspace + plan.libraries).c_str(), human_bytes(plan.total()).c_str());
  }
}

void run(Runtime& runtime, const Options& options) {
  runtime.together([&] {
    if (!runtime.root()) return;
    if (!options.model.empty()) return print_model(options);
    print_build(runtime);
    if (options.measure) print_rates(runtime.exec());
  });
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("info", "What this build and machine can do; with --model what a model needs");
  const auto options = std::make_shared<Options>();
  verb->add_option("--model", options->model, "Hugging Face folder, config.json or .gguf file")->type_name("PATH");
  verb->add_option("--dtype", options->dtype, "For the memory estimate")->check(CLI::IsMember({"auto", "f32", "bf16"}))->capture_default_str();
  verb->add_option("--context", options->context, "Tokens of the KV cache; default: the model's context")->check(CLI::Range(1, 1 << 30));
  verb->add_option("--tp", options->tp, "Tensor parallel ranks of the estimate")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  verb->add_option("--pp", options->pp, "Pipeline stages of the estimate")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  verb->add_flag("--measure", options->measure, "Measure read bandwidth and matrix products too (some seconds)")->excludes("--model");
  verb->callback([options, &action] { action.run = [options](Runtime& runtime) { run(runtime, *options); }; });
}

}  // namespace grist::cli
