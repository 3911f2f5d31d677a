#!/usr/bin/env python3
"""Writes tests/data/quants.bin: floats and what the `gguf` package encodes and decodes them to, and for the
types that it only decodes, bytes of every kind.

Layout, little-endian: u32 number of cases; per case u32 type (DType of src/base/dtype.h), u32 number of
elements n, u32 number of inputs (n, or 0: decoded only), f32 inputs, u32 encoded bytes, those bytes, n f32 decoded.

    pip install gguf numpy && python3 tools/goldens/quants.py

With --check, the program `tessera` converts a model of random and awkward rows to each type, and its bytes are
compared with the package's:

    python3 tools/goldens/quants.py --check build/apps/tessera --rows 20000 --seed 7
"""

import argparse
import pathlib
import struct
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

BLOCKS = {3: T.Q8_0, 4: T.Q4_0, 7: T.Q4_1, 8: T.Q5_0, 9: T.Q5_1}
PLAIN = {1: T.F16, 2: T.BF16}
READ_ONLY = {10: T.Q4_K, 11: T.Q5_K, 12: T.Q6_K}
TYPES = {**PLAIN, **BLOCKS, **READ_ONLY}
OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "quants.bin"

# Where the f16 fields of a block are, in bytes.
HALVES = {
    T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
}


def inputs(rng):
    """Rows of a multiple of 32 floats that end up in each corner of the formats."""
    normal = rng.standard_normal(320).astype(np.float32)
    yield normal
    yield normal * np.float32(0.02)
    yield normal * np.float32(1e-6)  # f16 subnormal scales
    yield normal * np.float32(1e-12)  # scales that are zero as f16
    yield normal * np.float32(1e-38)  # scales that are subnormal as f32: some inverses overflow
    yield normal * np.float32(3000)
    yield rng.integers(-130, 131, 256).astype(np.float32) / 2  # ties, equal extremes of both signs
    yield rng.integers(-8, 9, 256).astype(np.float32)
    yield rng.integers(0, 63, 256).astype(np.float32) / 2 + np.float32(1)  # ties of formats with a minimum
    yield np.zeros(32, np.float32)
    yield np.full(32, -0.0, np.float32)
    yield np.full(32, -2.5, np.float32)
    spike = np.zeros(64, np.float32)
    spike[31], spike[32] = 1, -1
    yield spike
    yield from not_storable()


def not_storable():
    """What `convert` refuses, but the package gives bytes for."""
    ramp = np.linspace(-1, 1, 32).astype(np.float32)
    for bad in ([np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [1e30], [3.4e38, -3.4e38], [np.nan, np.inf]):
        row = ramp.copy()
        row[5 : 5 + len(bad)] = bad
        yield row


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


def contents(rng, kind):
    """Blocks whose scales are of every kind, over random, lowest and highest quants."""
    size = gguf.GGML_QUANT_SIZES[kind][1]
    scales = np.array([0, 0x8000, 1, 0x83FF, 0x0400, 0x2E66, 0xAE66, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00], "<u2")
    blocks = rng.integers(0, 256, (len(scales) + 2, size), dtype=np.uint8)
    blocks[-2], blocks[-1] = 0, 255
    for place, at in enumerate(HALVES[kind]):
        usual = np.array([0x2A00, 0xA900], "<u2")
        halves = np.concatenate([np.roll(scales, 5 * place), usual])
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(-1, 2)
    return blocks.tobytes()


def encoded(values, kind):
    with np.errstate(all="ignore"):
        return gguf.quants.quantize(values, kind).view(np.uint8).tobytes()


def decoded(data, kind):
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(np.frombuffer(data, np.uint8), kind).astype("<f4")


def write_goldens():
    rng = np.random.default_rng(20)
    cases = [(number, row, encoded(row, kind)) for number, kind in BLOCKS.items() for row in inputs(rng)]
    cases += [(number, row, encoded(row, kind)) for number, kind in PLAIN.items() for row in [scalars(rng)]]
    none = np.zeros(0, np.float32)
    cases += [(number, none, contents(rng, kind)) for number, kind in {**BLOCKS, **READ_ONLY}.items()]
    with OUT.open("wb") as out:
        out.write(struct.pack("<I", len(cases)))
        for number, row, data in cases:
            back = decoded(data, TYPES[number])
            assert row.size in (0, back.size)
            out.write(struct.pack("<III", number, back.size, row.size) + row.astype("<f4").tobytes())
            out.write(struct.pack("<I", len(data)) + data + back.tobytes())


def random_rows(rng, count, columns):
    """Finite rows, each of one kind: subnormal to huge, ties, equal values, sparse ones, zeros of one sign."""
    rows = rng.standard_normal((count, columns)).astype(np.float32)
    rows *= np.exp2(rng.uniform(-149, 14, (count, 1))).astype(np.float32)
    kind = rng.integers(0, 8, count)
    rows[kind == 1] = np.round(rows[kind == 1] / 8) / 2
    ties = rng.integers(-64, 65, rows.shape).astype(np.float32) / 2
    rows[kind == 2] = ties[kind == 2] * np.exp2(rng.integers(-20, 5, (count, 1)).astype(np.float32))[kind == 2]
    rows[kind == 3] = rows[kind == 3, :1]
    rows[kind == 4] *= rng.random((np.sum(kind == 4), columns)) < 0.05
    rows[kind == 5] = np.abs(rows[kind == 5]) + np.float32(1)
    rows[kind == 6] *= np.exp2(rng.integers(-30, 1, (np.sum(kind == 6), columns))).astype(np.float32)
    # Of zeros of both signs in one block, which one is the minimum depends on the vectors of the host.
    rows[rows == 0] = 0
    rows[kind == 7] = np.where(rng.random((np.sum(kind == 7), 1)) < 0.1, np.float32(-0.0), rows[kind == 7])
    return np.clip(rows, -60000, 60000)


def check(program, count, seed):
    rows = random_rows(np.random.default_rng(seed), count, 256)
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder, "rows.gguf")
        writer = gguf.GGUFWriter(source, "rows")
        writer.add_tensor("rows", rows)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        for kind in [T.F32, *PLAIN.values(), *BLOCKS.values()]:
            path = pathlib.Path(folder, "out.gguf")
            command = [program, "convert", source, path, "--type", kind.name]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            [tensor] = gguf.GGUFReader(path).tensors
            assert tensor.tensor_type == kind
            wanted = encoded(rows, kind)
            if tensor.data.tobytes() != wanted:
                got = tensor.data.view(np.uint8).ravel() != np.frombuffer(wanted, np.uint8)
                elems, size = gguf.GGML_QUANT_SIZES[kind]
                block = int(np.argmax(got)) // size
                values = rows.ravel()[block * elems : (block + 1) * elems]
                sys.exit(f"{kind.name}: block {block} differs; its values are {values.tolist()}")
            print(f"{kind.name}: {rows.size} values, {len(wanted)} bytes alike")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", metavar="TESSERA", help="compare this program's `convert`; nothing is written")
    parser.add_argument("--rows", type=int, default=20000, help="of 256 values (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the rows (%(default)s)")
    args = parser.parse_args()
    if args.check:
        check(args.check, args.rows, args.seed)
    else:
        write_goldens()


if __name__ == "__main__":
    main()
