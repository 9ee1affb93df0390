// Batch inference: a file of prompts, any number of replicas, a file of answers.
#pragma once

#include "draft.hpp"
#include "model_options.hpp"
#include "sampling.hpp"

#include <grist/generate/request.hpp>

#include <string>

namespace grist::cli {

struct BatchOptions {
  ModelOptionsGroup model;
  std::string prompts, output, max_walltime;
  int max_sequences = 32;   // of a replica at a time
  DraftOptions draft;
  Request otherwise;        // what a line does not say
  SamplingGroup sampling;
};

/// Answers the prompts of the file that have no answer yet, the longest first; replicas take them as they have room. A
/// line is written as soon as its answer is known. A signal or the wall time ends it with code 75: what is being
/// answered is given up, and the same command goes on, with any number of ranks. Throws as AnswerFile, read_prompts and
/// load_model.
void run_batch(Runtime& runtime, const BatchOptions& options);

}  // namespace grist::cli
