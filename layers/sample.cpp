#include <grist/layers/sample.hpp>

#include <limits>

namespace grist::layers {
namespace {

using Team = Kokkos::TeamPolicy<Exec>;
using Member = Team::member_type;

/// Columns of a row that one team goes through.
constexpr Index piece = 8192;
constexpr int digit_bits = 11;
constexpr Choice none = std::numeric_limits<Choice>::min();

/// Integers in the order of the finite floats, both zeros being one.
KOKKOS_INLINE_FUNCTION std::int32_t order_of(float value) {
  const auto bits = Kokkos::bit_cast<std::int32_t>(value + 0.0F);
  return bits >= 0 ? bits : bits ^ 0x7FFFFFFF;
}

KOKKOS_INLINE_FUNCTION std::uint32_t key_of(float value) {
  return static_cast<std::uint32_t>(order_of(value)) ^ 0x80000000U;
}

KOKKOS_INLINE_FUNCTION Choice choice_of(float value, Index id) {
  const auto bits = Kokkos::bit_cast<std::uint32_t>(value);
  Index order = order_of(value);
  if ((bits & 0x7F800000U) == 0x7F800000U) {
    const bool nan = (bits & 0x007FFFFFU) != 0, negative = (bits & 0x80000000U) != 0;
    order = 0x7F800000 - 1 + static_cast<Index>(nan ? Value::nan : negative ? Value::minus_infinity : Value::infinity);
  }
  return order * (Index{1} << 32) + (0xFFFFFFFF - id);
}

/// The finite value of a Choice.
KOKKOS_INLINE_FUNCTION float value_of(Choice choice) {
  const auto order = static_cast<std::int32_t>(choice >> 32);
  return Kokkos::bit_cast<float>(order >= 0 ? order : order ^ 0x7FFFFFFF);
}

KOKKOS_INLINE_FUNCTION float log_ratio(float value, Choice highest, float temperature) {
  return (value - value_of(highest)) / temperature;
}

KOKKOS_INLINE_FUNCTION Index mass_of(float log_ratio) { return static_cast<Index>(Kokkos::exp(log_ratio) * 0x1p40F); }

/// Gumbel noise of a word, from -2.9 to 22.9: -log of an exponential deviate, which is fine where it is near 0.
KOKKOS_INLINE_FUNCTION float gumbel(std::uint32_t word) {
  const float u = Kokkos::fmin((static_cast<float>(word) + 0.5F) * 0x1p-32F, 1.0F - 0x1p-24F);
  return -Kokkos::log(-Kokkos::log1p(-u));
}
/// No noise lifts a token of so small a probability above the most likely one.
constexpr float hopeless = -26;
/// More than gumbel(word), without a logarithm: u is at least 2^-(leading zeros + 1), and -log1p(-u) at least u.
KOKKOS_INLINE_FUNCTION float gumbel_bound(std::uint32_t word) {
  return 0.6932F * static_cast<float>(Kokkos::countl_zero(word) + 1) + 0.001F;
}

/// The lowest bit of a pass's digit; the last digit has ten bits.
constexpr int shift_of(int pass) { return pass == 0 ? 32 - digit_bits : pass == 1 ? 32 - 2 * digit_bits : 0; }
constexpr int bits_above(int pass) { return pass == 0 ? 32 : shift_of(pass - 1); }

KOKKOS_INLINE_FUNCTION bool wants(const Draw& draw, Search search) {
  return search == Search::top_k ? draw.top_k > 0 : draw.top_p < 1;
}

/// A team for each piece of each of `rows` rows.
Team pieces(const Exec& exec, Index rows, Index columns) {
  return {exec, static_cast<int>(rows * ((columns + piece - 1) / piece)), Kokkos::AUTO};
}

void clear(const Exec& exec, View1<Choice> choices) {
  Kokkos::parallel_for("grist::sample::clear", Indices<Exec>(exec, 0, static_cast<Index>(choices.size())),
                       KOKKOS_LAMBDA(Index i) { choices(i) = none; });
}

}  // namespace

void sample_penalize(const Exec& exec, View1<const Penalty> penalties, View2<float> logits) {
  Kokkos::parallel_for("grist::sample::penalize", Indices<Exec>(exec, 0, static_cast<Index>(penalties.size())),
                       KOKKOS_LAMBDA(Index i) {
                         const Penalty p = penalties(i);
                         float& logit = logits(p.row, p.column);
                         logit = logit > 0 ? logit / p.penalty : logit * p.penalty;
                       });
}

void sample_highest(const Exec& exec, View2<const float> logits, Index first_column, View1<Choice> highest) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::sample::forward");
  clear(exec, highest);
  const Index columns = logits.extent(1), per_row = (columns + piece - 1) / piece;
  Kokkos::parallel_for(
      "grist::sample::highest", pieces(exec, logits.extent(0), columns), KOKKOS_LAMBDA(const Member& team) {
        const Index row = team.league_rank() / per_row, begin = team.league_rank() % per_row * piece;
        Choice best = none;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, begin, Kokkos::min(begin + piece, columns)),
            [&](Index i, Choice& most) { most = Kokkos::max(most, choice_of(logits(row, i), first_column + i)); },
            Kokkos::Max<Choice>(best));
        Kokkos::single(Kokkos::PerTeam(team), [&] { Kokkos::atomic_max(&highest(row), best); });
      });
}

