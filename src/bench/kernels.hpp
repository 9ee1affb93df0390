// A handful of kernels alone, each against the roofline of the bytes that it must move and the FLOPs of its formula.
// benchmarks/kernels has all of them.
#pragma once

#include <grist/bench/result.hpp>
#include <grist/comm/communicator.hpp>
#include <grist/model/spec.hpp>

#include <functional>
#include <optional>
#include <string_view>

namespace grist::bench {

/// Sizes that kernels are run at.
struct KernelSizes {
  Index hidden = 2048, intermediate = 5632;  // by default those of a LLaMA model of 1.1 B parameters
  int heads = 32, kv_heads = 4, head_dim = 64;
};
/// Of the model's first layer.
KernelSizes sizes_of(const ModelSpec& spec);

/// Of all ranks at the same time, as `machine` was measured. matvec at 1 and 8 tokens, the provider's product at 512,
/// attention's decode after 4096 tokens and prefill of 512, RMSNorm of 512 rows (against the triad). `take` gets each
/// test. T: of activations and weights.
template <class T>
void measure_kernels(const Exec& exec, const Communicator& ranks, const Machine& machine, const KernelSizes& sizes,
                     std::string_view gemm, int repetitions, const std::function<void(const Test&)>& take);

}  // namespace grist::bench
