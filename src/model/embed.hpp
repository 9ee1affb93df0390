// What comes before the first block: embedding, scale, learned positions, norm; forward and backward.
#pragma once

#include <grist/model/decoder_block.hpp>
#include <grist/model/model_buffers.hpp>

namespace grist {

struct EmbedContext {
  const Exec& exec;
  const Communicator& tp;
  const ModelSpec& spec;
  Range vocabulary;  // rows of the embedding that this rank holds
  const Batch& batch;
  TokenShares shares = {};       // of the residual stream
  Workspace* scratch = nullptr;  // where they are split
};

/// pass.x [tokens of the stream, hidden] = the tokens' embeddings. With `raw` what comes before the norm
/// is kept there, for the backward pass.
template <class X>
void embed(const EmbedContext& context, const ModelTensors<Weight>& weights, const PassBuffers& pass,
           View2<float> raw = {});

/// Learned positions and norm alone, of embeddings that pass.x holds.
void finish_embedding(const EmbedContext& context, const ModelTensors<Weight>& weights, const PassBuffers& pass,
                      View2<float> raw = {});

/// The batch's tokens sorted by id and by position (layers/embedding.hpp).
struct TokenOrders {
  View1<const int> ids, positions;
};

/// Adds into the gradients of embedding, positions and norm, the last of which is of this rank's share of the stream;
/// dx [tokens of the stream, hidden] is used up. Takes of scratch what embed_backward_bytes says.
template <class X>
void embed_backward(const EmbedContext& context, const ModelTensors<Weight>& weights, const TokenOrders& orders,
                    View2<const float> raw, Workspace& scratch, const ModelTensors<View3<float>>& gradients,
                    View2<float> dx);
std::size_t embed_backward_bytes(const Exec& exec, const ModelSpec& spec, const PassSizes& sizes);

}  // namespace grist
