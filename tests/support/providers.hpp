// The GEMM provider of tests that claim bits.
#pragma once

#include <grist/backends/gemm.hpp>

#include <string>

namespace grist::test {

/// The best one with which a token has the same bits alone and in a batch; the portable one has.
inline std::string invariant_gemm() {
  for (const auto name : gemm_providers())
    if (make_gemm(name)->batch_invariant()) return std::string(name);
  return "portable";
}

}  // namespace grist::test
