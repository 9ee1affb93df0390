// What results of several platforms and numbers of ranks say together.
//   application efficiency   : value / best value of any application for the problem on as much of the platform
//   architectural efficiency : value / limit of the platform (`fraction`)
//   performance portability  : harmonic mean of the efficiencies over a set of platforms, 0 where the application does
//                              not run on one of them (Pennycook, Sewall, Lee 2016)
//   parallel efficiency      : (value on r ranks / r) / (value on the fewest / the fewest)
#pragma once

#include <grist/report/results.hpp>

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace grist::report {

/// Of the efficiencies on each platform of a set, nothing where an application does not run. 0 for an empty set.
double performance_portability(std::span<const std::optional<double>> efficiencies);

/// The efficiencies of one application for one problem.
struct Portability {
  std::string problem, application;
  std::map<std::string, std::optional<double>> application_efficiency{}, architectural_efficiency{};  // of platforms
  double application_metric = 0, architectural_metric = 0;
};
/// Of all applications for all problems, over the platforms that any of them ran the problem on. On a platform results
/// of one number of ranks and of threads count alone, so that more of a machine is never taken for a better program:
/// that which most applications ran, of several the one with the fewest ranks, then with the most threads. An
/// application without a result there does not run there. Of several results the best counts. In the order of the
/// results.
std::vector<Portability> portability_of(const std::vector<Result>& results);

/// Value / best value of other applications' comparable results; nothing where there is none, or it is 0.
std::optional<double> to_best_peer(const std::vector<Result>& results, const Result& result);

struct ScalingPoint {
  int ranks;
  double value;
  double efficiency;
};
/// Results that differ in their ranks alone (application, problem, platform and threads of a rank are equal), two or
/// more, by ranks. Of several on as many ranks, as by several layouts, the best counts.
struct Scaling {
  std::string application, problem, platform, unit;
  std::vector<ScalingPoint> points;
};
std::vector<Scaling> scaling_of(const std::vector<Result>& results);

}  // namespace grist::report
