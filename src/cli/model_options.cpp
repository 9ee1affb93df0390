#include "model_options.hpp"

#include "model_files.hpp"
#include "progress.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/gemm.hpp>
#include <grist/backends/products.hpp>
#include <grist/generate/scheduler.hpp>
#include <grist/io/gguf.hpp>

namespace grist::cli {

void ModelOptionsGroup::add_to(CLI::App& app, Action& action) {
  app.add_option("--model", model, "Hugging Face folder, GGUF file, or a folder with one GGUF file")
      ->required()
      ->type_name("PATH");
  add_number_options(app, *this);
  app.add_option("--tp", tp, "Ranks that share each layer (tensor parallel)")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--pp", pp, "Ranks that share the layers (pipeline parallel)")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--gemm", products, "Matrix product of many tokens; `grist info` lists them")
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--threads", action.threads, "Threads of each rank; without it ranks times threads fit the cores")
      ->check(CLI::Range(1, 1024))
      ->envname("OMP_NUM_THREADS");
}

CLI::Option* ModelOptionsGroup::add_replicas_to(CLI::App& app) {
  return app.add_option("--dp", dp, "Replicas of the model that share the work; without it as many as the ranks give")
      ->check(CLI::Range(1, 1 << 20));
}

void add_number_options(CLI::App& app, ModelOptionsGroup& options) {
  app.add_option("--dtype", options.dtype, "Activations; auto: f32 where the files hold it, else bf16")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--weights", options.weights,
                 "Weights in memory: as the files store them, or converted; q8_0 and q4_0 quantize them on loading")
      ->check(CLI::IsMember({"stored", "bf16", "f32", "q8_0", "q4_0"}))
      ->capture_default_str();
  app.add_option("--kv-dtype", options.kv_dtype,
                 "KV cache; auto: as --dtype; int8, with a scale for each token and head, takes half of bf16's memory")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16", "int8"}))
      ->capture_default_str();
}

ModelNumbers chosen_numbers(const ModelOptionsGroup& options, Format stored) {
  ModelNumbers numbers;
  const bool automatic = options.dtype == "auto";
  numbers.type = options.dtype == "f32" || (automatic && stored == Format::f32) ? DType::f32 : DType::bf16;
  numbers.kv_type = options.kv_dtype == "f32"    ? KvType::f32
                    : options.kv_dtype == "bf16" ? KvType::bf16
                    : options.kv_dtype == "f16"  ? KvType::f16
                    : options.kv_dtype == "int8" ? KvType::int8
                                                 : kv_type_of(numbers.type);
  numbers.weights = options.weights == "f32"    ? WeightStorage::f32
                    : options.weights == "bf16" ? WeightStorage::bf16
                    : options.weights == "q8_0" ? WeightStorage::q8_0
                    : options.weights == "q4_0" ? WeightStorage::q4_0
                                                : WeightStorage::stored;
  return numbers;
}

LoadedModel load_model(Runtime& runtime, const ModelOptionsGroup& options,
                       const std::function<ModelLimits(const ModelFiles&, const text::Tokenizer*)>& plan) {
  const Layout layout = options.layout();
  LoadedModel loaded;
  std::filesystem::path path;
  std::string description;
  ModelFiles files;
  ModelOptions settings;
  MemoryPlan memory;
  runtime.together([&] {
    Layout all = layout;
    all.dp = options.dp > 0 ? options.dp : std::max(1, runtime.world().size() / static_cast<int>(layout.ranks()));
    all.expect_ranks(runtime.world().size());
    if (runtime.world().size() > 1) description = describe_files(options.model);
    path = io::gguf_file_of(options.model);
  });
  runtime.expect_same("the model", description, ExitCode::bad_input);
  runtime.together([&] {
    files = open_model(path);
    loaded.tokenizer = text::load_tokenizer(path);
    loaded.tokens = files.tokens;
    settings.numbers = chosen_numbers(options, files.stored);
    settings.products = options.products;
    settings.replay = true;
    make_gemm(options.products);
    if (runtime.root()) settings.limits = plan(files, loaded.tokenizer.get());
  });
  ModelLimits& limits = settings.limits;
  for (Index* limit : {&limits.batch_tokens, &limits.logit_rows, &limits.context, &limits.kv_tokens})
    runtime.world().broadcast(limit, 1, 0);
  for (int* limit : {&limits.batch_sequences, &limits.caches}) runtime.world().broadcast(limit, 1, 0);
  const int ranks = static_cast<int>(layout.ranks()), world_rank = runtime.world().rank();
  const Communicator replica = runtime.world().split(world_rank / ranks, world_rank);
  runtime.together([&] {
    const int rank = replica.rank();
    Products products(options.products);
    memory = scheduler_plan(files, layout, rank / layout.tp, rank % layout.tp, settings.numbers, settings.limits,
                            products);
  });
  if (runtime.root()) note_all(files.notes);
  if (runtime.root() && loaded.tokenizer) note_all(loaded.tokenizer->notes);
  const Communicator node = runtime.world().split_by_node();
  const Communicator sharers = node.split(memory_hash(device_facts()), node.rank());
  // Pages of mapped files are there once, however many ranks read them.
  Index stored = 0;
  for (const auto& [name, tensor] : files.weights.tensors()) stored += static_cast<Index>(tensor.bytes());
  const Index needed = sharers.all_reduce(static_cast<Index>(memory.total() - memory.mapped)) +
                       std::min(stored, sharers.all_reduce(static_cast<Index>(memory.mapped)));
  runtime.together([&] { check_memory(memory, static_cast<std::uint64_t>(needed), sharers.size()); });
  loaded.grid = std::make_unique<ProcessGrid>(replica.handle(), layout);
  ProgressLine line("loading", runtime.root());
  settings.progress = [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
  runtime.together([&] { loaded.model = make_model(files, *loaded.grid, settings); });
  return loaded;
}

std::vector<int> encode_prompt(const ModelTokens& tokens, const text::Tokenizer* tokenizer, const std::string& text,
                               bool add_special) {
  std::vector<int> ids;
  if (tokenizer != nullptr) {
    ids = tokenizer->encode(text, add_special);
  } else if (!text.empty()) {
    throw InputError(
        "the model has no tokenizer (tokenizer.json or tokenizer.model); give token ids with --prompt-ids");
  }
  const int bos = tokenizer != nullptr && tokenizer->bos >= 0 ? tokenizer->bos : tokens.bos;
  if (ids.empty() && bos >= 0) ids.push_back(bos);
  return ids;
}

std::string chat_prompt(const text::Tokenizer* tokenizer, const std::vector<text::Message>& messages) {
  if (tokenizer == nullptr || tokenizer->chat_template.empty())
    throw InputError("the model has no chat template; give a plain prompt with `grist generate --prompt`");
  return text::apply_chat_template(tokenizer->chat_template, messages, true, tokenizer->special_tokens);
}

}  // namespace grist::cli
