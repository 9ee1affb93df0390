// What transformers computes with the models under tests/data/tiny (tests/reference/README.md tells the file's form).
#pragma once

#include "files.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <span>
#include <string>
#include <vector>

namespace grist::test {

/// One prompt of a model. Matrices are row-major, a row of logits for each position.
struct GoldenCase {
  std::vector<int> ids;
  std::vector<float> logits;  // [ids, vocabulary]
  std::vector<int> greedy_ids;
  std::vector<float> greedy_logits;  // [t, vocabulary]: after greedy_ids[t]
  double bf16_error = 0;             // of torch in bfloat16, as a fraction of the logits' range
};

/// `list`: "cases", or "cached_cases" for those whose rope table changes as the cache grows; empty where there are
/// none.
inline std::vector<GoldenCase> read_golden(const std::string& model, const char* list = "cases") {
  const auto json = nlohmann::json::parse(contents_of(data_file("tiny/" + model + "/golden.json")));
  const auto floats = floats_of(data_file("tiny/" + model + "/" + json.at("file").get<std::string>()));
  const auto part = [&](const nlohmann::json& place) {
    std::size_t size = 1;
    for (const std::size_t extent : place.at("shape")) size *= extent;
    const auto begin = floats.begin() + place.at("offset").get<std::ptrdiff_t>();
    return std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(size));
  };
  std::vector<GoldenCase> cases;
  for (const auto& c : json.value(list, nlohmann::json::array())) {
    cases.push_back(
        {c.at("ids"), part(c.at("logits")), c.at("greedy_ids"), part(c.at("greedy_logits")), c.at("bf16_error")});
  }
  return cases;
}

/// Row `row` of a matrix with so many columns.
inline std::span<const float> row_of(std::span<const float> matrix, std::size_t row, std::size_t columns) {
  return matrix.subspan(row * columns, columns);
}

/// A test of a model by its name.
inline std::string name_of_test(const testing::TestParamInfo<const char*>& tested) { return tested.param; }

}  // namespace grist::test
