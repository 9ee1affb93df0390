// A device's lanes of one vector per row: each lane takes eight columns at a time, of up to eight tokens, so that a
// weight is read and decoded once for all of them.
#include <grist/backends/matvec.hpp>

#include <cstdint>
#include <type_traits>

namespace grist {
namespace matvec_kernel {

constexpr int unit = 8;       // columns of a lane at a time: 16 bytes of 16-bit numbers
constexpr int team_rows = 4;  // rows of a team: as many as a block of 128 threads has vectors of 32
constexpr int most_tokens = 8;  // of a pass over a row

/// Sums of so many tokens over the lanes.
template <int Tokens>
struct Sums {
  float of[Tokens] = {};
  KOKKOS_INLINE_FUNCTION Sums& operator+=(const Sums& other) {
    for (int t = 0; t < Tokens; ++t) of[t] += other.of[t];
    return *this;
  }
};

}  // namespace matvec_kernel
}  // namespace grist

template <int Tokens>
struct Kokkos::reduction_identity<grist::matvec_kernel::Sums<Tokens>> {
  KOKKOS_FORCEINLINE_FUNCTION static grist::matvec_kernel::Sums<Tokens> sum() { return {}; }
};

namespace grist {
namespace {

using namespace matvec_kernel;
using Team = Kokkos::TeamPolicy<Exec>;

/// Numbers column ... column + count - 1 of a row, count <= unit; zeros up to a unit. Aligned: by 16-byte loads.
template <bool Aligned, class T>
KOKKOS_INLINE_FUNCTION void load(const T* row, Index column, Index count, float* to) {
  if constexpr (Aligned) {
    struct alignas(16) Unit {
      T of[unit];
    };
    const Unit numbers = *reinterpret_cast<const Unit*>(row + column);
    for (int k = 0; k < unit; ++k) to[k] = static_cast<float>(numbers.of[k]);
  } else {
    for (int k = 0; k < unit; ++k) to[k] = k < count ? static_cast<float>(row[column + k]) : 0;
  }
}

/// The same of a row of blocks, of which every one holds whole units.
template <bool Aligned, class T>
KOKKOS_INLINE_FUNCTION void decode(const PlainBlock<T>* row, Index column, Index count, float* to) {
  load<Aligned>(reinterpret_cast<const T*>(row), column, count, to);
}
template <bool, class Block>
KOKKOS_INLINE_FUNCTION void decode(const Block* row, Index column, Index, float* to) {
  static_assert(Block::elements % unit == 0);
  const Block& block = row[column / Block::elements];
  const auto first = static_cast<int>(column % Block::elements);
  for (int k = 0; k < unit; ++k) to[k] = block.value(first + k);
}

/// Rows of one format: y's columns from first_row on.
template <bool Aligned, class Block, class X, class Y>
struct PanelProduct {
  View2<const X> x;
  View1<const int> offsets;  // empty: one expert has all tokens
  const Block* w;
  Index rows, groups;  // of an expert: groups of team_rows
  Index first_row;
  View2<Y> y;

  KOKKOS_FUNCTION void operator()(const Team::member_type& team) const {
    const Index expert = team.league_rank() / groups, first = team.league_rank() % groups * team_rows;
    const bool one = offsets.extent(0) == 0;
    const Index begin = one ? 0 : offsets(expert), end = one ? static_cast<Index>(x.extent(0)) : offsets(expert + 1);
    const int count = static_cast<int>(Kokkos::min<Index>(team_rows, rows - first));
    Kokkos::parallel_for(Kokkos::TeamThreadRange(team, count), [&](int r) {
      for (Index t = begin; t < end; t += most_tokens) {
        const Index left = end - t;
        if (left == 1)
          tokens<1>(team, expert, first + r, t, left);
        else if (left == 2)
          tokens<2>(team, expert, first + r, t, left);
        else if (left <= 4)
          tokens<4>(team, expert, first + r, t, left);
        else
          tokens<most_tokens>(team, expert, first + r, t, left);
      }
    });
  }

  /// Of `left` tokens from t on as many as it takes. A token's sum does not depend on how many: each lane adds in the
  /// order of its columns, rounding as fma does whatever the compiler makes of the loop, and lanes are added in one
  /// order.
  template <int Tokens>
  KOKKOS_FUNCTION void tokens(const Team::member_type& team, Index expert, Index row, Index t, Index left) const {
    const auto columns = static_cast<Index>(x.extent(1));
    const Block* const from = w + (expert * rows + row) * (columns / Block::elements);
    Sums<Tokens> dots;
    Kokkos::parallel_reduce(
        Kokkos::ThreadVectorRange(team, (columns + unit - 1) / unit),
        [&](Index u, Sums<Tokens>& sums) {
          const Index column = u * unit, count = columns - column;
          float weights[unit];
          decode<Aligned>(from, column, count, weights);
          for (int i = 0; i < Tokens; ++i) {
            float numbers[unit];
            load<Aligned>(&x(Kokkos::min<Index>(t + i, t + left - 1), 0), column, count, numbers);
            for (int k = 0; k < unit; ++k) sums.of[i] = Kokkos::fma(numbers[k], weights[k], sums.of[i]);
          }
        },
        Kokkos::Sum<Sums<Tokens>>(dots));
    Kokkos::single(Kokkos::PerThread(team), [&] {
      for (int i = 0; i < Tokens && i < left; ++i) y(t + i, first_row + row) = Y(dots.of[i]);
    });
  }
};

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

template <class Block, class X, class Y>
void multiply_panel(const Exec& exec, View2<const X> x, View1<const int> offsets, const Block* w, Index rows,
                    Index experts, Index first_row, View2<Y> y) {
  const Index groups = (rows + team_rows - 1) / team_rows;
  const Team policy(exec, static_cast<int>(experts * groups), Kokkos::AUTO, Team::vector_length_max());
  const auto launch = [&](auto by_16_bytes) {
    Kokkos::parallel_for("grist::matvec_teams", policy,
                         PanelProduct<by_16_bytes, Block, X, Y>{x, offsets, w, rows, groups, first_row, y});
  };
  const bool blocks = Block::elements > 1;
  if (x.extent(1) % unit == 0 && aligned(x.data()) && (blocks || aligned(w)))
    launch(std::true_type{});
  else
    launch(std::false_type{});
}

}  // namespace

template <class X, class Y>
void matvec_teams(const Exec& exec, View2<const X> x, View1<const int> offsets, const Weight& w, View2<Y> y) {
  Index first = 0;
  for (int p = 0; p < w.panels; ++p) {
    const Panel& panel = w.panel[p];
    if (panel.interleaved) throw InternalError("teams know no interleaved rows");
    with_format(panel.format, [&]<class Block>(Block) {
      multiply_panel(exec, x, offsets, static_cast<const Block*>(panel.data), panel.rows, w.experts, first, y);
    });
    first += panel.rows;
  }
}

template void matvec_teams(const Exec&, View2<const float>, View1<const int>, const Weight&, View2<float>);
template void matvec_teams(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<bf16>);
template void matvec_teams(const Exec&, View2<const bf16>, View1<const int>, const Weight&, View2<float>);

}  // namespace grist
