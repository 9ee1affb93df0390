// Each work item streams a few rows of every panel.
#include <grist/backends/matvec.hpp>

#include <grist/backends/cpu/row_products.hpp>

#include <algorithm>

namespace grist {
namespace {

using cpu::TokenRows;

constexpr Index rows_per_item = 4;

Index items_of(Index rows) { return (rows + rows_per_item - 1) / rows_per_item; }

template <class X, class Y>
void multiply(Format format, const void* panel, Index columns, Index begin, Index rows, const TokenRows<X, Y>& to) {
  if constexpr (std::is_same_v<X, bf16>)
    if (cpu::has_row_products(format)) return cpu::multiply_rows(format, panel, columns, begin, rows, to);
  cpu::multiply_rows_in_float(format, panel, columns, begin, rows, to);
}

}  // namespace

template <class X, class Y>
void matvec(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y) {
  const Index in = w.columns, out = w.rows;
  const bool one = offsets.extent(0) == 0;
  // Item `slice` of `slices` takes its share of the rows of every panel, so that a thread reads of each panel the part
  // that it touched first where the panel was filled by all threads (docs/decisions/2026-11-25-first-touch.md).
  Index slices = 0;
  for (int p = 0; p < w.panels; ++p) slices = std::max(slices, items_of(w.panel[p].rows));
  slices = std::min<Index>(slices, 8 * exec.concurrency());  // long runs of rows: what is read in order is read ahead
  Kokkos::parallel_for(
      "grist::matvec", Indices<Exec>(exec, 0, slices * w.experts), KOKKOS_LAMBDA(Index item) {
        const Index expert = item % w.experts, slice = item / w.experts;
        const Index first = one ? 0 : offsets(expert),
                    end = one ? static_cast<Index>(x.extent(0)) : offsets(expert + 1);
        if (first == end) return;
        const TokenRows<X, Y> tokens{x.data() + first * in, y.data() + first * out, end - first, in, out};
        Index column = 0;
        for (int p = 0; p < w.panels; ++p) {
          const Panel& panel = w.panel[p];
          const Index items = items_of(panel.rows);
          const Index begin = slice * items / slices * rows_per_item;
          const Index stop = std::min((slice + 1) * items / slices * rows_per_item, panel.rows);
          if (begin < stop) {
            const TokenRows<X, Y> to{tokens.x, tokens.y + column + begin, tokens.tokens, in, out};
            multiply(panel.format, panel.data, in, expert * panel.rows + begin, stop - begin, to);
          }
          column += panel.rows;
        }
      });
}

template void matvec(const Exec&, View2<const float>, View1<const int>, const Weight&, View2<float>);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<bf16>);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<float>);

}  // namespace grist
