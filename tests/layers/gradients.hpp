// What the tests of backward passes share: PyTorch's gradients, and central differences of a layer's own forward.
#pragma once

#include <support/files.hpp>
#include <support/views.hpp>

#include <nlohmann/json.hpp>

namespace grist::test {

/// The cases of tests/data/layers/NAME_backward.json, which tests/reference/layers_backward.py made in double precision
/// from inputs that every storage type holds.
inline std::vector<nlohmann::json> gradient_cases(const std::string& layer) {
  return nlohmann::json::parse(contents_of(data_file("layers/" + layer + "_backward.json")))
      .get<std::vector<nlohmann::json>>();
}

inline std::vector<float> floats_of(const nlohmann::json& gradient_case, const char* name) {
  return gradient_case.at(name).get<std::vector<float>>();
}

/// A gradient is a sum of terms of the size `terms` or less. It and what it is made of come from at most about 150
/// additions in float, whose roundings mostly cancel: 32 of them, then one of the storage type.
template <class T>
std::vector<Expected> gradient(const std::vector<float>& values, double terms = 1) {
  std::vector<Expected> expected;
  for (const float value : values) terms = std::max(terms, std::abs(double{value}));
  for (const float value : values)
    expected.push_back({value, 32 * float_rounding * terms + rounding<T> * 1.01 * std::abs(value)});
  return expected;
}

/// (f(x + h e_i) - f(x - h e_i)) / 2 h for every element i of x.
template <class F>
std::vector<float> central_differences(std::vector<float> x, float h, F&& f) {
  std::vector<float> differences;
  for (float& element : x) {
    const float before = element;
    element = before + h;
    const double above = f(x);
    element = before - h;
    const double below = f(x);
    element = before;
    differences.push_back(static_cast<float>((above - below) / (2 * double{h})));
  }
  return differences;
}

/// sum_i a_i b_i
inline double inner_product(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
  return sum;
}

/// What gradients are added into, in these tests.
constexpr float held_before = 0.5F;
inline std::vector<float> plus_held(std::vector<float> gradient) {
  for (float& value : gradient) value += held_before;
  return gradient;
}
inline Buffer<float> held(std::size_t size) { return on_device<float>(std::vector<float>(size, held_before)); }

}  // namespace grist::test