void sample_count(const Exec& exec, Search search, int pass, View2<const float> logits, View1<const Choice> highest,
                  View1<const Draw> draws, View2<Index> histograms) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::sample::forward");
  const Index columns = logits.extent(1), per_row = (columns + piece - 1) / piece;
  const Index digits = histograms.extent(1);
  const int shift = shift_of(pass), above = bits_above(pass);
  auto policy = pieces(exec, static_cast<Index>(draws.size()), columns);
  policy.set_scratch_size(0, Kokkos::PerTeam(static_cast<int>(digits * sizeof(Index))));
  Kokkos::parallel_for(
      "grist::sample::count", policy, KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank() / per_row, begin = team.league_rank() % per_row * piece;
        const Draw draw = draws(n);
        const Choice best = highest(draw.row);
        if (!wants(draw, search) || kind_of(best) != Value::finite) return;
        auto* const counts =
            static_cast<Index*>(team.team_scratch(0).get_shmem(static_cast<std::ptrdiff_t>(digits * sizeof(Index))));
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, digits), [&](Index digit) { counts[digit] = 0; });
        team.team_barrier();
        const std::uint64_t known = pass == 0 ? 0 : std::uint64_t{draw.digits} >> above;
        Kokkos::parallel_for(
            Kokkos::TeamVectorRange(team, begin, Kokkos::min(begin + piece, columns)), [&](Index i) {
              const float x = logits(draw.row, i);
              const std::uint32_t key = key_of(x);
              if (key < draw.threshold || std::uint64_t{key} >> above != known) return;
              const Index weight = search == Search::top_k ? 1 : mass_of(log_ratio(x, best, draw.temperature));
              if (weight > 0) Kokkos::atomic_add(&counts[(key >> shift) % digit_values], weight);
            });
        team.team_barrier();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, digits), [&](Index digit) {
          if (counts[digit] > 0) Kokkos::atomic_add(&histograms(n, digit), counts[digit]);
        });
      });
}

void sample_narrow(const Exec& exec, Search search, int pass, View2<Index> histograms, View1<Draw> draws) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::sample::forward");
  const Index digits = histograms.extent(1);
  const int shift = shift_of(pass);
  Kokkos::parallel_for(
      "grist::sample::narrow", Team(exec, static_cast<int>(draws.size()), Kokkos::AUTO),
      KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank();
        const Draw draw = draws(n);
        if (!wants(draw, search)) return;
        Index total = 0;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, digits), [&](Index i, Index& sum) { sum += histograms(n, i); }, total);
        Index left = draw.left;
        if (pass == 0) {
          left = search == Search::top_k
                     ? draw.top_k
                     : static_cast<Index>(Kokkos::ceil(static_cast<double>(draw.top_p) * static_cast<double>(total)));
          left = Kokkos::max(left, Index{1});
        }
        // From the largest digit down, the one with which what is left is reached.
        Kokkos::parallel_scan(Kokkos::TeamThreadRange(team, digits), [&](Index i, Index& before, bool last) {
          const Index digit = digits - 1 - i, weight = histograms(n, digit);
          if (last && before < left && left <= before + weight) {
            draws(n).digits = (pass == 0 ? 0 : draw.digits) | static_cast<std::uint32_t>(digit) << shift;
            draws(n).left = left - before;
          }
          before += weight;
        });
        team.team_barrier();
        Kokkos::parallel_for(Kokkos::TeamVectorRange(team, digits), [&](Index digit) { histograms(n, digit) = 0; });
        if (pass + 1 == search_passes)
          Kokkos::single(Kokkos::PerTeam(team), [&] { draws(n).threshold = draws(n).digits; });
      });
}

void sample_draw(const Exec& exec, View2<const float> logits, Index first_column, View1<const Choice> highest,
                 View1<const Draw> draws, View1<Choice> chosen) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::sample::forward");
  clear(exec, chosen);
  const Index columns = logits.extent(1), per_row = (columns + piece - 1) / piece;
  constexpr int words = 4;  // of random bits that come at once, for as many ids
  Kokkos::parallel_for(
      "grist::sample::draw", pieces(exec, static_cast<Index>(draws.size()), columns),
      KOKKOS_LAMBDA(const Member& team) {
        const Index n = team.league_rank() / per_row;
        const Index begin = first_column + team.league_rank() % per_row * piece;
        const Index end = Kokkos::min(begin + piece, first_column + columns);
        const Draw draw = draws(n);
        const Choice highest_of_row = highest(draw.row);
        if (kind_of(highest_of_row) != Value::finite) return;
        Choice best = none;
        Kokkos::parallel_reduce(
            Kokkos::TeamVectorRange(team, begin / words, (end + words - 1) / words),
            [&](Index block, Choice& most) {
              PhiloxBlock random{};
              bool drawn = false;
              for (Index id = Kokkos::max(block * words, begin); id < Kokkos::min((block + 1) * words, end); ++id) {
                const float x = logits(draw.row, id - first_column);
                const float z = log_ratio(x, highest_of_row, draw.temperature);
                if (z < hopeless || key_of(x) < draw.threshold || (draw.min_p > 0 && Kokkos::exp(z) < draw.min_p))
                  continue;
                if (!drawn)
                  random = draw.random.at(std::uint64_t{draw.position} << 32 | static_cast<std::uint64_t>(block));
                drawn = true;
                const std::uint32_t word = random.word[id % words];
                if (z + gumbel_bound(word) < value_of(most)) continue;
                most = Kokkos::max(most, choice_of(z + gumbel(word), id));
              }
            },
            Kokkos::Max<Choice>(best));
        Kokkos::single(Kokkos::PerTeam(team), [&] { Kokkos::atomic_max(&chosen(n), best); });
      });
}

}  // namespace grist::layers
