// Between a View and the host: its own memory where the host reaches it, else a pinned copy.
#pragma once

#include <grist/core/view.hpp>

#include <algorithm>
#include <limits>

namespace grist {

/// Whether host code may read what kernels write.
inline constexpr bool host_reaches_memory = Kokkos::SpaceAccessibility<Kokkos::HostSpace, Memory>::accessible;

/// Memory that grows to what is asked for and is kept from call to call: allocating it costs more than using it.
template <class Space>
class Reserve {
public:
  /// Room for `size` elements, valid until the next call. Where it must grow it doubles, but not beyond `most`, as many
  /// as anybody will ask for.
  template <class T>
  T* room(Index size, Index most = std::numeric_limits<Index>::max() / sizeof(T)) {
    const Index bytes = size * static_cast<Index>(sizeof(T));
    if (memory_.size() < bytes) {
      const Index doubled = std::min(2 * memory_.size(), most * static_cast<Index>(sizeof(T)));
      const Index grown = std::max(bytes, doubled);
      memory_ = {};  // what was there is given back first
      memory_ = {"reserve", grown};
    }
    return reinterpret_cast<T*>(memory_.data());
  }

private:
  Buffer<std::byte, Space> memory_;
};

/// One View at a time in host memory. With `direct` it is the View's own memory that is handed out, which then must be
/// in reach of whoever asks.
class Staging {
public:
  explicit Staging(bool direct = host_reaches_memory) : direct_(direct) {}

  /// Host memory of the View's size, for values that `store` brings into it.
  template <class T>
  T* room(View1<T> view) {
    return direct_ ? view.data() : pinned_.room<T>(static_cast<Index>(view.size()));
  }

  /// The View's values. What was enqueued on exec before has been waited for.
  template <class T>
  const T* load(const Exec& exec, View1<const T> view) {
    exec.fence("grist::staging: the View is complete");
    if (direct_) return view.data();
    const Host<T> host(pinned_.room<T>(static_cast<Index>(view.size())), view.size());
    Kokkos::deep_copy(exec, host, view);
    exec.fence("grist::staging: the View is in host memory");
    return host.data();
  }

  /// Brings what was written into `room` into the View, in the order of exec.
  template <class T>
  void store(const Exec& exec, View1<T> view) {
    if (!direct_) Kokkos::deep_copy(exec, view, Host<T>(pinned_.room<T>(static_cast<Index>(view.size())), view.size()));
  }

private:
  template <class T>
  using Host = View<T*, Kokkos::SharedHostPinnedSpace>;

  bool direct_;
  Reserve<Kokkos::SharedHostPinnedSpace> pinned_;
};

}  // namespace grist
