#include <grist/backends/gemm.hpp>

#include <grist/core/errors.hpp>

namespace grist {

// Each provider's folder defines its own make_NAME_gemm; CMake lists those that were found.
#define GRIST_PROVIDER(name) std::unique_ptr<Gemm> make_##name##_gemm();
#include "gemm_providers.def"
#undef GRIST_PROVIDER

namespace {
struct Provider {
  std::string_view name;
  std::unique_ptr<Gemm> (*make)();
};
#define GRIST_PROVIDER(name) {#name, make_##name##_gemm},
constexpr Provider providers[] = {
#include "gemm_providers.def"
};
#undef GRIST_PROVIDER
}  // namespace

std::vector<std::string_view> gemm_providers() {
  std::vector<std::string_view> names;
  for (const auto& provider : providers) names.push_back(provider.name);
  return names;
}

std::unique_ptr<Gemm> make_gemm(std::string_view name) {
  if (name == "auto") return providers[0].make();
  std::string known = "auto";
  for (const auto& provider : providers) {
    if (provider.name == name) return provider.make();
    known += std::format(", {}", provider.name);
  }
  throw UsageError("GEMM provider '{}' is not in this build; it has: {}", name, known);
}

}  // namespace grist
