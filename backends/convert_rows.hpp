// Rows of a weight as numbers of another type: what a library multiplies where it does not know their format.
#pragma once

#include <grist/core/weight.hpp>

namespace grist {

/// to [rows, columns] = as many rows of a panel from `first` on, each number rounded once. X is float or bf16. Of an
/// interleaved panel X is bf16, and `first` and the rows are multiples of interleaved_rows.
template <class X>
void convert_rows(const Exec& exec, const Panel& panel, Index first, View2<X> to);

/// The same number by number: what devices run, and hosts for what they have no better code for.
template <class X>
void convert_rows_plain(const Exec& exec, const Panel& panel, Index first, View2<X> to);

}  // namespace grist
