// Results for the tests of reports.
#pragma once

#include <grist/report/results.hpp>

namespace grist::report {

inline Result result(const std::string& application, const std::string& problem, const std::string& platform,
                     double value, std::optional<double> limit = {}, int ranks = 1) {
  Result r;
  r.application = application, r.problem = problem, r.platform = platform, r.unit = "tokens";
  r.value = value, r.limit = limit, r.ranks = ranks, r.threads = 2;
  return r;
}

}  // namespace grist::report
