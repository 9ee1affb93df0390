// The options of a request that a line of a file of prompts may set, by the names that they have there.
#pragma once

#include <grist/generate/request.hpp>

#include <type_traits>

namespace grist::cli {

/// visit(name, member) for each of them: numbers, truth values, a list of texts.
template <class R, class Visit>
  requires std::is_same_v<std::remove_cvref_t<R>, Request>
void for_each_option(R&& request, Visit&& visit) {
  visit("max_new_tokens", request.max_new_tokens);
  visit("temperature", request.sampling.temperature);
  visit("top_k", request.sampling.top_k);
  visit("top_p", request.sampling.top_p);
  visit("min_p", request.sampling.min_p);
  visit("repetition_penalty", request.sampling.repetition_penalty);
  visit("seed", request.sampling.seed);
  visit("stop", request.stop);
  visit("ignore_eos", request.ignore_eos);
}

}  // namespace grist::cli
