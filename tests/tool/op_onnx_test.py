"""Every Attention, LinearAttention, RotaryEmbedding, Softmax, LayerNormalization, RMSNormalization and Gelu case of
ONNX's node tests ($TESSERA_MODELS/onnx-node-vectors) through `tessera op`, on the reference and on the device.

Tolerance, |found - expected| <= atol + rtol |expected|: F32 rtol 2e-5, atol 2e-6. The expected values were
computed in F32 themselves, with sums of up to 18 terms of size 1 and q and k each scaled by the root of the scale:
a few roundings of 6e-8, and exp2 that a device may have off by several more. F16: rtol 2e-3, atol 1e-3: the
expected values were rounded to F16 (5e-4) at every step, ours at the end alone. What is copied (present_key and
present_value) must be equal, and so must every infinity.
Attention at precision mixed on the device: q, k, weights and v may be rounded to 16 bits (5e-4 each, of scores of
size 10 at most): rtol 2e-2, atol 1e-2.
"""
import math
import os
import pathlib
import unittest

from harness import REFERENCE, ToolTest, main, on_device, read_safetensors
from onnx_case import Case, numbers, write_safetensors

MODELS = os.environ.get("TESSERA_MODELS", "")
TOLERANCE = {"F32": (2e-5, 2e-6), "F16": (2e-3, 1e-3)}
MIXED = {"F32": (2e-2, 1e-2), "F16": (2e-2, 1e-2)}

# ONNX's op -> ours, names of inputs and outputs in ONNX's order. Mean and InvStdDev are for training.
OPS = {
    "Attention": ("attention", ["Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"],
                  ["Y", "present_key", "present_value", "qk_matmul_output"]),
    "LinearAttention": ("linear_attention", ["query", "key", "value", "past_state", "decay", "beta"],
                        ["output", "present_state"]),
    "RotaryEmbedding": ("rotary_embedding", ["X", "cos_cache", "sin_cache", "position_ids"], ["Y"]),
    "Softmax": ("softmax", ["input"], ["output"]),
    "LayerNormalization": ("layer_norm", ["X", "Scale", "B"], ["Y", None, None]),
    "RMSNormalization": ("rms_norm", ["X", "scale"], ["Y"]),
    "Gelu": ("activation", ["X"], ["Y"]),
}
PREFIXES = {"attention": 64, "linear_attention": 14, "rotary_embedding": 8, "softmax": 7, "layer_normalization": 19,
            "rms_normalization": 19, "gelu": 4}


def settings(case):
    if case.op == "Gelu":
        tanh = case.attributes.get("approximate", "none") == "tanh"
        return ["act=gelu_tanh" if tanh else "act=gelu_erf"]
    return [f"{name}={value}" for name, value in case.attributes.items() if name != "stash_type"]


def difference(expected, found, tolerance):
    """The worst element past its tolerance, or None. Both: (type, shape, bytes)."""
    if expected[:2] != found[:2]:
        return f"{found[:2]}, not {expected[:2]}"
    rtol, atol = tolerance[expected[0]]
    for i, (want, got) in enumerate(zip(numbers(expected[0], expected[2]), numbers(found[0], found[2]))):
        if want == got:
            continue
        if math.isinf(want) or not abs(want - got) <= atol + rtol * abs(want):
            return f"element {i} is {got}, not {want}"
    return None


@unittest.skipUnless(MODELS, "TESSERA_MODELS is not set: no node tests of ONNX")
class Onnx(ToolTest):
    def check(self, case, device, more, tolerance):
        op, input_names, output_names = OPS[case.op]
        inputs, out = self.folder / "in.safetensors", self.folder / "out.safetensors"
        write_safetensors(inputs, {n: t for n, t in zip(input_names, case.inputs) if t})
        arguments = ["op", op, "--in", inputs, "--out", out, *device]
        for setting in settings(case) + more:
            arguments += ["--set", setting]
        wanted = {n: t for n, t in zip(output_names, case.outputs) if t and n}
        for name in wanted:
            arguments += ["--output", name]
        self.ok(*arguments)
        found = read_safetensors(out)
        self.assertLessEqual(wanted.keys(), found.keys())
        for name, expected in wanted.items():
            if name in ("present_key", "present_value"):
                self.assertEqual(found[name], expected, name)
            self.assertIsNone(difference(expected, found[name], tolerance), name)

    def check_all(self, device, prefixes=PREFIXES, more=(), tolerance=TOLERANCE):
        folder = pathlib.Path(MODELS) / "onnx-node-vectors"
        for prefix, least in prefixes.items():
            cases = sorted(folder.glob(f"test_{prefix}*"))
            self.assertGreaterEqual(len(cases), least, prefix)
            for path in cases:
                with self.subTest(path.name):
                    self.check(Case(path), device, list(more), tolerance)

    def test_reference(self):
        self.check_all(REFERENCE)

    def test_device(self):
        self.check_all(on_device())

    def test_device_mixed(self):
        self.check_all(on_device(), {"attention": 64}, ["precision=mixed"], MIXED)


if __name__ == "__main__":
    main()
