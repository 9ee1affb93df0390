#include <grist/backends/convert_rows.hpp>

namespace grist {

template <class X>
void convert_rows(const Exec& exec, const Panel& panel, Index first, View2<X> to) {
  convert_rows_plain(exec, panel, first, to);
}

template void convert_rows(const Exec&, const Panel&, Index, View2<float>);
template void convert_rows(const Exec&, const Panel&, Index, View2<bf16>);

}  // namespace grist
