// Teams and their vector lanes: what a device has.
#include <grist/backends/matvec.hpp>

namespace grist {

bool reads_interleaved(DType, Format) { return false; }
bool rounds_tokens(DType, const Weight&) { return false; }
bool serves_many_tokens(DType, const Weight&) { return false; }
Index matvec_scratch(Index, DType, const Weight&) { return 0; }

template <class X, class Y>
void matvec(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y,
            Reserve<Memory>&) {
  matvec_teams(exec, x, offsets, w, y);
}

template void matvec(const Exec&, View2<const float>, View1<const int>, const Weight&, View2<float>, Reserve<Memory>&);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<bf16>, Reserve<Memory>&);
template void matvec(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<float>, Reserve<Memory>&);

}  // namespace grist
