// Each work item streams a few rows of every panel.
#include <grist/backends/matvec.hpp>

#include <grist/backends/cpu/int8_products.hpp>
#include <grist/backends/cpu/row_products.hpp>

#include <algorithm>

namespace grist {
namespace {

using cpu::Int8Run;

constexpr Index tokens_together = cpu::most_int8_tokens;

/// Calls f(panel, first row, rows, first column of y, first token, tokens) in parallel for all rows of all panels, a
/// multiple of `granule` of them at a time but at the end, and for all tokens, at most tokens_together at a time.
template <class F>
void for_pieces(const Exec& exec, const Weight& w, View1<const int> offsets, Index tokens, Index granule, const F& f) {
  const bool one = offsets.extent(0) == 0;
  const auto items_of = [=](Index rows) { return (rows + granule - 1) / granule; };
  // Item `slice` of `slices` takes its share of the rows of every panel, so that a thread reads of each panel the part
  // that it touched first where the panel was filled by all threads (docs/decisions/2026-11-25-first-touch.md).
  Index slices = 0;
  for (int p = 0; p < w.panels; ++p) slices = std::max(slices, items_of(w.panel[p].rows));
  slices = std::min<Index>(slices, 8 * exec.concurrency());  // long runs of rows: what is read in order is read ahead
  const Index passes = (tokens + tokens_together - 1) / tokens_together;
  Kokkos::parallel_for(
      "grist::matvec", Indices<Exec>(exec, 0, slices * passes * w.experts), KOKKOS_LAMBDA(Index item) {
        const Index expert = item % w.experts, pass = item / w.experts % passes, slice = item / w.experts / passes;
        const Index first = (one ? 0 : offsets(expert)) + pass * tokens_together;
        const Index end = std::min(one ? tokens : offsets(expert + 1), first + tokens_together);
        if (first >= end) return;
        Index column = 0;
        for (int p = 0; p < w.panels; ++p) {
          const Panel& panel = w.panel[p];
          const Index items = items_of(panel.rows);
          const Index begin = slice * items / slices * granule;
          const Index stop = std::min((slice + 1) * items / slices * granule, panel.rows);
          if (begin < stop) f(panel, expert * panel.rows + begin, stop - begin, column + begin, first, end - first);
          column += panel.rows;
        }
      });
}

bool in_blocks(const Panel& panel) { return block_of(panel.format).elements > 1; }

/// x [tokens, columns] in 8 bits.
void round_tokens(const Exec& exec, View2<const bf16> x, Int8Run* rounded) {
  const Index columns = x.extent(1), tokens = x.extent(0), token_runs = columns / Int8Run::elements;
  constexpr Index few_runs = 512;  // that one thread rounds before all threads have begun
  if (tokens * token_runs <= few_runs)
    cpu::round_to_int8(x.data(), tokens * token_runs, rounded);
  else
    Kokkos::parallel_for(
        "grist::matvec::round_tokens", Indices<Exec>(exec, 0, tokens), KOKKOS_LAMBDA(Index t) {
          cpu::round_to_int8(x.data() + t * columns, token_runs, rounded + t * token_runs);
        });
}

/// Whether x is packed for panels in bf16.
bool packs_tokens(Index tokens, const Weight& w) {
  return cpu::packs_tokens(tokens, w.columns) &&
         std::any_of(w.panel, w.panel + w.panels, [](const Panel& p) { return p.format == Format::bf16; });
}

/// Bytes of tokens in 8 bits, on lines of the cache.
Index rounded_bytes(Index tokens, Index columns) {
  return tokens * (columns / Int8Run::elements) * Index{sizeof(Int8Run)};
}
Index packed_elements(Index tokens, Index columns) { return tokens * cpu::packed_columns(columns); }

/// packed = x [tokens, columns], those of each expert's passes together.
void pack_tokens(const Exec& exec, View2<const bf16> x, View1<const int> offsets, bf16* packed) {
  const Index columns = x.extent(1), tokens = x.extent(0);
  const auto pack = [=](Index first, Index t, Index end) {  // the tile that begins with t, of tokens [first, end)
    const Index pass = first + (t - first) / tokens_together * tokens_together;
    const Index together = std::min(tokens_together, end - pass), tile = cpu::tokens_in_tile(together);
    if (!cpu::packs_tokens(together, columns) || (t - pass) % tile != 0) return;
    cpu::pack_tile(x.data() + t * columns, columns, std::min(pass + together - t, tile),
                   packed + packed_elements(t, columns));
  };
  const bool one = offsets.extent(0) == 0;
  if (one && tokens <= cpu::most_in_one_tile) return pack(0, 0, tokens);  // before all threads have begun
  Kokkos::parallel_for(
      "grist::matvec::pack_tokens", Indices<Exec>(exec, 0, tokens), KOKKOS_LAMBDA(Index t) {
        if (one) return pack(0, t, tokens);
        const int* const last = offsets.data() + offsets.size();
        const int* const next = std::upper_bound(offsets.data(), last, t);
        if (next != last) pack(next[-1], t, *next);
      });
}

}  // namespace

bool reads_interleaved(DType x, Format format) {
  return x == DType::bf16 && cpu::has_int8_products() && block_of(format).elements > 1;
}

bool rounds_tokens(DType x, const Weight& w) {
  return std::any_of(w.panel, w.panel + w.panels, [&](const Panel& p) { return reads_interleaved(x, p.format); });
}

bool serves_many_tokens(DType x, const Weight& w) {
  return rounds_tokens(x, w) && !cpu::has_bf16_tiles() &&
         std::all_of(w.panel, w.panel + w.panels, in_blocks);
}

Index matvec_scratch(Index tokens, DType x, const Weight& w) {
  if (x != DType::bf16) return 0;
  return (rounds_tokens(x, w) ? rounded_bytes(tokens, w.columns) : 0) +
         (packs_tokens(tokens, w) ? packed_elements(tokens, w.columns) * Index{sizeof(bf16)} : 0);
}

template <class X, class Y>
void matvec(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y,
            Reserve<Memory>& scratch) {
  const auto all = static_cast<Index>(x.extent(0));
  Int8Run* rounded = nullptr;
  bf16* packed = nullptr;
  if constexpr (std::is_same_v<X, bf16>) {
    const Index bytes = matvec_scratch(all, DType::bf16, w);
    auto* memory = scratch.room<std::byte>(bytes, bytes);
    if (rounds_tokens(DType::bf16, w)) {
      rounded = reinterpret_cast<Int8Run*>(memory);
      memory += rounded_bytes(all, w.columns);
      round_tokens(exec, x, rounded);
    }
    if (packs_tokens(all, w)) {
      packed = reinterpret_cast<bf16*>(memory);
      pack_tokens(exec, x, offsets, packed);
    }
  }
  if (rounded == nullptr && std::any_of(w.panel, w.panel + w.panels, [](const Panel& p) { return p.interleaved; }))
    throw InternalError("interleaved rows are multiplied by bytes alone");
  // Interleaved rows are taken by sixteen; twice as many are faster where there is enough of them for all threads.
  const bool wide = all > 8 && w.rows / 32 >= 4 * exec.concurrency();
  const Index tile_rows = std::is_same_v<X, bf16> && all > 2 ? cpu::bf16_tile_rows : 4;
  const Index rows_together = rounded == nullptr ? tile_rows : wide ? 32 : 16;
  for_pieces(exec, w, offsets, all, rows_together,
             [=, in = w.columns, out = w.rows](const Panel& panel, Index begin, Index rows, Index column, Index first,
                                               Index tokens) {
               Y* const to = y.data() + first * out + column;
               if constexpr (std::is_same_v<X, bf16>) {
                 const Index runs = in / Int8Run::elements;
                 if (rounded != nullptr && in_blocks(panel))
                   return cpu::multiply_rows_in_int8<Y>(panel, begin, rows,
                                                        {rounded + first * runs, to, tokens, runs, out});
                 if (panel.format == Format::bf16) {
                   const bool in_tiles = cpu::packs_tokens(tokens, in);
                   const Index stride = in_tiles ? cpu::packed_columns(in) : in;
                   return cpu::multiply_bf16_rows<Y>(
                       static_cast<const bf16*>(panel.data) + begin * in, in, rows,
                       {(in_tiles ? packed : x.data()) + first * stride, to, tokens, stride, out});
                 }
                 if (in_blocks(panel) && cpu::has_block_row_products())
                   return cpu::multiply_block_rows<Y>(panel.format, panel.data, in, begin, rows,
                                                      {x.data() + first * in, to, tokens, in, out});
               }
               cpu::multiply_rows_in_float<X, Y>(panel.format, panel.data, in, begin, rows,
                                                 {x.data() + first * in, to, tokens, in, out});
             });
}

template void matvec(const Exec&, View2<const float>, View1<const int>, const Weight&, View2<float>, Reserve<Memory>&);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<bf16>, Reserve<Memory>&);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<float>, Reserve<Memory>&);

}  // namespace grist
