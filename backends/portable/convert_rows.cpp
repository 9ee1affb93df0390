#include <grist/backends/convert_rows.hpp>

namespace grist {

template <class X>
void convert_rows(const Exec& exec, Format format, const void* rows, View2<X> to) {
  convert_rows_plain(exec, format, rows, to);
}

template void convert_rows(const Exec&, Format, const void*, View2<float>);
template void convert_rows(const Exec&, Format, const void*, View2<bf16>);

}  // namespace grist
