// grist info --train: what a training run would take of each rank, without running.
#pragma once

#include "verbs.hpp"

namespace grist::cli {

/// Adds the options of `grist train` to the verb, and those that say what a node is.
void add_training_info(CLI::App& verb, Action& action);

}  // namespace grist::cli
