// Collectives alone, over message sizes.
#pragma once

#include <grist/bench/result.hpp>
#include <grist/comm/communicator.hpp>

#include <functional>

namespace grist::bench {

/// all_reduce, all_gather and a message there and back between the first two ranks, of 4 KiB to 16 MiB of floats;
/// `take` gets each test. Collective over two or more ranks.
void measure_messages(const Exec& exec, const Communicator& ranks, const Machine& machine, int repetitions,
                      const std::function<void(const Test&)>& take);

}  // namespace grist::bench
