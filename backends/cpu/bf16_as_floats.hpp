// Which of Highway's targets multiplies bf16 as floats; asked where HWY_TARGET is set.
#pragma once

/// Intel's, whose products of bf16 by vectors take twice as long as two of float
/// (docs/decisions/2026-11-27-bf16-as-floats.md).
#define GRIST_BF16_AS_FLOATS (HWY_TARGET == HWY_AVX3_SPR)
