#include "model_options.hpp"

#include "interrupt.hpp"
#include "model_files.hpp"
#include "progress.hpp"

#include <grist/backends/device.hpp>
#include <grist/backends/gemm.hpp>
#include <grist/backends/products.hpp>
#include <grist/generate/draft_model.hpp>
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
  app.add_option("--gemm", products,
                 "Matrix product of many tokens where grist's own kernel is not faster; `grist info` lists them")
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

void ModelOptionsGroup::default_to_all_ranks(const CLI::App& verb) {
  if (verb.get_option("--dp")->empty()) dp = 0;
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

namespace {

/// A model that is to be loaded.
struct Opened {
  ModelFiles files;
  std::unique_ptr<text::Tokenizer> tokenizer;
  ModelOptions settings;
};

/// Opens what all ranks see alike; `what` names it where they do not.
Opened open_alike(Runtime& runtime, const ModelOptionsGroup& options, const std::string& model, const char* what) {
  Opened opened;
  std::filesystem::path path;
  std::string description;
  runtime.together([&] {
    if (runtime.world().size() > 1) description = describe_files(model);
    path = io::gguf_file_of(model);
  });
  runtime.expect_same(what, description, ExitCode::bad_input);
  runtime.together([&] {
    opened.files = open_model(path);
    opened.tokenizer = text::load_tokenizer(path);
    opened.settings.numbers = chosen_numbers(options, opened.files.stored);
    opened.settings.products = options.products;
  });
  return opened;
}

void broadcast(const Communicator& ranks, ModelLimits& limits) {
  for (Index* limit : {&limits.batch_tokens, &limits.logit_rows, &limits.context, &limits.kv_tokens})
    ranks.broadcast(limit, 1, 0);
  for (int* limit : {&limits.batch_sequences, &limits.caches}) ranks.broadcast(limit, 1, 0);
}

MemoryPlan plan_of(const Opened& opened, const Layout& layout, int pp_rank, int tp_rank) {
  Products products(opened.settings.products);
  return scheduler_plan(opened.files, layout, pp_rank, tp_rank, opened.settings.numbers, opened.settings.limits,
                        products);
}

/// The same for a draft model, whose layout is the model's first stage.
MemoryPlan plan_of_draft(const Opened& draft, const std::string& name, int tp, int tp_rank) {
  try {
    return plan_of(draft, {.tp = tp}, 0, tp_rank);
  } catch (const UsageError& error) {
    throw UsageError("--draft-model {}: {}", name, error.what());
  }
}

Index bytes_of_files(const ModelFiles& files) {
  Index bytes = 0;
  for (const auto& [name, tensor] : files.weights.tensors()) bytes += static_cast<Index>(tensor.bytes());
  return bytes;
}

/// Throws MemoryError where the ranks that share memory do not have what they need. `stored`: bytes of all files.
void check_memory_of_all(const Runtime& runtime, const MemoryPlan& memory, Index stored) {
  const Communicator node = runtime.world().split_by_node();
  const Communicator sharers = node.split(memory_hash(device_facts()), node.rank());
  // Pages of mapped files are there once, however many ranks read them.
  const Index needed = sharers.all_reduce(static_cast<Index>(memory.total() - memory.mapped)) +
                       std::min(stored, sharers.all_reduce(static_cast<Index>(memory.mapped)));
  runtime.together([&] { check_memory(memory, static_cast<std::uint64_t>(needed), sharers.size()); });
}

}  // namespace

LoadedModel load_model(Runtime& runtime, const ModelOptionsGroup& options,
                       const std::function<ModelLimits(const ModelFiles&, const text::Tokenizer*)>& plan,
                       const std::string& draft_model) {
  const Layout layout = options.layout();
  const int ranks = static_cast<int>(layout.ranks()), world_rank = runtime.world().rank();
  runtime.together([&] {
    Layout all = layout;
    all.dp = options.dp > 0 ? options.dp : std::max(1, runtime.world().size() / ranks);
    all.expect_ranks(runtime.world().size());
    make_gemm(options.products);
  });
  Opened opened = open_alike(runtime, options, options.model, "the model");
  const bool drafts = !draft_model.empty();
  Opened draft = drafts ? open_alike(runtime, options, draft_model, "the draft model") : Opened{};
  opened.settings.replay = !drafts;  // two models share the execution space instance
  runtime.together([&] {
    if (drafts)
      check_same_vocabulary({draft_model, draft.files.spec.vocab_size, draft.tokenizer.get()},
                            {options.model, opened.files.spec.vocab_size, opened.tokenizer.get()});
    if (runtime.root()) opened.settings.limits = plan(opened.files, opened.tokenizer.get());
  });
  broadcast(runtime.world(), opened.settings.limits);
  const Communicator replica = runtime.world().split(world_rank / ranks, world_rank);
  const int pp_rank = replica.rank() / layout.tp, tp_rank = replica.rank() % layout.tp;
  MemoryPlan memory;
  runtime.together([&] {
    memory = plan_of(opened, layout, pp_rank, tp_rank);
    if (!drafts) return;
    draft.settings.limits = draft_limits(opened.settings.limits, draft.files.spec.max_positions);
    const MemoryPlan more = plan_of_draft(draft, draft_model, layout.tp, tp_rank);
    if (pp_rank == 0) memory += more;
  });
  if (runtime.root()) note_all(opened.files.notes);
  if (runtime.root() && opened.tokenizer) note_all(opened.tokenizer->notes);
  check_memory_of_all(runtime, memory, bytes_of_files(opened.files) + bytes_of_files(draft.files));

  LoadedModel loaded{.tokenizer = std::move(opened.tokenizer), .tokens = opened.files.tokens, .drafts = drafts};
  loaded.grid = std::make_unique<ProcessGrid>(replica.handle(), layout);
  if (drafts && pp_rank == 0)
    loaded.draft_grid = std::make_unique<ProcessGrid>(loaded.grid->tp().handle(), Layout{.tp = layout.tp});
  ProgressLine line("loading", runtime.root());
  opened.settings.progress = draft.settings.progress = [&](std::uint64_t done, std::uint64_t total) {
    Interrupt::check("loading the model");
    line.show(done, total);
  };
  runtime.together([&] {
    loaded.model = make_model(opened.files, *loaded.grid, opened.settings);
    if (loaded.draft_grid) loaded.draft = make_model(draft.files, *loaded.draft_grid, draft.settings);
  });
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
