// How near a model comes to what the machine can do: decode against the read bandwidth, prefill against the GEMM
// provider's rate on the model's own matrices, all in one process and one run. Medians of several rounds.
#include <grist/backends/device.hpp>
#include <grist/backends/gemm.hpp>
#include <grist/backends/products.hpp>
#include <grist/backends/rates.hpp>
#include <grist/backends/threads.hpp>
#include <grist/comm/process_grid.hpp>
#include <grist/generate/generation.hpp>

#include <processes.hpp>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <iostream>

namespace {

using namespace grist;

template <class F>
double seconds(const Exec& exec, F&& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  exec.fence("grist::benchmark");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

/// Products of a block's matrices, as a prefill of `tokens` does them, without all else.
template <class T>
class BlockGemm {
public:
  BlockGemm(const Exec& exec, const ModelSpec& spec, Index tokens) : exec_(exec), tokens_(tokens) {
    const auto& [attention, mlp] = std::tie(spec.layers[0].attention, spec.layers[0].mlp);
    const Index q = attention.q_width(), intermediate = mlp.intermediate_size;
    products_ = {{q + 2 * attention.kv_width(), spec.hidden_size}, {spec.hidden_size, q, true},
                 {(mlp.gated ? 2 : 1) * intermediate, spec.hidden_size}, {spec.hidden_size, intermediate, true}};
    Index most_in = 0, most_out = 0, weights = 0;
    for (const auto& [out, in, residual] : products_) {
      most_in = std::max(most_in, in);
      most_out = std::max(most_out, out);
      weights += out * in;
      flops_ += 2.0 * static_cast<double>(out * in * tokens);
    }
    x_ = random("x", most_in * tokens);
    w_ = random("w", weights);
    y_ = Buffer<float>("y", most_out * tokens);
  }
  /// FLOP per second.
  double measure() {
    return flops_ / seconds(exec_, [&] {
             Index offset = 0;
             for (const auto& [out, in, residual] : products_) {
               const View2<const T> x(x_.data(), tokens_, in), w(w_.data() + offset, out, in);
               const Matrix y = residual ? Matrix(y_.view(tokens_, out))
                                         : Matrix(View2<T>(reinterpret_cast<T*>(y_.data()), tokens_, out));
               if (!gemm_->run(exec_, {x, Op::none, w, Op::transposed, 0, y})) std::abort();
               offset += out * in;
             }
           });
  }
  [[nodiscard]] double flops() const { return flops_; }

private:
  Buffer<T> random(const char* name, Index size) {
    const Buffer<T> buffer(name, size);
    fill_varied(exec_, buffer.view());
    return buffer;
  }

  const Exec& exec_;
  Index tokens_;
  struct Shape {
    Index out, in;
    bool residual = false;  // what is added to the residual stream is float
  };
  std::vector<Shape> products_;
  double flops_ = 0;
  std::unique_ptr<Gemm> gemm_ = make_gemm();
  Buffer<T> x_, w_;
  Buffer<float> y_;
};

template <class T>
nlohmann::ordered_json measure(const std::string& path, int prompt, int rounds, int tokens) {
  const Exec exec;
  const auto files = open_model(path);
  const auto& spec = files.spec;
  const ProcessGrid grid(comm_self(), {});
  const Index context = prompt + rounds * tokens + 1;
  const ModelNumbers numbers{.type = dtype_of<T>, .kv_type = dtype_of<T>};
  const ModelLimits limits{.batch_tokens = std::max<Index>(prompt, 8), .context = context, .kv_tokens = context};
  const auto model = make_model(files, grid, {.numbers = numbers, .limits = limits, .replay = true});
  const auto kv = model->make_kv(context);
  KvSequence sequence;
  const auto pass = [&](std::span<const int> ids, int position, bool few) {
    if (position < sequence.length()) kv->truncate(sequence, position);
    kv->reserve(sequence, position + static_cast<int>(ids.size()));
    const BatchItem item{.ids = ids, .position = position, .kv = &sequence, .few = few, .prompt_length = prompt};
    model->run(exec, kv.get(), {.items = {&item, 1}});
    model->logits(exec);
  };
  ReadBandwidth bandwidth(exec);
  BlockGemm<T> gemm(exec, spec, prompt);
  std::vector<int> ids(static_cast<std::size_t>(prompt));
  for (std::size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int>(i * 37 % static_cast<std::size_t>(spec.vocab_size));

  std::vector<double> bandwidths, gemm_rates, prefills, decodes;
  for (int round = 0; round <= rounds; ++round) {  // the first one warms up
    const double bytes_per_second = bandwidth.measure(), rate = gemm.measure();
    const double prefill = seconds(exec, [&] { pass(ids, 0, false); });
    const double decode = seconds(exec, [&] {
      for (int t = 0; t < tokens; ++t) pass(std::span(ids).first(1), prompt + t, true);
    });
    if (round == 0) continue;
    bandwidths.push_back(bytes_per_second);
    gemm_rates.push_back(rate);
    prefills.push_back(prefill);
    decodes.push_back(decode / tokens);
  }
  // A decoded token reads every matrix but the embedding's (one row of it), and the keys and values of its past.
  const auto& attention = spec.layers[0].attention;
  const double embedding =
      spec.tied_embeddings ? 0 : static_cast<double>(spec.vocab_size * row_bytes(files.stored, spec.hidden_size));
  Products products;
  const auto plan = memory_plan(files, {}, 0, 0, numbers, limits, products);
  const double matrices = static_cast<double>(plan.parameters) - embedding;
  const double past = prompt + tokens / 2.0;
  const double bytes = matrices + past * static_cast<double>(2 * spec.layer_count() * attention.kv_width()) * sizeof(T);
  const double read = median(bandwidths), rate = median(gemm_rates), prefill = median(prefills),
               decode = median(decodes);
  const double prefill_rate = gemm.flops() * static_cast<double>(spec.layer_count()) / prefill;
  return {{"device", device_facts().name},
          {"model", path},
          {"dtype", name_of(dtype_of<T>)},
          {"threads", device_facts().threads},
          {"read_gb_per_second", read * 1e-9},
          {"gemm", make_gemm()->name()},
          {"gemm_gflops", rate * 1e-9},
          {"prompt_tokens", prompt},
          {"prefill_tokens_per_second", prompt / prefill},
          {"prefill_gflops", prefill_rate * 1e-9},
          {"prefill_fraction_of_gemm", prefill_rate / rate},
          {"decode_tokens_per_second", 1 / decode},
          {"decode_gb_per_second", bytes / decode * 1e-9},
          {"decode_fraction_of_read", bytes / decode / read}};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Measures decode and prefill of a model as fractions of this machine's read bandwidth and GEMM rate.\n"
      "  grist init --config benchmarks/models/llama_1b.json --out /tmp/llama_1b && grist_limits --model "
      "/tmp/llama_1b");
  std::string model, dtype = "bf16";
  int prompt = 512, rounds = 5, tokens = 16;
  app.add_option("--model", model, "Hugging Face folder or .gguf file")->required();
  app.add_option("--dtype", dtype)->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
  app.add_option("--prompt", prompt, "Tokens of the prefill")->check(CLI::Range(2, 65536))->capture_default_str();
  app.add_option("--rounds", rounds, "Rounds, of which the medians count")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--tokens", tokens, "Tokens decoded in a round")->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const cli::Processes processes;
  int code = 0;
  {
    const Kokkos::ScopeGuard kokkos(
        Kokkos::InitializationSettings().set_num_threads(choose_threads(1)).set_disable_warnings(true));
    bind_threads(0, 1);
    try {
      std::cout << (dtype == "f32" ? measure<float>(model, prompt, rounds, tokens)
                                   : measure<bf16>(model, prompt, rounds, tokens)).dump(2) << '\n';
    } catch (const Error& error) {
      std::cerr << "grist_limits: error: " << error.what() << '\n';
      code = static_cast<int>(error.code());
    }
  }
  return code;
}
