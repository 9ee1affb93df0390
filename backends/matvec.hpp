// The product of few tokens, bound by the bandwidth of the weights: each weight byte is read once and its block is
// decoded in registers. Where processors multiply bytes, that of many tokens with blocks too.
#pragma once

#include <grist/core/staging.hpp>
#include <grist/core/weight.hpp>

namespace grist {

/// Whether products of activations of type x read rows of a format faster interleaved (core/interleaved_rows.hpp).
/// Others know no such rows.
bool reads_interleaved(DType x, Format format);

/// Whether matvec rounds tokens of type x to 8 bits for panels of this weight in blocks, each 32 of their numbers by a
/// scale of their own: where x is bf16 and the processor multiplies bytes (docs/decisions/2026-11-27-int8.md).
bool rounds_tokens(DType x, const Weight& w);

/// Whether many tokens go faster through matvec than through a provider.
bool serves_many_tokens(DType x, const Weight& w);

/// Bytes of scratch that matvec takes for x [tokens, w.columns].
Index matvec_scratch(Index tokens, DType x, const Weight& w);

/// y [tokens, rows] = x [tokens, columns] w^T, float accumulation. Takes matvec_scratch bytes of `scratch`. The order
/// of each sum depends on the columns and the panel's format alone: a token's bits are the same alone and among others,
/// of a weight and of a slice of its rows. (X, Y) = (float, float), (bf16, bf16), (bf16, float). Where X is bf16,
/// numbers of blocks may be rounded to bf16 once, as they are for products of many tokens, or tokens to 8 bits
/// (rounds_tokens).
///
/// With offsets [experts + 1] in device memory: rows offsets(e) ... offsets(e + 1) of x by expert e. Without (an empty
/// View) all rows by the only expert.
template <class X, class Y>
void matvec(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y,
            Reserve<Memory>& scratch);

/// The same by teams and vector lanes: what devices run, and every build has.
template <class X, class Y>
void matvec_teams(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y);

}  // namespace grist
