// Teams and their vector lanes: what a device has.
#include <grist/backends/matvec.hpp>

namespace grist {

template <class X, class Y>
void matvec(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y) {
  matvec_teams(exec, x, offsets, w, y);
}

template void matvec(const Exec&, View2<const float>, View1<const int>, const Weight&, View2<float>);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<bf16>);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<float>);

}  // namespace grist
