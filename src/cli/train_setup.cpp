#include "train_setup.hpp"

#include <grist/backends/gemm.hpp>
#include <grist/core/errors.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace grist::cli {
namespace {

namespace fs = std::filesystem;

constexpr Index usual_document = 32;  // tokens: few are shorter

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError("{}: cannot be read", file.string());
  return {std::istreambuf_iterator<char>(in), {}};
}

/// config.json of a folder or file; empty for files of another kind.
std::string model_config_of(const fs::path& model) {
  if (fs::is_directory(model)) return text_of(model / "config.json");
  return model.extension() == ".json" ? text_of(model) : "";
}

train::TrainerOptions trainer_options(const TrainOptions& options, const Layout& layout, Index sequence) {
  return {.type = options.dtype == "bf16" ? DType::bf16 : DType::f32,
          .recompute = options.recompute_kind(),
          .pipeline = options.pipeline_kind(),
          .chunks = options.chunks_per_rank(),
          .sequence_parallel = options.sequence_parallel,
          .zero = options.zero == 1,
          .optimizer = options.optimizer == "lamb"  ? train::Optimizer::lamb
                       : options.optimizer == "sgd" ? train::Optimizer::sgd
                                                    : train::Optimizer::adamw,
          .config = options.optimizer_config(),
          .learning_rate = options.learning_rate(),
          .clip = options.clip,
          .max_skipped = options.max_skipped,
          .sequence = sequence,
          .micro_batch = options.micro_batch_of(layout),
          .micro_batches = static_cast<int>(options.micro_batches(layout)),
          .documents = options.order == "shuffled" ? static_cast<int>(sequence / usual_document) + 2 : 1,
          .router_aux_loss = options.router_aux_loss,
          .check_replicas = options.check_replicas};
}

}  // namespace

std::string tokenizer_of(const TrainOptions& options) {
  return options.tokenizer.empty() ? options.model : options.tokenizer;
}

TrainSetup setup_of(const TrainOptions& options, int ranks, bool weights) {
  if (fs::is_regular_file(options.model))
    throw UsageError("--model {}: is a file; training goes on from a Hugging Face folder", options.model);
  make_gemm(options.gemm);
  TrainSetup setup;
  setup.layout = options.layout(ranks);
  const fs::path model = options.model.empty() ? options.config : options.model;
  setup.files = weights && !options.model.empty() ? open_model(model) : read_spec(model);
  setup.model_config = model_config_of(model);
  if (const std::string tokenizer = tokenizer_of(options); !tokenizer.empty())
    setup.tokenizer = text::load_tokenizer(tokenizer);
  const int positions = setup.files.spec.max_positions;
  setup.sequence = options.sequence > 0 ? options.sequence : std::min(positions, 1024);
  if (setup.sequence > positions)
    throw UsageError("--sequence {} is more than the model's {} positions", setup.sequence, positions);
  setup.trainer = trainer_options(options, setup.layout, setup.sequence);
  return setup;
}

train::TrainerMemory memory_of(const TrainOptions& options, const TrainSetup& setup, int rank) {
  const auto& [layout, files, config, tokenizer, sequence, trainer] = setup;
  return trainer_memory(files.spec, files.names, layout, rank / layout.tp % layout.pp, rank % layout.tp, trainer,
                        !options.checkpoint.empty() || !options.save_hf.empty());
}

}  // namespace grist::cli
