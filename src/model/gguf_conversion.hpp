// Models as GGUF files with quantized weights that llama.cpp loads, piece by piece: never a whole model in memory.
//
// What is quantized follows llama-quantize (llama-quant.cpp of llama.cpp): matrices named *.weight; norms, biases,
// routers of experts and learned positions stay as they are. The logits' matrix (the embedding where it is tied) is
// q6_k, or q8_0 where all are; keys and values of models with 8 experts are q8_0. Where rows are not whole blocks of
// 256, q4_k becomes q5_0 and q6_k becomes q8_0; where not of 32, f16. Unlike llama-quantize's mixtures q4_k is the same
// in all layers.
#pragma once

#include <grist/io/gguf_writer.hpp>
#include <grist/model/family.hpp>
#include <grist/model/limits.hpp>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace grist {

/// What a user should know about the written file, a line each: tensors that became another type than the one asked
/// for, and such as were quantized before.
using ConversionNotes = std::vector<std::string>;

/// Writes a GGUF file anew with weights of `type` (q8_0, q4_0, q4_k or q6_k); metadata and tokenizer go through
/// unchanged, the parts of a split model become one file. A tensor that has its type keeps its bytes. Throws UsageError
/// where `to` is there already or `type` is another, InputError for an architecture that grist does not know and for
/// weights that are not finite or beyond f16.
ConversionNotes quantize_gguf(const std::filesystem::path& from, Format type, const std::filesystem::path& to,
                              const Progress& progress);

/// Writes a Hugging Face folder as such a file. Families: LLaMA, Mistral, Qwen2, Qwen3, Gemma 3; InputError for others,
/// and for what llama.cpp's architecture cannot say (a window of Mistral), which is seen by reading the file again.
/// `add_tokenizer` sets the tokenizer's keys. Throws as quantize_gguf.
ConversionNotes quantize_folder(const std::filesystem::path& from, Format type, const std::filesystem::path& to,
                                const std::function<void(io::GgufWriter&, const ModelFiles&)>& add_tokenizer,
                                const Progress& progress);

}  // namespace grist
