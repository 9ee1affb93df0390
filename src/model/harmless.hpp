// What the files of a model may hold beside what its family reads, and what no family reads.
#pragma once

#include <grist/io/weights.hpp>
#include <grist/model/config_reader.hpp>

namespace grist {

/// Keys that change nothing that a model computes: notes of transformers and of trainers, training, generation.
void ignore_harmless(ConfigReader& config);

/// Throws InputError for keys of what no family here computes.
void refuse_unsupported(ConfigReader& config);

/// Tensors that files may hold and that are not weights of the decoder: what is made anew from the config, masks and
/// numbers of positions, heads that trainers put beside it or that guess further tokens, scales of a KV cache in fp8.
bool harmless(const io::TensorInfo& tensor);

}  // namespace grist
