#include <grist/layers/experts.hpp>

#include <grist/core/errors.hpp>

namespace grist::layers {

using Team = Kokkos::TeamPolicy<Exec>;

void choose_experts(const Exec& exec, View2<const float> logits, bool renormalize, View2<int> choices,
                    View2<float> weights) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::choose");
  const Index experts = logits.extent(1), slots = choices.extent(1);
  if (choices.extent(0) != logits.extent(0) || weights.extent(0) != choices.extent(0) ||
      weights.extent(1) != choices.extent(1) || slots < 1 || slots > experts) {
    throw ShapeError("choose_experts: logits [{}, {}] do not give choices [{}, {}] and weights [{}, {}]",
                     logits.extent(0), experts, choices.extent(0), slots, weights.extent(0), weights.extent(1));
  }
  Kokkos::parallel_for(
      "grist::experts::choose", Indices<Exec>(exec, 0, logits.extent(0)), KOKKOS_LAMBDA(Index t) {
        float highest = logits(t, 0), total = 0, chosen_total = 0;
        for (Index e = 1; e < experts; ++e) highest = Kokkos::fmax(highest, logits(t, e));
        for (Index e = 0; e < experts; ++e) total += Kokkos::exp(logits(t, e) - highest);
        for (Index slot = 0; slot < slots; ++slot) {
          Index best = -1;
          for (Index e = 0; e < experts; ++e) {
            bool taken = false;
            for (Index before = 0; before < slot; ++before) taken = taken || choices(t, before) == e;
            if (!taken && (best < 0 || logits(t, e) > logits(t, best))) best = e;
          }
          choices(t, slot) = static_cast<int>(best);
          weights(t, slot) = Kokkos::exp(logits(t, best) - highest) / total;
          chosen_total += weights(t, slot);
        }
        if (!renormalize) return;
        for (Index slot = 0; slot < slots; ++slot) weights(t, slot) /= chosen_total;
      });
}

void sort_by_expert(const Exec& exec, View2<const int> choices, View1<int> offsets, View1<int> token_of,
                    View2<int> row_of) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::sort");
  const Index entries = choices.size(), slots = choices.extent(1), experts = static_cast<Index>(offsets.extent(0)) - 1;
  if (static_cast<Index>(token_of.extent(0)) != entries || row_of.extent(0) != choices.extent(0) ||
      row_of.extent(1) != choices.extent(1)) {
    throw ShapeError("sort_by_expert: choices [{}, {}] do not give token_of [{}] and row_of [{}, {}]",
                     choices.extent(0), slots, token_of.extent(0), row_of.extent(0), row_of.extent(1));
  }
  Kokkos::parallel_for(
      "grist::experts::count", Indices<Exec>(exec, 0, experts), KOKKOS_LAMBDA(Index e) {
        int before = 0;  // choices of lower experts
        for (Index i = 0; i < entries; ++i) before += choices.data()[i] < e ? 1 : 0;
        offsets(e) = before;
        if (e == 0) offsets(experts) = static_cast<int>(entries);
        int row = before;
        for (Index i = 0; i < entries; ++i) {
          if (choices.data()[i] != e) continue;
          token_of(row) = static_cast<int>(i / slots);
          row_of.data()[i] = row++;
        }
      });
}

template <class X>
void dispatch(const Exec& exec, View2<const X> x, View1<const int> token_of, View2<X> rows) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::dispatch");
  if (rows.extent(0) != token_of.extent(0) || rows.extent(1) != x.extent(1))
    throw ShapeError("dispatch: x [{}, {}] and token_of [{}] do not give rows [{}, {}]", x.extent(0), x.extent(1),
                     token_of.extent(0), rows.extent(0), rows.extent(1));
  const Index hidden = x.extent(1);
  Kokkos::parallel_for(
      "grist::experts::dispatch", Team(exec, static_cast<int>(rows.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index row = team.league_rank(), t = token_of(row);
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, hidden), [&](Index i) { rows(row, i) = x(t, i); });
      });
}

void combine(const Exec& exec, View2<const float> rows, View2<const int> row_of, View2<const float> weights,
             View2<float> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::combine");
  if (rows.extent(1) != y.extent(1) || row_of.extent(0) != y.extent(0) || weights.extent(0) != y.extent(0) ||
      weights.extent(1) != row_of.extent(1))
    throw ShapeError("combine: rows [{}, {}], row_of [{}, {}], weights [{}, {}] do not give y [{}, {}]", rows.extent(0),
                     rows.extent(1), row_of.extent(0), row_of.extent(1), weights.extent(0), weights.extent(1),
                     y.extent(0), y.extent(1));
  const Index hidden = y.extent(1), slots = row_of.extent(1);
  Kokkos::parallel_for(
      "grist::experts::combine", Team(exec, static_cast<int>(y.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, hidden), [&](Index i) {
          float sum = 0;
          for (Index slot = 0; slot < slots; ++slot) sum += weights(t, slot) * rows(row_of(t, slot), i);
          y(t, i) = sum;
        });
      });
}

void add_shared(const Exec& exec, View2<const float> shared, View1<const float> gate, View2<float> y) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::add_shared");
  const bool gated = gate.size() > 0;
  if (shared.extent(0) != y.extent(0) || shared.extent(1) != y.extent(1) || (gated && gate.extent(0) != y.extent(0)))
    throw ShapeError("add_shared: shared [{}, {}] and gate [{}] do not go with y [{}, {}]", shared.extent(0),
                     shared.extent(1), gate.size(), y.extent(0), y.extent(1));
  const Index hidden = y.extent(1);
  Kokkos::parallel_for(
      "grist::experts::add_shared", Indices<Exec>(exec, 0, y.size()), KOKKOS_LAMBDA(Index i) {
        const float factor = gated ? 1.0F / (1.0F + Kokkos::exp(-gate(i / hidden))) : 1.0F;
        y.data()[i] += factor * shared.data()[i];
      });
}

template void dispatch(const Exec&, View2<const float>, View1<const int>, View2<float>);
template void dispatch(const Exec&, View2<const bf16>, View1<const int>, View2<bf16>);

}  // namespace grist::layers
