// Log-likelihoods of continuations by a real model are those of transformers.
#include "generate/facts.hpp"

namespace {

using namespace grist;

TEST(RealLogLikelihood, IsThatOfTransformers) {
  if (!std::filesystem::exists(test::smollm2_file())) GTEST_SKIP() << "no " << test::smollm2_file();
  test::expect_facts("smollm2", test::smollm2_file(), 5e-3, test::ranks() > 1 ? 6 : 100);
}

}  // namespace
