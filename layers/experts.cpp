#include <grist/layers/experts.hpp>

#include <grist/core/errors.hpp>
#include <grist/layers/sums.hpp>

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

namespace {

/// p_e = e^(logit - highest) / total of a token.
struct Softmax {
  float highest, total;
  KOKKOS_INLINE_FUNCTION Softmax(const float* logits, Index experts) : highest(logits[0]), total(0) {
    for (Index e = 1; e < experts; ++e) highest = Kokkos::fmax(highest, logits[e]);
    for (Index e = 0; e < experts; ++e) total += Kokkos::exp(logits[e] - highest);
  }
  [[nodiscard]] KOKKOS_INLINE_FUNCTION float of(float logit) const { return Kokkos::exp(logit - highest) / total; }
};

template <class A, class B>
bool same_shape(const A& a, const B& b) {
  return a.extent(0) == b.extent(0) && a.extent(1) == b.extent(1);
}

}  // namespace

void choose_experts_backward(const Exec& exec, View2<const float> logits, bool renormalize, View2<const int> choices,
                             View2<const float> weights, View2<const float> dweights, View2<float> dlogits) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::choose_backward");
  if (!same_shape(logits, dlogits) || !same_shape(choices, weights) || !same_shape(choices, dweights) ||
      choices.extent(0) != logits.extent(0))
    throw ShapeError(
        "choose_experts_backward: logits [{}, {}], choices [{}, {}], weights [{}, {}], dweights [{}, {}] do not give "
        "dlogits [{}, {}]",
        logits.extent(0), logits.extent(1), choices.extent(0), choices.extent(1), weights.extent(0), weights.extent(1),
        dweights.extent(0), dweights.extent(1), dlogits.extent(0), dlogits.extent(1));
  const Index experts = logits.extent(1), slots = choices.extent(1);
  Kokkos::parallel_for(
      "grist::experts::choose_backward", Indices<Exec>(exec, 0, logits.extent(0)), KOKKOS_LAMBDA(Index t) {
        float along = 0;
        for (Index slot = 0; slot < slots; ++slot) along = Kokkos::fma(weights(t, slot), dweights(t, slot), along);
        const Softmax p(&logits(t, 0), experts);
        for (Index e = 0; e < experts; ++e) dlogits(t, e) = renormalize ? 0.0F : -p.of(logits(t, e)) * along;
        for (Index slot = 0; slot < slots; ++slot)
          dlogits(t, choices(t, slot)) = weights(t, slot) * (dweights(t, slot) - along);
      });
}

template <class X, class Y>
void dispatch_backward(const Exec& exec, View2<const X> drows, View2<const int> row_of, View2<Y> dx) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::dispatch_backward");
  if (drows.extent(0) != row_of.size() || drows.extent(1) != dx.extent(1) || row_of.extent(0) != dx.extent(0))
    throw ShapeError("dispatch_backward: drows [{}, {}] and row_of [{}, {}] do not give dx [{}, {}]", drows.extent(0),
                     drows.extent(1), row_of.extent(0), row_of.extent(1), dx.extent(0), dx.extent(1));
  const Index hidden = dx.extent(1), slots = row_of.extent(1);
  Kokkos::parallel_for(
      "grist::experts::dispatch_backward", Team(exec, static_cast<int>(dx.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, hidden), [&](Index i) {
          float sum = 0;
          for (Index slot = 0; slot < slots; ++slot) sum += static_cast<float>(drows(row_of(t, slot), i));
          dx(t, i) = Y(sum);
        });
      });
}

