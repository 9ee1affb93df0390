// The pipeline order as a value: what a stage does in one step, and when. Tested without ranks, walked by one executor.
//   GPipe        (Huang et al. 2019)      : all forward passes, then all backward ones
//   1F1B         (Narayanan et al. 2019)  : as soon as a micro-batch has come back, one forward for each backward
//   interleaved  (Narayanan et al. 2021)  : 1F1B over several chunks of layers on each stage, as Megatron-LM orders it
// Chunk c of stage s is virtual stage c * stages + s: its output goes on to the next virtual stage, which lies on the
// next stage (after the last, on the first).
#pragma once

#include <vector>

namespace grist::train {

struct Action {
  enum Kind { forward, backward, recv_x, send_y, recv_dy, send_dx };
  Kind kind;
  int micro_batch;
  int chunk;
  bool operator==(const Action&) const = default;
};

enum class Pipeline { gpipe, one_f_one_b, interleaved };

/// The actions of one stage. A transfer stands as early as its data are there, at the same place among the transfers of
/// both ends: all lists are cuttings of one order of all stages, in which a transfer is one event. So they cannot
/// deadlock even where a send waits for its receive, and messages between two stages match in order without tags. An
/// executor may start receives and sends where they stand, and wait for them where the data or the memory are used.
/// Where there is one stage its chunks hand over in memory: no transfers. Throws UsageError where a number is below 1.
std::vector<Action> gpipe(int stage, int stages, int micro_batches);
std::vector<Action> one_f_one_b(int stage, int stages, int micro_batches);
/// Throws UsageError too where micro_batches is no multiple of stages. One chunk: as 1F1B.
std::vector<Action> interleaved(int stage, int stages, int chunks, int micro_batches);
/// `chunks` is 1 but for interleaved.
std::vector<Action> pipeline_actions(Pipeline pipeline, int stage, int stages, int chunks, int micro_batches);

/// The stage at the other end of a transfer.
int peer_of(Action::Kind kind, int stage, int stages);

/// The most (micro-batch, chunk) whose forward pass waits for its backward: what memory is planned for.
int live_micro_batches(const std::vector<Action>& actions);

}  // namespace grist::train
