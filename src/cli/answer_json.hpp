// What became of a request, as JSON.
#pragma once

#include <grist/generate/request.hpp>

#include <nlohmann/json.hpp>

namespace grist::cli {

inline nlohmann::ordered_json answer_json(const Request& request, const Completion& completion) {
  return {{"prompt_ids", request.prompt},
          {"new_ids", completion.ids},
          {"text", completion.text},
          {"finish", name_of(completion.finish)}};
}

}  // namespace grist::cli
