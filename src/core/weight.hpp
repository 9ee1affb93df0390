// A weight matrix in the memory that kernels work in, in the format of its file.
#pragma once

#include <grist/core/format.hpp>
#include <grist/core/view.hpp>

namespace grist {

/// Rows of one format, each in whole blocks, one after the other or interleaved. Of a weight with experts: `rows` of
/// the first expert, then as many of the second, and so on.
struct Panel {
  Format format = Format::f32;
  Index rows = 0;
  const void* data = nullptr;
  bool interleaved = false;  // by sixteen rows (interleaved_rows.hpp), of which there is a multiple
};

/// [experts, rows, columns]: the rows of all panels one after the other. Fused projections (q|k|v, gate|up) are several
/// panels, whose formats may differ. Owns nothing; plain enough to be passed into kernels by value.
struct Weight {
  static constexpr int most_panels = 3;
  Index rows = 0;
  Index columns = 0;
  Index experts = 1;
  int panels = 0;
  Panel panel[most_panels] = {};

  Weight() = default;
  Weight(Index columns_, Index experts_) : columns(columns_), experts(experts_) {}
  /// A matrix of plain numbers.
  template <class T>
  Weight(View2<const T> w) : Weight(static_cast<Index>(w.extent(1)), 1) {
    add({format_of(dtype_of<T>), static_cast<Index>(w.extent(0)), w.data()});
  }
  template <class T>
  Weight(View2<T> w) : Weight(as_const(w)) {}

  /// Appends rows. Throws ShapeError where the columns are not whole blocks, InternalError beyond most_panels.
  void add(const Panel& more) {
    if (panels == most_panels) throw InternalError("a weight has at most {} panels", most_panels);
    if (const Index block = block_of(more.format).elements; columns % block != 0)
      throw ShapeError("a weight of {} columns is stored as {}, whose blocks hold {}", columns, name_of(more.format),
                       block);
    panel[panels++] = more;
    rows += more.rows;
  }

  /// An empty weight stands for one that a model lacks.
  [[nodiscard]] bool empty() const { return panels == 0; }
};

inline Index bytes_of(const Weight& weight) {
  Index bytes = 0;
  for (int p = 0; p < weight.panels; ++p)
    bytes += weight.experts * weight.panel[p].rows * row_bytes(weight.panel[p].format, weight.columns);
  return bytes;
}

}  // namespace grist
