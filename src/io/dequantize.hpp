// GGUF's number formats, as ggml defines them: rows of blocks, each a few numbers that share a scale.
#pragma once

#include <grist/io/weights.hpp>

#include <cstddef>

namespace grist::io {

struct BlockFormat {
  Index elements;  // numbers in a block
  Index bytes;     // of a block
};
BlockFormat format_of(FileType type);

/// Decodes whole blocks: count x format_of(type).elements floats.
void dequantize(FileType type, const std::byte* blocks, Index count, float* out);

}  // namespace grist::io
