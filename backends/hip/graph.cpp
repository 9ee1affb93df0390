// HIP graphs, by capturing the stream of the execution space instance.
#include <grist/backends/hip/check.hpp>
#include <grist/backends/recorded_graph.hpp>

#include <utility>

namespace grist {
namespace {

using hip::check;

class HipRecorder {
public:
  class Recording {
  public:
    explicit Recording(hipGraphExec_t graph) : graph_(graph) {}
    Recording(Recording&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
    Recording& operator=(Recording&& other) noexcept {
      std::swap(graph_, other.graph_);
      return *this;
    }
    ~Recording() {
      if (graph_ != nullptr) (void)hipGraphExecDestroy(graph_);
    }
    void launch(const Exec& exec) const { check(hipGraphLaunch(graph_, exec.hip_stream()), "hipGraphLaunch"); }

  private:
    hipGraphExec_t graph_;
  };

  /// What cannot be captured (an allocation, a wait) ends the capture with an error: then there is no recording.
  std::optional<Recording> record(const Exec& exec, const std::function<void()>& enqueue) {
    check(hipStreamBeginCapture(exec.hip_stream(), hipStreamCaptureModeThreadLocal), "hipStreamBeginCapture");
    hipGraph_t graph = nullptr;
    bool captured = true;
    try {
      enqueue();
    } catch (...) {  // on the plain call that follows it comes again, if it was not the capture's
      captured = false;
    }
    captured = hipStreamEndCapture(exec.hip_stream(), &graph) == hipSuccess && captured;
    hipGraphExec_t executable = nullptr;
    captured = captured && hipGraphInstantiate(&executable, graph, nullptr, nullptr, 0) == hipSuccess;
    if (graph != nullptr) (void)hipGraphDestroy(graph);
    if (captured) return std::optional<Recording>(std::in_place, executable);
    (void)hipGetLastError();  // forgotten: the plain call follows
    return {};
  }
};

}  // namespace

std::unique_ptr<Graph> make_graph() { return std::make_unique<RecordedGraph<HipRecorder>>(); }

}  // namespace grist
