// The numbers that GGUF gives to the types of metadata values and of tensors.
#pragma once

#include <grist/core/format.hpp>

#include <cstdint>

namespace grist::io {

enum class ValueType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// ggml's number of a tensor type.
std::uint32_t tensor_type_of(Format format);

}  // namespace grist::io
