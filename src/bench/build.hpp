// What this program was built with.
#pragma once

#include <string>

namespace grist::bench {

struct BuildFacts {
  std::string compiler;  // "GNU 14.2.0"
  std::string kokkos;    // "5.0.2"
  std::string onednn;    // "3.7"; empty where it was left out
};
BuildFacts build_facts();

}  // namespace grist::bench
