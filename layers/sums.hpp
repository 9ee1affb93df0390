// Sums and maxima that have one order, whatever the number of threads.
//   over a row    : by a team, in 16 partial sums, which a compiler can keep in one vector
//   over the rows : per chunk of rows by one team into partial [chunks, columns], then over the chunks, in order
#pragma once

#include <grist/core/view.hpp>

#ifdef __FAST_MATH__
#error "grist's sums have one order and round as written: compile without -ffast-math (icpx: -fp-model=precise)"
#endif

namespace grist::layers {

namespace detail {
constexpr int partial_results = 16;

/// Combines f(i), i < size, by `combine`, in an order that depends on `size` and the team's size alone.
template <class Reducer, class T, class Member, class F, class Combine>
KOKKOS_INLINE_FUNCTION T reduce_row(const Member& team, int size, T identity, F&& f, Combine&& combine) {
  T total = identity;
  Kokkos::parallel_reduce(
      Kokkos::TeamVectorRange(team, size / partial_results),
      [&](int block, T& result) {
        T partial[partial_results];
        for (int i = 0; i < partial_results; ++i) partial[i] = f(block * partial_results + i);
        for (int width = partial_results / 2; width > 0; width /= 2)
          for (int i = 0; i < width; ++i) partial[i] = combine(partial[i], partial[i + width]);
        result = combine(result, partial[0]);
      },
      Reducer(total));
  for (int i = size / partial_results * partial_results; i < size; ++i) total = combine(total, f(i));
  return total;
}
}  // namespace detail

/// Sum over i < size of f(i); all of the team get it.
template <class Member, class F>
KOKKOS_INLINE_FUNCTION float row_sum(const Member& team, int size, F&& f) {
  return detail::reduce_row<Kokkos::Sum<float>>(team, size, 0.0F, f, [](float a, float b) { return a + b; });
}

/// Sum over i < size of f(i), numbers from 0 to 1 that are rounded to multiples of 2^-34: exact for 2^19 of them, so
/// that parts of a row, added in any order, give the bits of the whole.
template <class Member, class F>
KOKKOS_INLINE_FUNCTION double exact_row_sum(const Member& team, int size, F&& f) {
  constexpr double whole = 0x1.8p18;  // the last bit of what lies near it is 2^-34
  return detail::reduce_row<Kokkos::Sum<double>>(
      team, size, 0.0, [&](int i) { return (double{f(i)} + whole) - whole; }, [](double a, double b) { return a + b; });
}

/// Maximum over i < size of f(i); -infinity where there is none.
template <class Member, class F>
KOKKOS_INLINE_FUNCTION float row_max(const Member& team, int size, F&& f) {
  return detail::reduce_row<Kokkos::Max<float>>(team, size, -Kokkos::Experimental::infinity_v<float>, f,
                                                [](float a, float b) { return b > a ? b : a; });
}

/// Rows whose sum one team makes: few enough to keep many cores busy, enough for partial sums to be a small part of
/// the memory that is read.
constexpr Index chunk_rows = 16;
constexpr Index chunks_of(Index rows) { return (rows + chunk_rows - 1) / chunk_rows; }

/// sum [columns] += the rows of partial [chunks, columns], in order.
inline void add_chunks(const Exec& exec, const char* label, View2<const float> partial, View1<float> sum) {
  using Team = Kokkos::TeamPolicy<Exec>;
  constexpr Index piece = 128;  // columns of a team
  const Index columns = partial.extent(1), chunks = partial.extent(0);
  Kokkos::parallel_for(
      label, Team(exec, static_cast<int>((columns + piece - 1) / piece), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Team::member_type& team) {
        const Index first = team.league_rank() * piece, last = first + piece < columns ? first + piece : columns;
        for (Index chunk = 0; chunk < chunks; ++chunk) {
          const float* const from = &partial(chunk, 0);
          float* const to = sum.data();
          Kokkos::parallel_for(Kokkos::TeamVectorRange(team, first, last), [&](Index c) { to[c] += from[c]; });
        }
      });
}

}  // namespace grist::layers
