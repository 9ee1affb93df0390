#include <grist/report/metrics.hpp>

#include <algorithm>
#include <set>
#include <tuple>

namespace grist::report {
namespace {

using Efficiencies = std::map<std::string, std::optional<double>>;

double metric_of(const Efficiencies& efficiencies) {
  std::vector<std::optional<double>> values;
  for (const auto& [platform, efficiency] : efficiencies) values.push_back(efficiency);
  return performance_portability(values);
}

/// The better one of what was known and what is new.
void keep_best(std::optional<double>& best, std::optional<double> value) {
  if (value && (!best || *value > *best)) best = value;
}

/// How much of a platform is used, such that a smaller one is taken first.
struct Size {
  int ranks = 0, fewer_threads = 0;
  auto operator<=>(const Size&) const = default;
};
Size size_of(const Result& result) { return {result.ranks, -result.threads}; }

/// Of each problem and platform, that which most applications ran.
using Sizes = std::map<std::pair<std::string, std::string>, Size>;

Sizes sizes_of(const std::vector<Result>& results) {
  std::map<std::pair<std::string, std::string>, std::map<Size, std::set<std::string>>> runs;  // applications
  for (const Result& result : results)
    runs[{result.problem, result.platform}][size_of(result)].insert(result.application);
  Sizes sizes;
  for (const auto& [place, applications] : runs)
    sizes[place] = std::ranges::max_element(applications, {}, [](const auto& one) { return one.second.size(); })->first;
  return sizes;
}

bool counts(const Sizes& sizes, const Result& result) {
  return sizes.at({result.problem, result.platform}) == size_of(result);
}

}  // namespace

double performance_portability(std::span<const std::optional<double>> efficiencies) {
  double inverse = 0;
  for (const auto& efficiency : efficiencies) {
    if (!efficiency || !(*efficiency > 0)) return 0;
    inverse += 1 / *efficiency;
  }
  return efficiencies.empty() ? 0 : static_cast<double>(efficiencies.size()) / inverse;
}

std::vector<Portability> portability_of(const std::vector<Result>& results) {
  const Sizes sizes = sizes_of(results);
  std::map<std::string, Efficiencies> best;  // values, of each problem and platform
  for (const Result& result : results)
    if (counts(sizes, result)) keep_best(best[result.problem][result.platform], result.value);
  std::vector<Portability> all;
  for (const Result& result : results) {
    auto found = std::ranges::find_if(all, [&](const Portability& one) {
      return one.problem == result.problem && one.application == result.application;
    });
    if (found == all.end()) {
      all.push_back({.problem = result.problem, .application = result.application});
      found = all.end() - 1;
      for (const auto& [platform, value] : best[result.problem])
        found->application_efficiency[platform] = found->architectural_efficiency[platform] = std::nullopt;
    }
    if (!counts(sizes, result)) continue;
    keep_best(found->application_efficiency[result.platform],
              result.value / *best[result.problem][result.platform]);
    keep_best(found->architectural_efficiency[result.platform], result.fraction());
  }
  for (Portability& one : all) {
    one.application_metric = metric_of(one.application_efficiency);
    one.architectural_metric = metric_of(one.architectural_efficiency);
  }
  return all;
}

std::optional<double> to_best_peer(const std::vector<Result>& results, const Result& result) {
  double best = 0;
  for (const Result& other : results)
    if (other.application != result.application && comparable(other, result)) best = std::max(best, other.value);
  return best > 0 ? std::optional(result.value / best) : std::nullopt;
}

std::vector<Scaling> scaling_of(const std::vector<Result>& results) {
  std::vector<std::pair<Scaling, std::map<int, double>>> groups;
  std::vector<std::tuple<std::string, std::string, std::string, int>> keys;
  for (const Result& result : results) {
    if (result.limit_name == "mpi") continue;  // a message is the same whatever the number of ranks
    const std::tuple key(result.application, result.problem, result.platform, result.threads);
    const auto at = static_cast<std::size_t>(std::ranges::find(keys, key) - keys.begin());
    if (at == keys.size()) {
      keys.push_back(key);
      groups.push_back({{result.application, result.problem, result.platform, result.unit, {}}, {}});
    }
    double& value = groups[at].second[result.ranks];
    value = std::max(value, result.value);
  }
  std::vector<Scaling> scalings;
  for (auto& [scaling, values] : groups) {
    if (values.size() < 2 || !(values.begin()->second > 0)) continue;
    const double one = values.begin()->second / values.begin()->first;
    for (const auto& [ranks, value] : values) scaling.points.push_back({ranks, value, value / ranks / one});
    scalings.push_back(std::move(scaling));
  }
  return scalings;
}

}  // namespace grist::report