template <class X>
void combine_backward(const Exec& exec, View2<const float> rows, View2<const int> row_of, View2<const float> weights,
                      View2<const float> dy, View2<X> drows, View2<float> dweights) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::combine_backward");
  if (!same_shape(rows, drows) || rows.extent(1) != dy.extent(1) || !same_shape(row_of, weights) ||
      !same_shape(row_of, dweights) || row_of.extent(0) != dy.extent(0) || rows.extent(0) != row_of.size())
    throw ShapeError(
        "combine_backward: rows [{}, {}], row_of [{}, {}], weights [{}, {}], dy [{}, {}] do not give drows [{}, {}], "
        "dweights [{}, {}]",
        rows.extent(0), rows.extent(1), row_of.extent(0), row_of.extent(1), weights.extent(0), weights.extent(1),
        dy.extent(0), dy.extent(1), drows.extent(0), drows.extent(1), dweights.extent(0), dweights.extent(1));
  const int hidden = static_cast<int>(dy.extent(1));
  const Index slots = row_of.extent(1);
  Kokkos::parallel_for(
      "grist::experts::combine_backward", Team(exec, static_cast<int>(dy.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        for (Index slot = 0; slot < slots; ++slot) {
          const Index row = row_of(t, slot);
          const float weight = weights(t, slot);
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, hidden),
                               [&](int i) { drows(row, i) = X(weight * dy(t, i)); });
          const float sum = row_sum(team, hidden, [&](int i) { return dy(t, i) * rows(row, i); });
          Kokkos::single(Kokkos::PerTeam(team), [&] { dweights(t, slot) = sum; });
        }
      });
}

template <class X>
void add_shared_backward(const Exec& exec, View2<const float> shared, View1<const float> gate, View2<const float> dy,
                         View2<X> dshared, View1<float> dgate) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::add_shared_backward");
  const bool gated = gate.size() > 0;
  if (!same_shape(shared, dy) || !same_shape(dshared, dy) || gate.extent(0) != dgate.extent(0) ||
      (gated && gate.extent(0) != dy.extent(0)))
    throw ShapeError(
        "add_shared_backward: shared [{}, {}], gate [{}], dy [{}, {}] do not give dshared [{}, {}], dgate [{}]",
        shared.extent(0), shared.extent(1), gate.size(), dy.extent(0), dy.extent(1), dshared.extent(0),
        dshared.extent(1), dgate.size());
  const int hidden = static_cast<int>(dy.extent(1));
  Kokkos::parallel_for(
      "grist::experts::add_shared_backward", Team(exec, static_cast<int>(dy.extent(0)), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index t = team.league_rank();
        const float factor = gated ? 1.0F / (1.0F + Kokkos::exp(-gate(t))) : 1.0F;
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, hidden),
                             [&](int i) { dshared(t, i) = X(factor * dy(t, i)); });
        if (!gated) return;
        const float sum = row_sum(team, hidden, [&](int i) { return dy(t, i) * shared(t, i); });
        const float small = Kokkos::exp(-Kokkos::fabs(gate(t))), slope = small / ((1.0F + small) * (1.0F + small));
        Kokkos::single(Kokkos::PerTeam(team), [&] { dgate(t) = slope * sum; });
      });
}

Index load_balancing_scratch(Index tokens, Index experts) { return chunks_of(tokens) * 2 * experts; }

void load_balancing_sums(const Exec& exec, View2<const float> logits, View2<const int> choices,
                         View1<const int> counted, View1<float> scratch, View2<float> sums) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::load_balancing_sums");
  const Index tokens = logits.extent(0), experts = logits.extent(1), slots = choices.extent(1);
  if (choices.extent(0) != logits.extent(0) || sums.extent(0) != 2 || sums.extent(1) != logits.extent(1) ||
      (counted.size() != 0 && counted.extent(0) != logits.extent(0)))
    throw ShapeError("load_balancing_sums: logits [{}, {}], choices [{}, {}], counted [{}] do not give sums [{}, {}]",
                     tokens, experts, choices.extent(0), slots, counted.size(), sums.extent(0), sums.extent(1));
  if (const Index needed = load_balancing_scratch(tokens, experts); static_cast<Index>(scratch.extent(0)) < needed)
    throw ShapeError("load_balancing_sums: scratch has {} floats, expected {} or more", scratch.extent(0), needed);
  const View2<float> partial(scratch.data(), chunks_of(tokens), 2 * experts);
  Kokkos::parallel_for(
      "grist::experts::load_balancing_partial", Indices<Exec>(exec, 0, partial.extent(0)), KOKKOS_LAMBDA(Index chunk) {
        const Index first = chunk * chunk_rows, end = first + chunk_rows < tokens ? first + chunk_rows : tokens;
        for (Index i = 0; i < 2 * experts; ++i) partial(chunk, i) = 0;
        for (Index t = first; t < end; ++t) {
          if (counted.size() != 0 && counted(t) == 0) continue;
          for (Index slot = 0; slot < slots; ++slot) partial(chunk, choices(t, slot)) += 1;
          const Softmax p(&logits(t, 0), experts);
          for (Index e = 0; e < experts; ++e) partial(chunk, experts + e) += p.of(logits(t, e));
        }
      });
  add_chunks(exec, "grist::experts::load_balancing_sums", as_const(partial), View1<float>(sums.data(), 2 * experts));
}

