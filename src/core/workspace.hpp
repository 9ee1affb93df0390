// Scratch memory for layers: one arena, taken and given back in scopes, so that warm calls allocate nothing.
#pragma once

#include <grist/core/view.hpp>

#include <cstddef>
#include <string_view>

namespace grist {

/// An arena of device memory. Its size is planned by the caller; asking for more than is left throws MemoryError.
/// With GRIST_WORKSPACE_POISON=1 every piece is filled with NaN when taken, so that a read before a write shows.
/// One that counts has no memory: its pieces are null, and peak() is what an arena for the same pieces needs. So the
/// code that takes buffers is the memory plan too.
class Workspace {
public:
  Workspace() = default;
  explicit Workspace(std::size_t bytes);
  static Workspace counting();

  /// Gives back, at the end of a scope, all that was taken in it.
  class Scope {
  public:
    explicit Scope(Workspace& workspace) : workspace_(workspace), mark_(workspace.used_) {}
    ~Scope() { workspace_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

  private:
    Workspace& workspace_;
    std::size_t mark_;
  };

  template <class T>
  View1<T> take(const Exec& exec, std::string_view name, Index size) {
    return View1<T>(static_cast<T*>(take_bytes(exec, name, bytes_for<T>(size))), size);
  }
  template <class T>
  View2<T> take(const Exec& exec, std::string_view name, Index rows, Index columns) {
    return View2<T>(static_cast<T*>(take_bytes(exec, name, bytes_for<T>(rows * columns))), rows, columns);
  }
  template <class T>
  View3<T> take(const Exec& exec, std::string_view name, Index n0, Index n1, Index n2) {
    return View3<T>(static_cast<T*>(take_bytes(exec, name, bytes_for<T>(n0 * n1 * n2))), n0, n1, n2);
  }

  /// Bytes that a piece of `size` elements takes up, padding included: for planning.
  template <class T>
  static constexpr std::size_t bytes_for(Index size) {
    const std::size_t bytes = static_cast<std::size_t>(size) * sizeof(T);
    return (bytes + alignment - 1) / alignment * alignment;
  }

  [[nodiscard]] std::size_t used() const { return used_; }
  /// The most that was used at once.
  [[nodiscard]] std::size_t peak() const { return peak_; }
  [[nodiscard]] std::size_t capacity() const { return static_cast<std::size_t>(arena_.size()); }

private:
  static constexpr std::size_t alignment = 256;  // counted from the arena's begin
  void* take_bytes(const Exec& exec, std::string_view name, std::size_t bytes);

  Buffer<std::byte> arena_;
  std::size_t used_ = 0;
  std::size_t peak_ = 0;
  bool counting_ = false;
  bool poison_ = false;
};

}  // namespace grist
