// One decoder block: norm, attention, residual, norm, MLP, residual, and their variants (LayerSpec); forward, and
// backward from what a forward pass kept.
#pragma once

#include <grist/backends/products.hpp>
#include <grist/core/workspace.hpp>
#include <grist/model/batch.hpp>
#include <grist/model/paged_kv.hpp>
#include <grist/model/tensor_parallel.hpp>
#include <grist/model/tensors.hpp>

#include <optional>
#include <span>

namespace grist {

/// What this rank has of one layer.
struct Block {
  int number = 0;  // in the whole model
  int pool = 0;    // of the cache's pages (kv_pool_windows)
  LayerSpec spec;
  LayerShard shard;
  AttentionConfig attention;  // with this rank's heads
  std::vector<Range> heads, kv_heads;  // of each rank of tp
  RowParallelPlan o, down, shared_down;
  LayerTensors<Weight> weights;
};

/// What sizes the buffers of a pass.
struct PassSizes {
  Index hidden = 0;
  Index tokens = 0;
  TokenShares shares = {};  // of the residual stream
  int tp_rank = 0;
  int sequences = 1;
  bool selective = false;  // BlockContext::selective
  bool balanced = false;   // BlockContext::balance is not empty

  [[nodiscard]] Index stream() const { return shares.split() ? shares.of(tp_rank).size() : tokens; }
};

/// Whether a pass keeps what the MLP reads: not where it starts from the block's input, nor where it is computed again
/// from this and attention's output, which is kept for the norm behind it.
inline bool keeps_mlp_input(const LayerSpec& spec, bool selective) {
  return !spec.parallel && !(selective && spec.post_norm);
}

/// Where the buffers of a block lie.
struct BufferSpace {
  Workspace& kept;   // what a backward pass reads
  Workspace& again;  // what it may compute again; the same, where it does not
};

/// The buffers of a block, named once: over a workspace that counts they are the memory plan. [tokens, ...] each, of
/// the stream's tokens on this rank where it says so.
template <class X>
struct AttentionBuffers {
  View2<X> normed;    // [hidden] of the stream
  View2<X> qkv;       // [(heads + 2 kv_heads) head_dim]
  View2<X> attended;  // [heads head_dim]
  HeadSums q_squares, k_squares;  // where q and k are normed over all heads
  RowParallelBuffers<X> o;

  AttentionBuffers(const Exec& exec, const BufferSpace& space, const Block& block, const PassSizes& sizes);
};

template <class X>
struct MlpBuffers {
  View2<X> normed;     // [hidden] of the stream; of experts: each row's token
  View2<X> gate_up;    // [2 intermediate], or [intermediate] without a gate
  View2<X> activated;  // [intermediate]
  RowParallelBuffers<X> down;

  /// Of tokens times experts_per_token rows, where there are experts.
  MlpBuffers(const Exec& exec, const BufferSpace& space, const Block& block, const PassSizes& sizes);
};

struct ExpertBuffers {
  View2<float> logits;   // [experts]
  View2<int> choices;    // [experts_per_token]
  View2<float> weights;  // [experts_per_token]
  View1<int> offsets;    // [experts + 1]
  View1<int> token_of;   // [tokens experts_per_token]
  View2<int> row_of;     // [experts_per_token]
  View2<float> rows;     // [tokens experts_per_token, hidden]: outputs

  ExpertBuffers(const Exec& exec, Workspace& workspace, const MlpSpec& mlp, Index hidden, Index tokens);
};

template <class X>
struct SharedExpertBuffers {
  View2<float> gate;   // [1]
  View2<X> gate_up;    // [2 shared_intermediate]
  View2<X> activated;  // [shared_intermediate]
  RowParallelBuffers<X> down;
  View2<float> output;  // [hidden] of the stream

