// The pictures of a report, each an SVG element of its own.
#pragma once

#include <grist/report/metrics.hpp>
#include <grist/report/results.hpp>

#include <string>
#include <vector>

namespace grist::report {

/// "41.2 t/s", "3.1 GB/s".
std::string per_second(double value, const std::string& unit);

/// A bar for each result, with its value and the ratio to the best comparable peer: of the limit, where all results of
/// its problem have one, else of the best. One picture of all problems.
std::string bars(const std::vector<Result>& results);
/// The same with a picture for each problem, which a page may break between.
std::vector<std::string> bars_by_problem(const std::vector<Result>& results);

/// FLOP per second over FLOP per byte, with the roofs that the results' machines had (Williams et al. 2009); one for
/// each platform and number of ranks with results to show.
std::vector<std::string> rooflines(const std::vector<Result>& results);

/// Parallel efficiency over ranks, a line for each. Empty where there are none.
std::string scaling_plot(const std::vector<Scaling>& scalings);

/// Of one problem (`all`, of one problem alone): efficiency of each application on its platforms, best first, which
/// platform that is, and its performance portability (Sewall et al. 2020).
std::string cascade(const std::vector<Portability>& all);
/// Whether the cascade's efficiencies are architectural: all results have limits.
bool is_architectural(const std::vector<Portability>& all);

}  // namespace grist::report