double load_balancing_loss(const float* sums, Index experts, Index k) {
  double chosen = 0, product = 0;
  for (Index e = 0; e < experts; ++e) {
    chosen += double{sums[e]};
    product += double{sums[e]} * double{sums[experts + e]};
  }
  const double tokens = chosen / static_cast<double>(k);
  return tokens > 0 ? static_cast<double>(experts) * product / (tokens * tokens) : 0;
}

void load_balancing_backward(const Exec& exec, View2<const float> logits, View1<const int> counted,
                             View2<const float> sums, Index k, float factor, View2<float> dlogits) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::experts::load_balancing_backward");
  const Index experts = logits.extent(1);
  if (!same_shape(logits, dlogits) || sums.extent(0) != 2 || sums.extent(1) != logits.extent(1) || k < 1 ||
      (counted.size() != 0 && counted.extent(0) != logits.extent(0)))
    throw ShapeError(
        "load_balancing_backward: logits [{}, {}], counted [{}], sums [{}, {}] do not give dlogits [{}, {}]",
        logits.extent(0), experts, counted.size(), sums.extent(0), sums.extent(1), dlogits.extent(0),
        dlogits.extent(1));
  Kokkos::parallel_for(
      "grist::experts::load_balancing_backward", Indices<Exec>(exec, 0, logits.extent(0)), KOKKOS_LAMBDA(Index t) {
        if (counted.size() != 0 && counted(t) == 0) return;
        const Softmax p(&logits(t, 0), experts);
        float total = 0, mean = 0;  // of the choices, by p
        for (Index e = 0; e < experts; ++e) total += sums(0, e);
        for (Index e = 0; e < experts; ++e) mean += sums(0, e) / total * p.of(logits(t, e));
        const float each = factor * static_cast<float>(experts) * static_cast<float>(k * k) / total;
        for (Index e = 0; e < experts; ++e) dlogits(t, e) += each * p.of(logits(t, e)) * (sums(0, e) / total - mean);
      });
}

template void dispatch(const Exec&, View2<const float>, View1<const int>, View2<float>);
template void dispatch(const Exec&, View2<const bf16>, View1<const int>, View2<bf16>);
template void dispatch_backward(const Exec&, View2<const float>, View2<const int>, View2<float>);
template void dispatch_backward(const Exec&, View2<const bf16>, View2<const int>, View2<bf16>);
template void dispatch_backward(const Exec&, View2<const bf16>, View2<const int>, View2<float>);
#define GRIST_INSTANTIATE(X)                                                                                           \
  template void combine_backward(const Exec&, View2<const float>, View2<const int>, View2<const float>,                \
                                 View2<const float>, View2<X>, View2<float>);                                          \
  template void add_shared_backward(const Exec&, View2<const float>, View1<const float>, View2<const float>, View2<X>, \
                                    View1<float>);
GRIST_INSTANTIATE(float)
GRIST_INSTANTIATE(bf16)
#undef GRIST_INSTANTIATE

}  // namespace grist::layers
