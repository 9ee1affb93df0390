// The least time that work can take on a machine, by what was measured of it: what results are fractions of.
//   roofline : seconds = max(bytes / read bandwidth, FLOP / GEMM rate)              (Williams et al. 2009)
//   messages : seconds = latency + bytes that a rank must send / bandwidth          (Chan et al. 2007)
//              of n bytes on p ranks: send n; all_gather of n in all (p - 1) / p n; all_reduce 2 (p - 1) / p n
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace grist::bench {

struct Work {
  double flops = 0;
  double bytes = 0;  // that must be read
};
inline Work operator*(double times, const Work& work) { return {times * work.flops, times * work.bytes}; }

/// Per second, of all ranks together.
struct Rates {
  double flops = 0;
  double bytes = 0;
};

struct Limit {
  double seconds = 0;
  std::string name;  // of what sets it: "read" or "gemm"
};

/// Throws InternalError where a rate that the work needs is not positive.
Limit roofline(const Work& work, const Rates& rates);

enum class Message { send, all_gather, all_reduce };
/// Of `bytes` in all, on so many ranks; `latency` in seconds, `bandwidth` in bytes per second.
double message_seconds(Message message, double bytes, int ranks, double latency, double bandwidth);

/// Mean, sample deviation (Bessel's: n - 1; 0 of one value) and median (of an even count the mean of the middle two).
struct Statistics {
  double mean = 0;
  double deviation = 0;
  double median = 0;
};
Statistics statistics(std::span<const double> values);

}  // namespace grist::bench
