// Gradients of what several ranks of tp hold, where each of them has a part: norms of q and k, of which every rank sees
// its own heads, KV heads that ranks share, each with other queries, and where ranks share the tokens of the residual
// stream its norms and the biases of what is added to it. All other replicated gradients are whole.
#pragma once

#include <grist/comm/communicator.hpp>
#include <grist/model/tensor_table.hpp>

#include <vector>

namespace grist::train {

class SharedGradients {
public:
  /// Stands for the tensors that are of no layer.
  static constexpr Index outside = -1;

  /// For `layers`, of those that this rank has gradients of; their memory must outlive this. What is of no layer goes
  /// with the first or the last one. Collective over tp.
  SharedGradients(const Communicator& tp, const std::vector<Shard>& shards, const TensorTable& table, Range layers,
                  const ModelTensors<View3<float>>& gradients, bool sequence_parallel = false);

  /// Once after the layer's last micro-batch of a step: each of its gradients becomes the sum of its parts, of equal
  /// bits on the ranks that hold it. Collective over tp.
  void sum(const Exec& exec, Index layer) const;

private:
  struct Piece {
    Index layer;
    std::size_t holders;  // of groups_
    View1<float> values;
  };
  std::vector<Communicator> groups_;  // the ranks of a piece
  std::vector<Piece> pieces_;
};

}  // namespace grist::train
