// What a model is built for: sizes, and how its numbers are kept.
#pragma once

#include <grist/core/dtype.hpp>
#include <grist/core/kv_type.hpp>
#include <grist/core/view.hpp>

#include <cstdint>
#include <functional>

namespace grist {

/// Sizes that a model is built for.
struct ModelLimits {
  Index batch_tokens = 512;  // of one forward pass
  int batch_sequences = 1;
  Index logit_rows = 1;  // of one forward pass
  Index context = 2048;  // of the longest sequence
  Index kv_tokens = 0;   // keys that the sequences of a pass have together; 0: no cache
  int caches = 1;        // of so many tokens, one for each scheduler on the model
};

/// How matrices lie in memory: as in the files, or converted while they are loaded. Norms and biases are always float.
/// Of q8_0 and q4_0: a matrix whose rows are no whole blocks of 32 is bf16, and so are routers of experts, which are
/// small and decide; embeddings, positions and the logits' matrix are q8_0 in both.
enum class WeightStorage { stored, bf16, f32, q8_0, q4_0 };

/// How numbers are kept and computed with.
struct ModelNumbers {
  DType type = DType::f32;                         // of activations: f32 or bf16
  KvType kv_type = KvType::f32;                    // of cached keys and values
  WeightStorage weights = WeightStorage::stored;
};

/// Bytes loaded so far and in all, for a progress bar.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

}  // namespace grist
