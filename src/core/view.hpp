// The Views that layers and collectives take: contiguous, LayoutRight, unmanaged, in the default memory space.
// Owned memory is a Buffer or comes from a Workspace; neither is passed to a kernel, a View of it is.
#pragma once

#include <grist/core/dtype.hpp>
#include <grist/core/errors.hpp>

#include <Kokkos_Core.hpp>
#include <Kokkos_Profiling_ScopedRegion.hpp>

#include <cstdint>
#include <stdexcept>
#include <string>

namespace grist {

using Exec = Kokkos::DefaultExecutionSpace;
using Memory = Exec::memory_space;
using HostExec = Kokkos::DefaultHostExecutionSpace;

/// Extents and index products are 64 bits wide: tokens x vocabulary passes 2^31.
using Index = std::int64_t;

/// Of a kernel over indices; Kokkos' own default counts in 32 bits on devices.
template <class Space>
using Indices = Kokkos::RangePolicy<Space, Kokkos::IndexType<Index>>;

template <class Data, class Space = Memory>
using View = Kokkos::View<Data, Kokkos::LayoutRight, Space, Kokkos::MemoryTraits<Kokkos::Unmanaged>>;
template <class T>
using View1 = View<T*>;
template <class T>
using View2 = View<T**>;
template <class T>
using View3 = View<T***>;

/// Owned memory of one type, not initialised. Throws MemoryError where `Space` has not so much.
template <class T, class Space = Memory>
class Buffer {
public:
  Buffer() = default;
  Buffer(const std::string& label, Index size) {
    try {
      memory_ =
          Owned(Kokkos::view_alloc(Kokkos::WithoutInitializing, "grist::" + label), static_cast<std::size_t>(size));
    } catch (const std::runtime_error& error) {  // what Kokkos throws where an allocation fails
      throw MemoryError("{}: {} bytes of {} memory are wanted, and not so many are free ({})", label,
                        static_cast<std::size_t>(size) * sizeof(T), Space::name(), error.what());
    }
  }

  [[nodiscard]] Index size() const { return static_cast<Index>(memory_.extent(0)); }
  [[nodiscard]] T* data() const { return memory_.data(); }
  [[nodiscard]] View<T*, Space> view() const { return View<T*, Space>(memory_.data(), memory_.extent(0)); }
  [[nodiscard]] View<T**, Space> view(Index rows, Index columns) const {
    return View<T**, Space>(memory_.data(), rows, columns);
  }

private:
  using Owned = Kokkos::View<T*, Kokkos::LayoutRight, Space>;
  Owned memory_;
};

/// Kernels take const Views; this spells the conversion once.
template <class T>
View1<const T> as_const(View1<T> v) { return v; }
template <class T>
View2<const T> as_const(View2<T> v) { return v; }
template <class T>
View3<const T> as_const(View3<T> v) { return v; }

}  // namespace grist
