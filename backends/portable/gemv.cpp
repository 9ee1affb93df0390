// A device has no faster way than the plain one.
#include <grist/backends/gemv.hpp>

namespace grist {

template <class X, class W, class Y>
void gemv(const Exec& exec, View2<const X> x, View2<const W> w, View2<Y> y) { gemv_plain(exec, x, w, y); }

template void gemv(const Exec&, View2<const float>, View2<const float>, View2<float>);
template void gemv(const Exec&, View2<const bf16>, View2<const bf16>, View2<bf16>);
template void gemv(const Exec&, View2<const bf16>, View2<const bf16>, View2<float>);

}  // namespace grist
