// Recording and replaying, as far as devices do not differ in it.
#pragma once

#include <grist/backends/graph.hpp>

#include <map>
#include <optional>

namespace grist {

/// Recorder::Recording launches what it recorded: void launch(const Exec&);
/// Recorder::record(exec, enqueue) gives one as std::optional, empty where the device could not record; nothing has run
/// then. The first call with a key runs plainly, so that what is made at first use is made outside of a recording.
template <class Recorder>
class RecordedGraph final : public Graph {
public:
  explicit RecordedGraph(Recorder recorder = {}) : recorder_(std::move(recorder)) {}

  void run(const Exec& exec, const std::vector<Index>& key, const std::function<void()>& enqueue) override {
    const auto found = recordings_.find(key);
    if (found == recordings_.end()) {
      if (recordings_.size() >= most_recordings) recordings_.clear();
      recordings_.emplace(key, Entry{});
      return enqueue();
    }
    Entry& entry = found->second;
    if (!entry.tried) {
      entry.tried = true;
      entry.recording = recorder_.record(exec, enqueue);
    }
    if (entry.recording)
      entry.recording->launch(exec);
    else
      enqueue();
  }

private:
  struct Entry {
    bool tried = false;
    std::optional<typename Recorder::Recording> recording;
  };
  static constexpr std::size_t most_recordings = 64;
  Recorder recorder_;
  std::map<std::vector<Index>, Entry> recordings_;
};

}  // namespace grist