  SharedExpertBuffers(const Exec& exec, const BufferSpace& space, const Block& block, const PassSizes& sizes);
};

/// What a backward pass reads of a forward one: its buffers, kept unless BlockContext::selective says that they are
/// computed again, and what it would have written over.
template <class X>
struct SavedBlock {
  View2<float> x;  // the block's input [tokens of the stream, hidden]
  std::optional<AttentionBuffers<X>> attention;
  View2<X> raw_qkv;               // before the norms of q and k; empty without them
  View2<float> lse;               // [heads, tokens]
  View2<float> attention_output;  // before its norm; empty without one
  View2<float> mlp_x;             // the MLP's input (keeps_mlp_input)
  View2<X> mlp_normed;            // of a layer of experts
  std::optional<MlpBuffers<X>> mlp;
  std::optional<ExpertBuffers> experts;
  std::optional<SharedExpertBuffers<X>> shared;
  View2<float> mlp_output;  // before its norm; empty without one
};

/// Bytes of scratch that a block takes which keeps nothing.
template <class X>
std::size_t block_bytes(const Exec& exec, const Block& block, const PassSizes& sizes, Index partials);

/// The routers' load-balancing loss (layers/experts.hpp) in a pass; what is empty is not done.
struct LoadBalance {
  View2<float> sums;       // [2, experts]: a forward pass adds those of its tokens
  View2<const float> all;  // [2, experts]: of all tokens, which a backward pass reads
  float factor = 0;        // of the loss whose gradient is taken
};

/// What all blocks of a forward pass share.
struct BlockContext {
  const Exec& exec;
  const Communicator& tp;
  Products& products;
  Workspace& workspace;  // of buffers, which stay where a backward pass will read them
  Workspace& scratch;    // of what is given back; may be the same
  const Batch& batch;
  const PagedKv* kv;                            // null: without a cache
  std::span<const View2<const float>> cos_sin;  // of each rope table, [tokens, rotary_dim]
  Index partials;                               // floats of scratch for attention
  // Norms' outputs, normed and turned queries and keys, and activations are not kept: the backward pass computes them
  // again from what products and attention gave (Korthikanti et al. 2022).
  bool selective = false;
  LoadBalance balance = {};
  // Where they are split, x and its gradient are this rank's share, as are norms; products and attention take all
  // tokens: gathered before column-parallel ones, summed and scattered behind row-parallel ones, and the reverse
  // backward.
  TokenShares shares = {};
};

/// Bytes that a forward pass with `saved` keeps, and that a backward pass takes of scratch.
template <class X>
std::size_t saved_bytes(const Exec& exec, const Block& block, const PassSizes& sizes);
template <class X>
std::size_t backward_bytes(const Exec& exec, const Block& block, const PassSizes& sizes);

/// x [tokens, hidden] += attention(norm(x)); x += mlp(norm(x)). Keys and values go to the block's layer of the cache.
/// With `saved` the buffers stay taken from the workspace, for the backward pass; there is no cache then.
template <class X>
void decoder_block(const BlockContext& context, const Block& block, View2<float> x, SavedBlock<X>* saved = nullptr);

/// dx [tokens, hidden], the gradient of the block's output, becomes that of its input; gradients of the weights are
/// added into. Weights are stored as X, those of a layer in one panel each; row-parallel products reduce. Gradients of
/// tensors that all ranks of tp hold are whole on each, but for norms of q and k and KV heads that ranks share, and
/// with a stream in shares norms and biases of row-parallel products: these are parts, to be summed over the ranks that
/// hold them (SharedGradients).
template <class X>
void decoder_block_backward(const BlockContext& context, const Block& block, const SavedBlock<X>& saved,
                            const LayerTensors<View3<float>>& gradients, View2<float> dx);

/// All tokens of what this rank has a share of, in scratch; the share itself where it is all.
template <class T>
View2<const T> gathered(const BlockContext& context, View2<const T> share);
/// This rank's share of what it has of all tokens.
template <class T>
View2<T> share_of(const BlockContext& c, View2<T> all) {
  return c.shares.split() ? rows_of(all, c.shares.of(c.tp.rank())) : all;
}

/// The layers of forward that backward computes again. What a half of the block reads: norm(x), or x where no norm
/// stands before it; qk_norm and rope of q and k in the buffers' qkv, in place; act(gate) up, or act(up).
template <class X>
void pre_norm(const Exec& exec, const LayerSpec& spec, View2<const float> x, const Weight& w, const Weight& b,
              View2<X> y);
template <class X>
void turn_heads(const BlockContext& context, const Block& block, const AttentionBuffers<X>& buffers);
template <class X>
void activate(const Exec& exec, const MlpSpec& mlp, View2<const X> gate_up, View2<X> activated);

/// y = norm(x), of the kind that the spec says. (X, Y) as in layers/norm.hpp.
template <class Y>
void norm(const Exec& exec, const NormSpec& spec, View2<const float> x, const Weight& w, const Weight& b, View2<Y> y);

/// dx += the gradient of norm(x); dw and db are added into. (x, dy) float.
void norm_backward(const Exec& exec, Workspace& workspace, const NormSpec& spec, View2<const float> x, const Weight& w,
                   View2<const float> dy, View2<float> dx, View3<float> dw, View3<float> db);

/// A gradient as a vector, and as the matrix [experts rows, columns] that products take.
View1<float> vector_of(View3<float> gradient);
View2<float> matrix_of(View3<float> gradient);

/// A norm's or a bias' elements; empty for one that a model lacks.
inline View1<const float> vector_of(const Weight& weight) {
  return weight.empty() ? View1<const float>()
                        : View1<const float>(static_cast<const float*>(weight.panel[0].data), weight.rows);
}

}  // namespace grist
