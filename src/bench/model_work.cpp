#include <grist/bench/model_work.hpp>

#include <grist/model/parameters.hpp>
#include <grist/model/sharding.hpp>
#include <grist/model/tensor_table.hpp>

#include <algorithm>
#include <cmath>

namespace grist::bench {

ModelWork::ModelWork(const ModelFiles& files, const ModelNumbers& numbers)
    : spec_(files.spec), kv_type_(numbers.kv_type) {
  const auto table = tensor_table(spec_, files.names);
  const Shard whole = shard_of(spec_, 1, 0);
  const io::Weights* const weights = files.weights.tensors().empty() ? nullptr : &files.weights;
  const auto weight_of = [&](const TensorRow& row, const LayerShard* layer) {
    return weight_without_data(weights, row, files.names.base, layer, whole, numbers.weights, files.stored);
  };
  const auto flops = [](const Weight& w) { return 2 * static_cast<double>(w.rows * w.columns); };
  bytes_ = parameter_bytes(weights, table, files.names.base, {0, spec_.layer_count()}, whole, numbers.weights,
                           files.stored);
  for (std::size_t i = 0; i < table.layers.size(); ++i) {
    const MlpSpec& mlp = spec_.layers[i].mlp;
    each_tensor([&](const TensorRow& row) {
      if (!row.present()) return;
      const Weight w = weight_of(row, &whole.layers[i]);
      const auto bytes = static_cast<double>(bytes_of(w));
      const bool expert = w.experts > 1;
      const double chosen = expert ? mlp.experts_per_token : 1;
      if (!row.vector) token_flops_ += chosen * flops(w);
      for (int p = 0; p < w.panels; ++p) in_blocks_ = in_blocks_ || block_of(w.panel[p].format).elements > 1;
      if (expert) experts_.push_back({bytes, static_cast<double>(w.experts), chosen});
      else dense_bytes_ += bytes;
    }, table.layers[i]);
  }
  each_last_tensor([&](const TensorRow& row) {
    if (row.present()) dense_bytes_ += static_cast<double>(bytes_of(weight_of(row, nullptr)));
  }, table);
  logit_flops_ = flops(weight_of(table.head, nullptr));
}

double ModelWork::weight_bytes(double tokens) const {
  double bytes = dense_bytes_;
  for (const auto& [all, count, chosen] : experts_) bytes += all * (1 - std::pow(1 - chosen / count, tokens));
  return bytes;
}

double ModelWork::attention_flops(Index first_keys, Index queries) const {
  double flops = 0;
  for (const LayerSpec& layer : spec_.layers) {
    const AttentionSpec& attention = layer.attention;
    const Index last_keys = first_keys + queries - 1, window = attention.window > 0 ? attention.window : last_keys;
    // first_keys, first_keys + 1, ..., window, window, ...
    const Index growing = std::clamp<Index>(window - first_keys + 1, 0, queries);
    const double keys = static_cast<double>(growing) * static_cast<double>(2 * first_keys + growing - 1) / 2 +
                        static_cast<double>(queries - growing) * static_cast<double>(window);
    flops += 4 * static_cast<double>(attention.q_width()) * keys;
  }
  return flops;
}

double ModelWork::cache_bytes(double keys) const {
  double bytes = 0;
  for (const LayerSpec& layer : spec_.layers) {
    const AttentionSpec& attention = layer.attention;
    const double seen = attention.window > 0 ? std::min<double>(attention.window, keys) : keys;
    bytes += 2 * static_cast<double>(attention.kv_heads * row_bytes(kv_type_, attention.head_dim)) * seen;
  }
  return bytes;
}

Work ModelWork::decode(Index batch, Index depth, Index tokens) const {
  const auto b = static_cast<double>(batch), n = static_cast<double>(tokens);
  double cache = 0;
  for (Index step = 1; step <= tokens; ++step) cache += cache_bytes(static_cast<double>(depth + step)) / n;
  return {b * (token_flops_ + logit_flops_ + attention_flops(depth + 1, tokens) / n), weight_bytes(b) + b * cache};
}

Work ModelWork::prefill(Index batch, Index depth, Index tokens) const {
  const auto b = static_cast<double>(batch), p = static_cast<double>(tokens);
  return {b * (p * token_flops_ + logit_flops_ + attention_flops(depth + 1, tokens)),
          weight_bytes(b * p) + b * cache_bytes(static_cast<double>(depth))};
}

}  // namespace grist::bench
