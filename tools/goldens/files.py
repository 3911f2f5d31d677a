#!/usr/bin/env python3
"""Writes small model files with other people's writers, for the readers' tests:
tests/data/package.gguf (the `gguf` package), tests/data/package.safetensors (the `safetensors` package).

    pip install gguf numpy safetensors && python3 tools/goldens/files.py
"""

import pathlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from safetensors.numpy import save_file

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"


def write_gguf():
    writer = gguf.GGUFWriter(DATA / "package.gguf", "llama")
    writer.add_uint8("t.u8", 200)
    writer.add_int8("t.i8", -100)
    writer.add_uint16("t.u16", 60000)
    writer.add_int16("t.i16", -30000)
    writer.add_uint32("t.u32", 4000000000)
    writer.add_int32("t.i32", -2000000000)
    writer.add_uint64("t.u64", 2**63 + 1)
    writer.add_int64("t.i64", -(2**62))
    writer.add_float32("t.f32", 0.1)
    writer.add_float64("t.f64", 0.1)
    writer.add_bool("t.bool", True)
    writer.add_string("t.string", "h\u00e9llo")
    writer.add_array("t.ints", [1, -2, 3])
    writer.add_array("t.floats", [0.5, -1.5])
    writer.add_array("t.strings", ["a", "", "\u4e2d"])
    writer.add_array("t.bools", [True, False])
    rows = (np.arange(128, dtype=np.float32).reshape(2, 64) - 60) / 8
    writer.add_tensor("f32", rows)
    writer.add_tensor("f16", rows.astype(np.float16))
    for kind in (T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1):
        writer.add_tensor(kind.name.lower(), gguf.quants.quantize(rows, kind), raw_dtype=kind)
    for kind in (T.Q4_K, T.Q5_K, T.Q6_K, T.Q3_K):  # nothing here quantises to these
        blocks = np.arange(3 * gguf.GGML_QUANT_SIZES[kind][1], dtype=np.uint8).reshape(3, -1)
        writer.add_tensor(kind.name.lower(), blocks, raw_dtype=kind)
    writer.add_tensor("cube", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors():
    tensors = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.arange(4, dtype=np.float16),
        "ids": np.arange(3, dtype=np.uint32),
        "long": np.arange(2, dtype=np.int64),
        "scalar": np.array(2.5, np.float32),
    }
    save_file(tensors, DATA / "package.safetensors", metadata={"format": "np", "note": "h\u00e9llo"})


if __name__ == "__main__":
    write_gguf()
    write_safetensors()
