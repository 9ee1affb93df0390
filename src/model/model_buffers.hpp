// The buffers of a forward pass outside of its blocks, named once: over a workspace that counts they are the memory
// plan.
#pragma once

#include <grist/core/workspace.hpp>
#include <grist/model/sharding.hpp>

#include <vector>

namespace grist {

struct PassBuffers {
  View2<float> x;                    // [rows of the stream, hidden]: the residual stream
  View2<float> positions;            // the same: learned ones, where the model has them
  std::vector<View2<float>> cos_sin;  // of each rope table, [tokens, rotary_dim]
  std::size_t bytes = 0;

  PassBuffers() = default;
  PassBuffers(const Exec& exec, Workspace& workspace, const ModelSpec& spec, Index tokens)
      : PassBuffers(exec, workspace, spec, tokens, tokens) {}
  /// Of the tokens this rank has `stream` in the residual stream (TokenShares).
  PassBuffers(const Exec& exec, Workspace& workspace, const ModelSpec& spec, Index tokens, Index stream)
      : x(workspace.take<float>(exec, "x", stream, spec.hidden_size)) {
    if (spec.learned_positions > 0)
      positions = workspace.take<float>(exec, "learned positions", stream, spec.hidden_size);
    for (const auto& rope : spec.ropes)
      cos_sin.push_back(workspace.take<float>(exec, "cos and sin", tokens, rope.rotary_dim()));
    bytes = workspace.used();
  }
};

template <class X>
struct LogitBuffers {
  View2<float> logits;  // [rows, this rank's columns of the vocabulary]
  View2<float> picked;  // [rows, hidden]
  View2<X> normed;      // [rows, hidden]
  View1<float> highest, target_logits;  // of the loss
  View1<double> sums;

  LogitBuffers(const Exec& exec, Workspace& workspace, const ModelSpec& spec, const Shard& shard, Index rows)
      : logits(workspace.take<float>(exec, "logits", rows, shard.vocabulary.size())),
        picked(workspace.take<float>(exec, "picked rows", rows, spec.hidden_size)),
        normed(workspace.take<X>(exec, "normed rows", rows, spec.hidden_size)),
        highest(workspace.take<float>(exec, "highest logits", rows)),
        target_logits(workspace.take<float>(exec, "logits of targets", rows)),
        sums(workspace.take<double>(exec, "sums", rows)) {}
};

}  // namespace grist
