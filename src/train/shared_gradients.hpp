// Gradients of which the ranks of tp have parts, although they all hold the tensor.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/model/tensor_blocks.hpp>

#include <vector>

namespace grist::train {

/// Norms of q and k, which each rank applies to its own heads, are summed over tp; KV heads that several ranks share
/// are summed over these. Collective over tp.
void sum_shared_gradients(const Exec& exec, const Communicator& tp, const TensorTable& table,
                          const std::vector<Shard>& shards, Range layers, ModelTensors<View3<float>>& gradients);

}  // namespace grist::train
