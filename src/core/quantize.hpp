// From floats to numbers as they are stored: the way back of blocks.hpp. Blocks are those of llama.cpp's reference
// functions (quantize_row_*_ref in ggml-quants.c), bit for bit with those of its programs for x86-64, which round each
// product and each sum; so are ours on every host.
#pragma once

#include <grist/core/format.hpp>
#include <grist/core/view.hpp>

namespace grist {

/// Whether encode_row writes a format: f32, f16, bf16, q8_0, q4_0, q5_0, q4_k and q6_k.
bool can_encode(Format format);

/// Writes x [columns] as whole blocks, row_bytes(format, columns) of them. False where a number is not finite, or so
/// large that the format cannot hold it; its block then decodes to what is not finite either, or is a plain number as
/// f16 and bf16 round it. Throws InternalError where can_encode says no.
bool encode_row(Format format, const float* x, Index columns, std::byte* to);

/// The same of x [rows, columns], on all threads of the host; the same bytes whatever their number. False where one of
/// the rows is.
bool encode_rows(Format format, const float* x, Index rows, Index columns, std::byte* to);

}  // namespace grist
