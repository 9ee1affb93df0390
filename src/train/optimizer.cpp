#include <grist/train/optimizer.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace grist::train {
namespace {

constexpr Index segment = 512;  // elements that one thread sums

KOKKOS_INLINE_FUNCTION double summand(float x) { return static_cast<double>(x) * static_cast<double>(x); }
KOKKOS_INLINE_FUNCTION double summand(double partial) { return partial; }

/// One, of zero, for nothing.
Index segments_of(Index size) { return std::max<Index>(1, (size + segment - 1) / segment); }

/// sums [segments_of(x)]: of squares of floats, of doubles as they are.
template <class T>
void sum_segments(const Exec& exec, View1<const T> x, View1<double> sums) {
  const auto size = static_cast<Index>(x.extent(0));
  Kokkos::parallel_for(
      "grist::optimizer::norm", Indices<Exec>(exec, 0, segments_of(size)), KOKKOS_LAMBDA(Index s) {
        constexpr int lanes = 16;  // partial sums that a compiler can keep in vectors
        double partial[lanes] = {};
        const Index begin = s * segment, end = begin + segment < size ? begin + segment : size;
        const Index whole = begin + (end - begin) / lanes * lanes;
        for (Index i = begin; i < whole; i += lanes)
          for (int lane = 0; lane < lanes; ++lane) partial[lane] += summand(x(i + lane));
        for (Index i = whole; i < end; ++i) partial[i - whole] += summand(x(i));
        for (int width = lanes / 2; width > 0; width /= 2)
          for (int lane = 0; lane < width; ++lane) partial[lane] += partial[lane + width];
        sums(s) = partial[0];
      });
}

void check(const char* optimizer, const OptimizerRange& range, bool second_moment) {
  const auto size = range.w.extent(0);
  const bool right = range.g.extent(0) == size && range.m.extent(0) == size &&
                     (!second_moment || range.v.extent(0) == size) &&
                     (range.copy.extent(0) == 0 || range.copy.extent(0) == size);
  if (!right)
    throw ShapeError("{}: w [{}] does not go with g [{}], m [{}], v [{}], copy [{}]", optimizer, size,
                     range.g.extent(0), range.m.extent(0), range.v.extent(0), range.copy.extent(0));
}

/// What Adam's moments need of a step.
struct Moments {
  float scale, beta1, one_less_beta1, beta2, one_less_beta2, correction1, root_correction2, eps;

  Moments(const OptimizerConfig& config, const Update& update)
      : scale(static_cast<float>(update.gradient_scale)),
        beta1(static_cast<float>(config.beta1)),
        one_less_beta1(static_cast<float>(1 - config.beta1)),
        beta2(static_cast<float>(config.beta2)),
        one_less_beta2(static_cast<float>(1 - config.beta2)),
        correction1(static_cast<float>(1 / (1 - std::pow(config.beta1, static_cast<double>(update.step))))),
        root_correction2(static_cast<float>(
            1 / std::sqrt(1 - std::pow(config.beta2, static_cast<double>(update.step))))),
        eps(static_cast<float>(config.eps)) {}

