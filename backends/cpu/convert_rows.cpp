#include <grist/backends/convert_rows.hpp>

#include <grist/backends/cpu/row_products.hpp>

namespace grist {

template <>
void convert_rows(const Exec& exec, Format format, const void* rows, View2<float> to) {
  convert_rows_plain(exec, format, rows, to);
}

template <>
void convert_rows(const Exec& exec, Format format, const void* rows, View2<bf16> to) {
  const Index columns = to.extent(1), count = to.extent(0);
  if (block_of(format).elements == 1) return convert_rows_plain(exec, format, rows, to);
  Kokkos::parallel_for(
      "grist::products::convert_rows", Indices<Exec>(exec, 0, count), KOKKOS_LAMBDA(Index row) {
        cpu::round_row(format, rows, columns, row, to.data() + row * columns);
      });
}

}  // namespace grist
