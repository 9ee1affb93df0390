// CUDA graphs, by capturing the stream of the execution space instance.
#include <grist/backends/cuda/check.hpp>
#include <grist/backends/recorded_graph.hpp>

#include <utility>

namespace grist {
namespace {

using cuda::check;

class CudaRecorder {
public:
  class Recording {
  public:
    explicit Recording(cudaGraphExec_t graph) : graph_(graph) {}
    Recording(Recording&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
    Recording& operator=(Recording&& other) noexcept {
      std::swap(graph_, other.graph_);
      return *this;
    }
    ~Recording() {
      if (graph_ != nullptr) (void)cudaGraphExecDestroy(graph_);
    }
    void launch(const Exec& exec) const { check(cudaGraphLaunch(graph_, exec.cuda_stream()), "cudaGraphLaunch"); }

  private:
    cudaGraphExec_t graph_;
  };

  /// What cannot be captured (an allocation, a wait) ends the capture with an error: then there is no recording.
  std::optional<Recording> record(const Exec& exec, const std::function<void()>& enqueue) {
    check(cudaStreamBeginCapture(exec.cuda_stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    cudaGraph_t graph = nullptr;
    bool captured = true;
    try {
      enqueue();
    } catch (...) {  // on the plain call that follows it comes again, if it was not the capture's
      captured = false;
    }
    captured = cudaStreamEndCapture(exec.cuda_stream(), &graph) == cudaSuccess && captured;
    cudaGraphExec_t executable = nullptr;
    captured = captured && cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess;
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    if (captured) return std::optional<Recording>(std::in_place, executable);
    (void)cudaGetLastError();  // forgotten: the plain call follows
    return {};
  }
};

}  // namespace

std::unique_ptr<Graph> make_graph() { return std::make_unique<RecordedGraph<CudaRecorder>>(); }

}  // namespace grist
