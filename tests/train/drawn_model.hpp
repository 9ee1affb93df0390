// Random small models of every mechanism, for the fuzzers. GRIST_DRAWS says how many are drawn, GRIST_SEED which is the
// first.
#pragma once

#include <grist/core/errors.hpp>
#include <grist/model/family.hpp>
#include <grist/train/stage.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>

namespace grist::test {

/// Each tensor has a name of its own.
inline TensorNames drawn_names() {
  TensorNames names;
  names.positions = "positions";
  names.embedding_norm = "embedding_norm";
  names.mlp_norm = "mlp_norm";
  return names;
}

class Draw {
public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}

  int between(int least, int most) {
    return least + static_cast<int>(random_() % static_cast<unsigned>(most - least + 1));
  }
  bool chance(double p) { return static_cast<double>(random_() >> 11) * 0x1p-53 < p; }

  /// Of so many layers or up to two more.
  ModelSpec spec(int least_layers = 1) {
    ModelSpec spec{.vocab_size = between(11, 90), .hidden_size = between(5, 40), .max_positions = 64};
    const int position = between(0, 3), head_dim = between(2, 12);
    for (int i = between(1, 2); i > 0 && position == 0; --i) {
      RopeTable rope;
      for (int pair = between(1, head_dim / 2); pair > 0; --pair)
        rope.inverse_frequencies.push_back(1.0F / static_cast<float>(between(1, 30)));
      spec.ropes.push_back(rope);
    }
    if (position == 1) spec.learned_positions = 64;
    LayerSpec layer;
    layer.norm = norm();
    spec.final_norm = norm();
    layer.attention = {.kv_heads = between(1, 4),
                       .head_dim = head_dim,
                       .scale = 1 / std::sqrt(static_cast<float>(head_dim)),
                       .softcap = chance(0.3) ? static_cast<float>(between(2, 20)) : 0,
                       .position = position == 0   ? Position::rope
                                   : position == 2 ? Position::alibi
                                                   : Position::none,
                       .q_bias = chance(0.4),
                       .k_bias = chance(0.4),
                       .v_bias = chance(0.4),
                       .o_bias = chance(0.4)};
    layer.attention.heads = layer.attention.kv_heads * between(1, 4);
    layer.attention.qk_norm = chance(0.3) ? QkNorm::head : chance(0.3) ? QkNorm::all : QkNorm::none;
    switch (between(0, 4)) {
      case 0:
        layer.post_norm = true;
        break;
      case 1:
        layer.post_norm = true, layer.pre_norm = false;
        break;
      case 2:
        layer.parallel = layer.shared_norm = true;
        break;
      case 3:
        layer.parallel = true;
        break;
      default:
        break;
    }
    for (int i = between(least_layers, least_layers + 2); i > 0; --i) {
      if (position == 0) layer.attention.rope = between(0, static_cast<int>(spec.ropes.size()) - 1);
      layer.attention.window = chance(0.4) ? between(1, 9) : 0;
      layer.mlp = mlp();
      spec.layers.push_back(layer);
    }
    if (chance(0.3)) spec.embedding_scale = 1.5F;
    if (chance(0.3)) spec.logit_scale = 0.7F;
    if (chance(0.3)) spec.logit_softcap = 4;
    spec.embedding_norm = chance(0.3);
    spec.tied_embeddings = chance(0.5);
    spec.head_bias = chance(0.3);
    return spec;
  }

  train::MicroBatch batch(Index vocab_size, int sequences) {
    train::MicroBatch batch;
    for (int s = 0; s < sequences; ++s) {
      batch.begins.push_back(static_cast<int>(batch.ids.size()));
      for (int length = between(1, 23); length > 0; --length) {
        batch.ids.push_back(between(0, static_cast<int>(vocab_size) - 1));
        batch.targets.push_back(chance(0.3) ? -1 : between(0, static_cast<int>(vocab_size) - 1));
      }
    }
    return batch;
  }

private:
  NormSpec norm() {
    NormSpec norm{.kind = chance(0.5) ? NormSpec::Kind::rms : NormSpec::Kind::layer};
    norm.bias = norm.kind == NormSpec::Kind::layer && chance(0.7);
    return norm;
  }
  MlpSpec mlp() {
    MlpSpec mlp{
        .intermediate_size = between(4, 70), .activation = layers::Activation{between(0, 4)}, .gated = chance(0.6)};
    if (chance(0.35)) {
      mlp.experts = between(2, 6);
      mlp.experts_per_token = between(1, std::min(3, mlp.experts));
      mlp.renormalize = mlp.experts_per_token > 1 && chance(0.5);  // of one expert the weight would always be 1
      if (chance(0.5)) mlp.shared_intermediate = between(4, 40), mlp.shared_gate = chance(0.5);
    } else {
      mlp.up_bias = chance(0.4);
      mlp.down_bias = chance(0.4);
    }
    return mlp;
  }

  std::mt19937_64 random_;
};

/// Whether they may have a common loss.
inline bool has_equal_routers(const ModelSpec& spec) {
  try {
    return train::routers_of(spec).experts > 0;
  } catch (const UsageError&) {
    return false;
  }
}

inline std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

/// compare(seed) of each draw, up to the first that fails.
template <class F>
void for_each_draw(std::uint64_t otherwise, F&& compare) {
  const auto first = number_from("GRIST_SEED", 0), draws = number_from("GRIST_DRAWS", otherwise);
  for (std::uint64_t seed = first; seed < first + draws; ++seed) {
    SCOPED_TRACE("GRIST_DRAWS=1 GRIST_SEED=" + std::to_string(seed));
    ASSERT_NO_THROW(compare(seed)) << "GRIST_SEED=" << seed;
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace grist::test
