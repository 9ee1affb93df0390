#include <grist/layers/cross_entropy.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/exp_negative.hpp>
#include <grist/layers/sums.hpp>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;

template <class... Vectors>
void check(const char* layer, View2<const float> logits, const Vectors&... of_tokens) {
  const auto expect = [&](std::size_t found) {
    if (found != logits.extent(0))
      throw ShapeError("{}: logits [{}, {}] do not go with a vector of {} tokens", layer, logits.extent(0),
                       logits.extent(1), found);
  };
  (expect(of_tokens.extent(0)), ...);
}

}  // namespace

void cross_entropy_highest(const Exec& exec, View2<const float> logits, View1<float> highest) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::cross_entropy::forward");
  check("cross_entropy_highest", logits, highest);
  const auto columns = static_cast<int>(logits.extent(1));
  Kokkos::parallel_for(
      "grist::cross_entropy::highest", Team(exec, static_cast<int>(logits.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        const float* const row = logits.data() + t * columns;
        const float most = row_max(team, columns, [&](int i) { return row[i]; });
        Kokkos::single(Kokkos::PerTeam(team), [&] { highest(t) = most; });
      });
}

void cross_entropy_sums(const Exec& exec, View2<const float> logits, View1<const int> targets, Index first_column,
                        View1<const float> highest, View1<double> sums, View1<float> target_logits) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::cross_entropy::forward");
  check("cross_entropy_sums", logits, targets, highest, sums, target_logits);
  const auto columns = static_cast<int>(logits.extent(1));
  Kokkos::parallel_for(
      "grist::cross_entropy::sums", Team(exec, static_cast<int>(logits.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        const float* const row = logits.data() + t * columns;
        const float most = highest(t);
        const bool masked = targets(t) < 0, first_rank = first_column == 0 && columns > 0;
        const double sum =
            masked ? 0.0 : exact_row_sum(team, columns, [&](int i) { return exp_negative(row[i] - most); });
        Kokkos::single(Kokkos::PerTeam(team), [&] {
          const Index column = targets(t) - first_column;
          // One rank alone makes a masked nll log(1) + highest - highest.
          sums(t) = masked && first_rank ? 1.0 : sum;
          target_logits(t) = masked ? (first_rank ? most : 0.0F) : column >= 0 && column < columns ? row[column] : 0.0F;
        });
      });
}

template <class X>
void cross_entropy_backward(const Exec& exec, View2<const float> logits, View1<const int> targets, Index first_column,
                            View1<const float> highest, View1<const double> sums, View1<const float> scale,
                            View2<X> dlogits) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::cross_entropy::backward");
  check("cross_entropy_backward", logits, targets, highest, sums, scale);
  if (dlogits.extent(0) != logits.extent(0) || dlogits.extent(1) != logits.extent(1))
    throw ShapeError("cross_entropy_backward: logits [{}, {}] do not give dlogits [{}, {}]", logits.extent(0),
                     logits.extent(1), dlogits.extent(0), dlogits.extent(1));
  const Index columns = logits.extent(1);
  Kokkos::parallel_for(
      "grist::cross_entropy::backward", Team(exec, static_cast<int>(logits.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank(), target = targets(t) - first_column;
        const float* const from = logits.data() + t * columns;
        X* const to = dlogits.data() + t * columns;
        if (targets(t) < 0) {
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, columns), [&](Index i) { to[i] = X(0.0F); });
          return;
        }
        const float most = highest(t), factor = 1.0F / static_cast<float>(sums(t)), times = scale(t);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, columns), [&](Index i) {
          to[i] = X((exp_negative(from[i] - most) * factor - (i == target ? 1.0F : 0.0F)) * times);
        });
      });
}

template void cross_entropy_backward(const Exec&, View2<const float>, View1<const int>, Index, View1<const float>,
                                     View1<const double>, View1<const float>, View2<float>);
template void cross_entropy_backward(const Exec&, View2<const float>, View1<const int>, Index, View1<const float>,
                                     View1<const double>, View1<const float>, View2<bf16>);

}  // namespace grist::layers
