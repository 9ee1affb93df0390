#include <grist/train/trainer_memory.hpp>

#include <grist/backends/gemm.hpp>
#include <grist/core/staging.hpp>
#include <grist/model/model_parts.hpp>
#include <grist/model/tensor_blocks.hpp>
#include <grist/train/checkpoint_piece.hpp>
#include <grist/train/gradient_sums.hpp>
#include <grist/train/trainer_plan.hpp>

#include <algorithm>

namespace grist::train {
namespace {

using Bytes = std::uint64_t;

Bytes floats(Index elements) { return sizeof(float) * static_cast<Bytes>(elements); }

/// What stages keep, and the host's copies of the micro-batches of a step.
Bytes activation_bytes(const ModelSpec& spec, const std::vector<Shard>& shards, const std::vector<Range>& ranges,
                       const std::vector<Action>& actions, int tp_rank, const TrainerOptions& options) {
  Bytes bytes = 0;
  for (std::size_t c = 0; c < ranges.size(); ++c)
    bytes += stage_bytes(spec, shards, ranges[c], tp_rank,
                         stage_options(spec, options, slots_of(actions, static_cast<int>(c))));
  return bytes + sizeof(int) * 3 * static_cast<Bytes>(options.sequence * options.micro_batch * options.micro_batches);
}

/// What a sum over ranks takes while it is made: in the order of more than two ranks, from copies of all parts; of two
/// MPI holds half of the other's.
Bytes sum_bytes(int ranks, Index elements) {
  return ranks == 1 ? 0 : ranks == 2 ? floats(elements / 2) : floats(2 * elements);
}

Bytes communication_bytes(const ModelSpec& spec, const Layout& layout, const TrainerOptions& options) {
  const Index stream = options.sequence * options.micro_batch * spec.hidden_size;
  const Bytes shared = floats(stream);  // with sequence parallelism the parts of a share, of all ranks
  const Bytes sums = sum_bytes(layout.tp, stream);
  return (options.sequence_parallel ? std::max(shared, sums) : sums) + GradientSums::bytes_for(layout.dp, options.zero);
}

/// Whether a checkpoint has some elements in another order than memory, so that they are packed for it.
bool reorders(const TensorTable& table) {
  bool found = false;
  every_row(table, [&](const TensorRow& row) {
    for (const TensorPart& part : row.parts) {
      if (part.sources.empty()) continue;
      const Source& source = part.sources.front();  // a checkpoint has its names
      found = found || source.transposed || source.pair_dim > 0 || (source.group > 0 && source.stride != source.group);
    }
  });
  return found;
}

/// The tensors of a stage are cut over tp about evenly. What lies between that of others in the file, MPI-IO exchanges
/// between ranks from a copy.
Bytes checkpoint_bytes(const TensorTable& table, const std::vector<Range>& ranges, const std::vector<Shard>& shards,
                       int tp_rank, int groups, Index held) {
  Index all = 0;
  for (const Shard& shard : shards) all += block_elements(table, ranges, shard);
  const Index mine = block_elements(table, ranges, shards[static_cast<std::size_t>(tp_rank)]);
  const auto queued = static_cast<double>(queued_elements(file_tensors(table), groups));
  const auto packed = static_cast<Index>(queued * static_cast<double>(mine) / static_cast<double>(all)) + 1;
  return floats(std::min(held, packed)) * ((reorders(table) ? 1 : 0) + (shards.size() > 1 ? 1 : 0));
}

/// Code, tables and scratch of oneDNN, MPI and HDF5 that come with the first step and the first save: 21 and 6 MiB were
/// measured, without oneDNN less than 5, and up to 15 more where several ranks save together; of a device those of the
/// memory plan.
Bytes library_bytes(bool saves, Index ranks) {
  constexpr Bytes mib = Bytes{1} << 20;
  if (!host_reaches_memory) return 512 * mib;
  const int first_step = gemm_providers().front() == "onednn" ? 28 : 12;
  return (first_step + (saves ? 8 : 0) + (ranks > 1 ? 8 : 0) + (saves && ranks > 1 ? 8 : 0)) * mib;
}

}  // namespace

TrainerMemory trainer_memory(const ModelSpec& spec, const TensorNames& names, const Layout& layout, int pp_rank,
                             int tp_rank, const TrainerOptions& options, bool saves) {
  const int chunks = chunks_of(options, layout);
  const auto shards = shards_of(spec, layout.tp, RowParallel::reduce);
  const auto ranges = ranges_of(spec, layout, pp_rank, chunks);
  const auto table = tensor_table(spec, names);
  const Index size = block_elements(table, ranges, shards[static_cast<std::size_t>(tp_rank)], layout.dp);
  const Index share = options.zero ? size / layout.dp : size;
  const int moments = options.optimizer == Optimizer::sgd ? 1 : 2;
  TrainerMemory memory;
  memory.weights = floats(size) + (options.type == DType::bf16 ? floats(size) / 2 : 0);
  memory.gradients = floats(size);
  memory.moments = static_cast<Bytes>(moments) * floats(share);
  memory.activations = activation_bytes(spec, shards, ranges, actions_of(options, layout, pp_rank, chunks), tp_rank,
                                        options);
  memory.communication = communication_bytes(spec, layout, options);
  if (saves) memory.checkpoint = checkpoint_bytes(table, ranges, shards, tp_rank, 1 + moments, share);
  memory.libraries = memory.total() / 100 + library_bytes(saves, layout.ranks());  // and what allocators round up
  return memory;
}

}  // namespace grist::train
