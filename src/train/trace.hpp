// A Chrome trace (chrome://tracing, ui.perfetto.dev): what each rank did when. A process is a rank, a thread is a lane.
//   "Trace Event Format", complete events ("ph": "X"), times in microseconds
#pragma once

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

namespace grist::train {

enum class Lane { compute, communication, data, checkpoint };

class Trace {
public:
  using Clock = std::chrono::steady_clock;

  /// Times count from now: make it on all ranks behind one barrier. `title` names the rank, as "rank 3: dp 0, pp 1".
  Trace(int rank, const std::string& title);

  /// `detail` is shown when the event is chosen, as "micro-batch 3, chunk 0".
  void add(Lane lane, const std::string& name, Clock::time_point begin, Clock::time_point end,
           const std::string& detail = {});

  /// This rank's events as text, to be gathered at the end: JSON objects with commas between them.
  [[nodiscard]] std::string events() const;

private:
  int rank_;
  Clock::time_point origin_ = Clock::now();
  std::vector<std::string> events_;
};

/// The file from the events() of all ranks. Throws InputError where it cannot be written.
void write_trace(const std::filesystem::path& file, const std::vector<std::string>& events_of_ranks);

}  // namespace grist::train
