#!/usr/bin/env python3
"""Writes tests/data/quants.bin: floats, and what the `gguf` package encodes and decodes them to.

Layout, little-endian: u32 number of cases; per case u32 type (DType of src/base/dtype.h), u32 n, n f32 inputs,
u32 encoded bytes, those bytes, n f32 decoded.

    pip install gguf numpy && python3 tools/goldens/quants.py
"""

import pathlib
import struct

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

TYPES = {1: T.F16, 2: T.BF16, 3: T.Q8_0, 4: T.Q4_0}
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "quants.bin"


def inputs(rng):
    """Rows of a multiple of 32 finite floats that end up in each corner of the formats."""
    normal = rng.standard_normal(320).astype(np.float32)
    yield normal
    yield normal * np.float32(0.02)
    yield normal * np.float32(1e-6)  # f16 subnormal scales
    yield normal * np.float32(1e-12)  # scales that are zero as f16
    yield normal * np.float32(3000)
    yield rng.integers(-130, 131, 256).astype(np.float32) / 2  # ties, equal extremes of both signs
    yield rng.integers(-8, 9, 256).astype(np.float32)
    yield np.zeros(32, np.float32)
    yield np.full(32, -0.0, np.float32)
    spike = np.zeros(64, np.float32)
    spike[31], spike[32] = 1, -1
    yield spike


def scalars(rng):
    """For the plain types: every kind of f32, ties and both sides of every f16 boundary included."""
    edges = [0.0, -0.0, 1.0, 65504, 65519.996, 65520, 65536, 3.4e38, np.inf, -np.inf, 2**-14, 2**-24, 2**-25]
    edges += [2**-26, 1e-45, -1e-45, 1.1754942e-38, 3 * 2.0**-25, 2**-14 - 2**-25, 1 + 2**-11, 1 + 3 * 2**-11]
    edges += [1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20]
    halves = np.arange(0, 0x7C00, 127, dtype=np.uint16).view(np.float16).astype(np.float32)
    halfway = (halves[:-1] + halves[1:]) / 2
    bits = rng.integers(0, 2**32, 800, dtype=np.uint64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        values = np.concatenate([np.array(edges, np.float32), halves, halfway, bits])
    return np.concatenate([values[~np.isnan(values)], np.array([np.nan], np.float32)])


def encoded(values, kind):
    with np.errstate(all="ignore"):
        return gguf.quants.quantize(values, kind).view(np.uint8).tobytes()


def main():
    rng = np.random.default_rng(20)
    cases = [(number, row) for number in (3, 4) for row in inputs(rng)]
    cases += [(number, scalars(rng)) for number in (1, 2)]
    with OUT.open("wb") as out:
        out.write(struct.pack("<I", len(cases)))
        for number, row in cases:
            data = encoded(row, TYPES[number])
            with np.errstate(all="ignore"):
                back = gguf.quants.dequantize(np.frombuffer(data, np.uint8), TYPES[number]).astype(np.float32)
            assert back.size == row.size
            out.write(struct.pack("<II", number, row.size) + row.astype("<f4").tobytes())
            out.write(struct.pack("<I", len(data)) + data + back.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
