// A report as one file.
#pragma once

#include <grist/report/results.hpp>

#include <string>
#include <vector>

namespace grist::report {

/// An HTML page, which is well-formed XML too: programs, machines, results as bars and as a table, rooflines, scaling,
/// performance portability. It needs no other file, no script and no network; it reads on a phone and on paper.
std::string page(const std::vector<Result>& results);

/// CSV with the columns of p3-analysis-library (date, fom, application, problem, platform) and test, unit, ranks,
/// n_threads, stddev_ts, repetitions, limit, limit_name, fraction, best_peer_ratio, file. What is not known is empty,
/// or 0 of deviation and repetitions. read_results() takes it.
std::string csv(const std::vector<Result>& results);

}  // namespace grist::report
