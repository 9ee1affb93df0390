#include "model_options.hpp"

#include "progress.hpp"

#include <grist/backends/device.hpp>
#include <grist/io/utf8.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace grist::cli {

void ModelOptionsGroup::add_to(CLI::App& app, Action& action) {
  app.add_option("--model", model, "Hugging Face folder or .gguf file")->required()->type_name("PATH");
  app.add_option("--dtype", dtype, "Weights, activations and KV cache; auto: f32 where the files hold it, else bf16")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))->capture_default_str();
  app.add_option("--tp", tp, "Ranks that share each layer (tensor parallel)")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--pp", pp, "Ranks that share the layers (pipeline parallel)")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--gemm", gemm, "Matrix product of many tokens; `grist info` lists them")->type_name("NAME")->capture_default_str();
  app.add_option("--threads", action.threads, "Threads of each rank; without it ranks times threads fit the cores")
      ->check(CLI::Range(1, 1024))->envname("OMP_NUM_THREADS");
}

DType chosen_type(const std::string& option, const ModelSpec& spec) {
  if (option == "auto") return spec.stored_type == DType::f32 ? DType::f32 : DType::bf16;
  return option == "f32" ? DType::f32 : DType::bf16;
}

LoadedModel load_model(Runtime& runtime, const ModelOptionsGroup& options,
                       const std::function<ModelLimits(const ModelSpec&, const io::Tokenizer*)>& plan) {
  const Layout layout = options.layout();
  LoadedModel loaded;
  ModelFiles files;
  ModelOptions settings;
  MemoryPlan memory;
  runtime.together([&] {
    layout.expect_ranks(runtime.world().size());
    files = open_model(options.model);
    loaded.tokenizer = io::load_tokenizer(options.model);
    settings.type = chosen_type(options.dtype, files.spec);
    settings.gemm = options.gemm;
    settings.replay = true;
    make_gemm(options.gemm);
    if (runtime.root()) settings.limits = plan(files.spec, loaded.tokenizer.get());
  });
  ModelLimits& limits = settings.limits;
  for (Index* limit : {&limits.cache_tokens, &limits.batch_tokens, &limits.logit_rows}) runtime.world().broadcast(limit, 1, 0);
  runtime.world().broadcast(&limits.batch_sequences, 1, 0);
  runtime.together([&] {
    const int rank = runtime.world().rank();
    memory = memory_plan(files.spec, layout, rank / layout.tp, rank % layout.tp, settings.type, settings.limits);
  });
  const Communicator node = runtime.world().split_by_node();
  const Communicator sharers = node.split(memory_hash(device_facts()), node.rank());
  const Index needed = sharers.all_reduce(static_cast<Index>(memory.total()));
  runtime.together([&] { check_memory(memory, static_cast<std::uint64_t>(needed), sharers.size()); });
  loaded.grid = std::make_unique<ProcessGrid>(runtime.world().handle(), layout);
  ProgressLine line("loading", runtime.root());
  settings.progress = [&](std::uint64_t done, std::uint64_t total) { line.show(done, total); };
  runtime.together([&] { loaded.model = make_model(files, *loaded.grid, settings); });
  return loaded;
}

std::vector<int> end_tokens(const ModelSpec& spec, const io::Tokenizer* tokenizer) {
  std::vector<int> eos = spec.eos;
  if (tokenizer != nullptr) eos.insert(eos.end(), tokenizer->eos.begin(), tokenizer->eos.end());
  return eos;
}

std::vector<int> encode_prompt(const ModelSpec& spec, const io::Tokenizer* tokenizer, const std::string& text,
                               bool add_special) {
  std::vector<int> ids;
  if (tokenizer != nullptr) {
    ids = tokenizer->encode(text, add_special);
  } else if (!text.empty()) {
    throw InputError("the model has no tokenizer (tokenizer.json or tokenizer.model); give token ids with --prompt-ids");
  }
  const int bos = tokenizer != nullptr && tokenizer->bos >= 0 ? tokenizer->bos : spec.bos;
  if (ids.empty() && bos >= 0) ids.push_back(bos);
  return ids;
}

std::string chat_prompt(const io::Tokenizer* tokenizer, const std::vector<io::Message>& messages) {
  if (tokenizer == nullptr || tokenizer->chat_template.empty())
    throw InputError("the model has no chat template; give a plain prompt with `grist generate --prompt`");
  return io::apply_chat_template(tokenizer->chat_template, messages, true, tokenizer->bos_text, tokenizer->eos_text);
}

void add_sampling_options(CLI::App& app, SamplingOptions& sampling) {
  app.add_option("--temperature", sampling.temperature, "0: always the most likely token")->capture_default_str();
  app.add_option("--top-k", sampling.top_k, "Choose among the K most likely tokens; 0: all")->capture_default_str();
  app.add_option("--top-p", sampling.top_p, "Choose among the fewest tokens that together reach P")->capture_default_str();
  app.add_option("--min-p", sampling.min_p, "Choose among tokens of at least P times the highest probability")->capture_default_str();
  app.add_option("--repetition-penalty", sampling.repetition_penalty, "Above 1: tokens seen become less likely")->capture_default_str();
  app.add_option("--seed", sampling.seed, "The same seed gives the same text; in f32 at any layout")->capture_default_str();
}

std::vector<int> parse_ids(const std::string& text, const char* option) {
  std::vector<int> ids;
  std::istringstream in(text);
  std::string word;
  while (std::getline(in >> std::ws, word, ',')) {
    std::size_t used = 0;
    try {
      ids.push_back(std::stoi(word, &used));
    } catch (const std::exception&) {
    }
    if (used == 0 || word.find_first_not_of(" \t\n", used) != std::string::npos)
      throw UsageError("{}: '{}' is not a token id; ids are separated by commas", option, word);
  }
  return ids;
}

void check_utf8(const std::string& text, const std::string& where) {
  if (const auto at = io::find_invalid_utf8(text))
    throw InputError("{}: not UTF-8: byte {:#04x} at offset {}", where, static_cast<unsigned char>(text[*at]), *at);
}

std::string read_text(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (std::filesystem::is_directory(file)) throw InputError("{}: is a folder, expected a file with text", file);
  if (!in) throw InputError("{}: cannot be opened: {}", file, std::strerror(errno));
  if (!(text << in.rdbuf() || in.peek() == std::ifstream::traits_type::eof())) throw InputError("{}: cannot be read", file);
  check_utf8(text.str(), file);
  return text.str();
}

}  // namespace grist::cli
