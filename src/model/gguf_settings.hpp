// The metadata that llama.cpp wants of an architecture, from what a Hugging Face folder says.
#pragma once

#include <grist/io/gguf_writer.hpp>
#include <grist/model/family.hpp>

#include <filesystem>
#include <string>
#include <vector>

namespace grist {

/// Sets general.* and the architecture's keys. Returns the divisors of RoPE's frequencies that belong into
/// rope_freqs.weight, empty where keys say it all. Throws InputError naming a family that is not known here.
std::vector<float> set_gguf_settings(io::GgufWriter& writer, const ModelFiles& files,
                                     const std::filesystem::path& config);

/// The first thing in which two models compute differently, with both values; empty where they do not. Numbers that
/// went through other roundings may differ by 1e-6 of themselves.
std::string difference_of(const ModelSpec& found, const ModelSpec& wanted);

}  // namespace grist
