// Rows of a weight as numbers of another type: what a library multiplies where it does not know their format.
#pragma once

#include <grist/core/weight.hpp>

namespace grist {

/// to [rows, columns] = as many rows, in whole blocks of a format, each number rounded once. X is float or bf16.
template <class X>
void convert_rows(const Exec& exec, Format format, const void* rows, View2<X> to);

/// The same number by number: what devices run, and hosts for what they have no better code for.
template <class X>
void convert_rows_plain(const Exec& exec, Format format, const void* rows, View2<X> to);

}  // namespace grist
