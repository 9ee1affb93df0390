// Between the host's vectors, where tests make and judge numbers, and the device's Views, where kernels work.
#pragma once

#include <grist/core/philox.hpp>
#include <grist/core/view.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace grist::test {

/// Relative error of one rounding: of float, in which every kernel sums, and of a storage type.
constexpr double float_rounding = 0x1p-24;
template <class T>
constexpr double rounding = std::is_same_v<T, float> ? 0x1p-24 : std::is_same_v<T, bf16> ? 0x1p-8 : 0x1p-11;

/// Normal deviates that depend on the name alone.
inline std::vector<float> normals(std::string_view name, Index size, float scale = 1) {
  const PhiloxStream stream{17, hash_name(name)};
  std::vector<float> values(static_cast<std::size_t>(size));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto words = stream.at(i);
    values[i] = scale * normal_pair(words.word[0], words.word[1]).first;
  }
  return values;
}

/// The values as T stores them.
template <class T>
std::vector<float> stored(std::vector<float> values) {
  for (float& value : values) value = static_cast<float>(T(value));
  return values;
}

template <class T>
using HostView = Kokkos::View<T*, Kokkos::HostSpace, Kokkos::MemoryUnmanaged>;

template <class T, class From>
Buffer<T> on_device(const std::vector<From>& values) {
  std::vector<T> converted;
  converted.reserve(values.size());
  for (const From value : values) converted.push_back(T(value));
  Buffer<T> buffer("test", static_cast<Index>(values.size()));
  Kokkos::deep_copy(buffer.view(), HostView<const T>(converted.data(), converted.size()));
  return buffer;
}

/// Waits for the device; rows of a matrix follow each other. double stays as it is, all else becomes float.
template <class T, class Value = std::conditional_t<std::is_same_v<T, double>, double, float>>
std::vector<Value> on_host(const Buffer<T>& buffer) {
  std::vector<T> copied(static_cast<std::size_t>(buffer.size()));
  Kokkos::fence("grist::test: results for the host");
  Kokkos::deep_copy(HostView<T>(copied.data(), copied.size()), buffer.view());
  std::vector<Value> values;
  values.reserve(copied.size());
  for (const T value : copied) values.push_back(static_cast<Value>(value));
  return values;
}

/// What a result should be, and how far from it rounding may bring a correct one.
struct Expected {
  double value = 0;
  double bound = 0;
};

/// The largest error as a fraction of its bound: a correct result gives 1 at most. Infinite where a value is not finite
/// or the sizes differ.
inline double worst_error(const std::vector<float>& actual, const std::vector<Expected>& expected) {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  if (actual.size() != expected.size() || expected.empty()) return infinite;
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected[i].value);
    if (!(error <= std::numeric_limits<float>::max())) return infinite;
    if (error > 0) worst = std::max(worst, error / expected[i].bound);
  }
  return worst;
}

/// A precision is bounded from both sides: a result of 16-bit storage that has no error of such storage was computed in
/// float. Of a hundred values or more, the largest of their roundings comes near half a unit.
template <class T>
void expect_rounded_to(const std::vector<float>& actual, const std::vector<Expected>& expected, double at_least = 0.5) {
  if (rounding<T> == float_rounding) return;
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected[i].value);
    largest = std::max(largest, error / (rounding<T> * std::abs(expected[i].value)));
  }
  EXPECT_GT(largest, at_least) << "no value is rounded as its storage type does";
}

}  // namespace grist::test
