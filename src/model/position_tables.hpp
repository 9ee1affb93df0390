// What a model's positions need in device memory: frequencies of RoPE, slopes of ALiBi.
#pragma once

#include <grist/model/decoder_block.hpp>
#include <grist/model/model_buffers.hpp>

#include <vector>

namespace grist {

class PositionTables {
public:
  /// Gives the blocks of ALiBi their slopes.
  PositionTables(const ModelSpec& spec, std::vector<Block>& blocks);

  /// Bytes of device memory that it takes.
  static Index bytes(const ModelSpec& spec);

  /// Enqueues cosines and sines of each rope table for the batch's tokens into the pass' buffers.
  [[nodiscard]] std::vector<View2<const float>> cos_sin(const Exec& exec, const Batch& batch,
                                                        const PassBuffers& pass) const;

private:
  struct Rope {
    Buffer<float> frequencies, long_frequencies;
    RopeTable table;
  };
  std::vector<Rope> ropes_;
  Buffer<float> slopes_;
};

}  // namespace grist
