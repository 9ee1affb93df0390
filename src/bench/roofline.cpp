#include <grist/bench/roofline.hpp>

#include <grist/core/errors.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace grist::bench {
namespace {

double seconds_of(const char* what, double amount, double rate) {
  if (amount == 0) return 0;
  if (!(rate > 0)) throw InternalError("the {} rate of this machine is {}: nothing can be measured by it", what, rate);
  return amount / rate;
}

}  // namespace

Limit roofline(const Work& work, const Rates& rates) {
  const double reading = seconds_of("read", work.bytes, rates.bytes),
               multiplying = seconds_of("gemm", work.flops, rates.flops);
  return multiplying > reading ? Limit{multiplying, "gemm"} : Limit{reading, "read"};
}

double message_seconds(Message message, double bytes, int ranks, double latency, double bandwidth) {
  const double others = (ranks - 1.0) / ranks;
  const double factor = message == Message::send ? 1 : message == Message::all_gather ? others : 2 * others;
  return latency + seconds_of("message", factor * bytes, bandwidth);
}

Statistics statistics(std::span<const double> values) {
  Statistics result;
  const auto count = static_cast<double>(values.size());
  if (values.empty()) return result;
  for (const double value : values) result.mean += value / count;
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  result.median = (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
  if (values.size() < 2) return result;
  for (const double value : values) result.deviation += (value - result.mean) * (value - result.mean) / (count - 1);
  result.deviation = std::sqrt(result.deviation);
  return result;
}

}  // namespace grist::bench
