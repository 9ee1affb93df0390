// The end of a model in training: final norm, logits and their cross-entropy, and all of it backward. Logits are made
// some rows at a time and over a part of the vocabulary on each rank of tp: nobody ever holds all of a micro-batch.
#pragma once

#include <grist/backends/products.hpp>
#include <grist/comm/communicator.hpp>
#include <grist/core/workspace.hpp>
#include <grist/model/decoder_block.hpp>
#include <grist/model/spec.hpp>
#include <grist/model/tensors.hpp>

namespace grist::train {

struct HeadContext {
  const Exec& exec;
  const Communicator& tp;
  Products& products;
  Workspace& scratch;
  const ModelSpec& spec;
  const ModelTensors<Weight>& weights;
  Range vocabulary;    // of this rank
  TokenShares shares;  // of the residual stream
  Index logit_rows;    // at a time
};

/// The sum of the tokens' losses, in nats. x [tokens of the stream, hidden]; targets [tokens], -1: takes no part. With
/// `gradients` those of the head and the final norm are added into, and dx [as x] becomes the gradient of x. Collective
/// over tp.
template <class X>
double head(const HeadContext& context, View2<const float> x, View1<const int> targets,
            const ModelTensors<View3<float>>* gradients, View2<float> dx);

/// Bytes of scratch that it takes with at most so many columns of logits on a rank.
template <class X>
std::size_t head_bytes(const Exec& exec, const PassSizes& sizes, Index columns, Index logit_rows);

}  // namespace grist::train
