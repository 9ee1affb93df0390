"""tests/data/quantize: the blocks that ggml makes of some rows of numbers.

values.f32 [rows, 512]; q8_0.bin ... the rows as ggml_quantize_chunk of libggml writes them (without an importance
matrix: what llama-quantize calls). gguf-py is asked for Q8_0, Q4_0 and Q5_0 too, and must agree.
"""
import ctypes

import gguf
import numpy
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize

from common import DATA

FOLDER = DATA / "quantize"
TYPES = (Type.Q8_0, Type.Q4_0, Type.Q5_0, Type.Q4_K, Type.Q6_K)
COLUMNS = 512


def rows():
    rng = numpy.random.default_rng(7)
    normal = lambda scale: rng.standard_normal(COLUMNS) * scale
    ties = rng.integers(-127, 128, COLUMNS) / 2
    spike = normal(1e-3)
    spike[::97] = 3
    holes = normal(0.1)
    holes[32:96] = 0       # zero groups beside others
    holes[256:] = 0        # a zero block
    small = normal(0.02)
    small[:32] *= 1e-4     # a group whose scale is nothing beside the others'
    return numpy.stack([normal(0.02), normal(1), rng.standard_cauchy(COLUMNS), abs(normal(0.05)), -abs(normal(0.05)),
                        normal(0.1) + 0.3, numpy.full(COLUMNS, 0.7), numpy.full(COLUMNS, -0.7), ties, spike, holes,
                        small, normal(1e-7), normal(1e-12), normal(1e-17)]).astype(numpy.float32)


def ggml_blocks(library, values, kind):
    out = numpy.zeros((len(values), COLUMNS // gguf.GGML_QUANT_SIZES[kind][0] * gguf.GGML_QUANT_SIZES[kind][1]),
                      numpy.uint8)
    written = library.ggml_quantize_chunk(int(kind), values.ctypes.data_as(ctypes.c_void_p),
                                          out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0),
                                          ctypes.c_int64(len(values)), ctypes.c_int64(COLUMNS), None)
    assert written == out.nbytes
    return out


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    library = ctypes.CDLL("libggml-base.so.0")
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    values = rows()
    values.astype("<f4").tofile(FOLDER / "values.f32")
    for kind in TYPES:
        blocks = ggml_blocks(library, values, kind)
        if kind in (Type.Q8_0, Type.Q4_0, Type.Q5_0):
            assert (quantize(values, kind) == blocks).all(), kind
        blocks.tofile(FOLDER / f"{kind.name.lower()}.bin")