  /// Moves both moments on and gives m^ / (sqrt(v^) + eps).
  KOKKOS_INLINE_FUNCTION float direction(float g, float& m, float& v) const {
    g *= scale;
    m = beta1 * m + one_less_beta1 * g;
    v = beta2 * v + one_less_beta2 * g * g;
    return m * correction1 / (Kokkos::sqrt(v) * root_correction2 + eps);
  }
};

/// What is left of a weight.
float kept_of(const OptimizerConfig& config, const Update& update) {
  return update.decay ? static_cast<float>(1 - update.learning_rate * config.weight_decay) : 1.0F;
}

// The update of one element, and which arrays it has to do with.
struct AdamwElement {
  static constexpr bool has_m = true, has_v = true, writes_g = false, writes_w = true;
  Moments moments;
  float rate, kept;
  KOKKOS_INLINE_FUNCTION void operator()(float& w, float& g, float& m, float& v) const {
    w = kept * w - rate * moments.direction(g, m, v);
  }
};

struct SgdElement {
  static constexpr bool has_m = true, has_v = false, writes_g = false, writes_w = true;
  float scale, momentum, rate, kept;
  KOKKOS_INLINE_FUNCTION void operator()(float& w, float& g, float& m, float&) const {
    m = momentum * m + scale * g;
    w = kept * w - rate * m;
  }
};

struct LambDirection {
  static constexpr bool has_m = true, has_v = true, writes_g = true, writes_w = false;
  Moments moments;
  float decay;
  KOKKOS_INLINE_FUNCTION void operator()(float& w, float& g, float& m, float& v) const {
    g = moments.direction(g, m, v) + decay * w;
  }
};

struct LambApply {
  static constexpr bool has_m = false, has_v = false, writes_g = false, writes_w = true;
  View1<const double> norms;
  double rate;
  KOKKOS_INLINE_FUNCTION void operator()(float& w, float& u, float&, float&) const {
    const bool trusted = norms(0) > 0 && norms(1) > 0;
    w -= static_cast<float>(trusted ? rate * Kokkos::sqrt(norms(0) / norms(1)) : rate) * u;
  }
};

/// `count` elements from `i` on. All are read before one is written, so that a compiler makes vectors of them.
template <int count, class Element>
KOKKOS_INLINE_FUNCTION void update_some(const Element& element, const OptimizerRange& range, Index i) {
  float w[count], g[count], m[count] = {}, v[count] = {};
  for (int k = 0; k < count; ++k) w[k] = range.w(i + k);
  for (int k = 0; k < count; ++k) g[k] = range.g(i + k);
  if constexpr (Element::has_m)
    for (int k = 0; k < count; ++k) m[k] = range.m(i + k);
  if constexpr (Element::has_v)
    for (int k = 0; k < count; ++k) v[k] = range.v(i + k);
  for (int k = 0; k < count; ++k) element(w[k], g[k], m[k], v[k]);
  if constexpr (Element::has_m)
    for (int k = 0; k < count; ++k) range.m(i + k) = m[k];
  if constexpr (Element::has_v)
    for (int k = 0; k < count; ++k) range.v(i + k) = v[k];
  if constexpr (Element::writes_g)
    for (int k = 0; k < count; ++k) range.g(i + k) = g[k];
  if constexpr (Element::writes_w) {
    for (int k = 0; k < count; ++k) range.w(i + k) = w[k];
    if (range.copy.extent(0) != 0)
      for (int k = 0; k < count; ++k) range.copy(i + k) = bf16(w[k]);
  }
}

template <class Element>
void update_all(const Exec& exec, const char* label, const Element& element, const OptimizerRange& range) {
  // Of one thread: a vector on hosts; on devices the threads are the lanes of a vector.
  constexpr int lanes = std::is_same_v<Memory, Kokkos::HostSpace> ? 16 : 1;
  const auto size = static_cast<Index>(range.w.extent(0));
  Kokkos::parallel_for(
      label, Indices<Exec>(exec, 0, (size + lanes - 1) / lanes), KOKKOS_LAMBDA(Index block) {
        const Index begin = block * lanes;
        if (begin + lanes <= size) {
          update_some<lanes>(element, range, begin);
        } else {
          for (Index i = begin; i < size; ++i) update_some<1>(element, range, i);
        }
      });
}

}  // namespace

void adamw(const Exec& exec, const OptimizerConfig& config, const Update& update, const OptimizerRange& range) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::adamw::step");
  check("adamw", range, true);
  const AdamwElement element{Moments(config, update), static_cast<float>(update.learning_rate),
                             kept_of(config, update)};
  update_all(exec, "grist::adamw::step", element, range);
}

void sgd(const Exec& exec, const OptimizerConfig& config, const Update& update, const OptimizerRange& range) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::sgd::step");
  check("sgd", range, false);
  const SgdElement element{static_cast<float>(update.gradient_scale), static_cast<float>(config.beta1),
                           static_cast<float>(update.learning_rate), kept_of(config, update)};
  update_all(exec, "grist::sgd::step", element, range);
}

void lamb_direction(const Exec& exec, const OptimizerConfig& config, const Update& update, const OptimizerRange& range,
                    View1<double> scratch, View1<double> norms) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::lamb::direction");
  check("lamb", range, true);
  if (norms.extent(0) != 2) throw ShapeError("lamb: norms [{}], expected [2]", norms.extent(0));
  const float decay = update.decay ? static_cast<float>(config.weight_decay) : 0.0F;
  update_all(exec, "grist::lamb::direction", LambDirection{Moments(config, update), decay}, range);
  squared_norm(exec, as_const(range.w), scratch, View1<double>(norms.data(), 1));
  squared_norm(exec, as_const(range.g), scratch, View1<double>(norms.data() + 1, 1));
}

void lamb_apply(const Exec& exec, const Update& update, const OptimizerRange& range, View1<const double> norms) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::lamb::apply");
  check("lamb", range, true);
  if (norms.extent(0) != 2) throw ShapeError("lamb: norms [{}], expected [2]", norms.extent(0));
  update_all(exec, "grist::lamb::apply", LambApply{norms, update.learning_rate}, range);
}

void squared_norm(const Exec& exec, View1<const float> x, View1<double> scratch, View1<double> result) {
  const auto region = Kokkos::Profiling::ScopedRegion("grist::optimizer::norm");
  const auto size = static_cast<Index>(x.extent(0));
  if (static_cast<Index>(scratch.extent(0)) < norm_scratch(size) || result.extent(0) != 1)
    throw ShapeError("squared_norm: scratch [{}] and result [{}], expected [{}] and [1] for x [{}]", scratch.extent(0),
                     result.extent(0), norm_scratch(size), size);
  Index count = segments_of(size);
  View1<double> sums = count == 1 ? result : View1<double>(scratch.data(), count);
  sum_segments(exec, x, sums);
  double* free = scratch.data() + count;
  while (count > 1) {
    const Index next = segments_of(count);
    const View1<double> higher = next == 1 ? result : View1<double>(free, next);
    sum_segments(exec, as_const(sums), higher);
    free += next;
    sums = higher;
    count = next;
  }
}

Index norm_scratch(Index size) {
  Index total = 0;
  for (Index count = segments_of(size); count > 1; count = segments_of(count)) total += count;
  return total;
}

}  // namespace grist::train
