"""Attention beyond ONNX's cases against PyTorch in float64 (tools/goldens/attention.py,
attention_structure.py) through `tessera op`, on the
reference and on the device, at each precision; and users' functions against flex_attention (attention_user.py), on the
device in its own form and in those for GPUs.

Tolerance, |found - expected| <= atol + rtol |expected|. f32: scores of up to 512 terms are sums of magnitude below
30, off by 512 roundings of 6e-8 at most and mostly by far less, and so are the weights relative to themselves: rtol
2e-5, atol 5e-6. mixed: q, k, weights and v may be rounded to 16 bits (5e-4 each, of scores of size 10): rtol 2e-2,
atol 1e-2; bfloat16 is 8 times coarser. F16 and BF16 outputs are rounded once more (5e-4, 4e-3). The reference sums
in float64, and is held to the tolerance of f32 at both precisions.
"""
import json
import math
import struct
import unittest

from harness import REFERENCE, ROOT, ToolTest, main, on_device, read_safetensors
from onnx_case import write_safetensors

GOLDENS = [ROOT / f"tests/data/{name}.safetensors" for name in ("attention_golden", "attention_structure_golden")]
USERS = ROOT / "tests/data/attention_user_golden.safetensors"
ROUNDED = {"F32": 0, "F16": 1e-3, "BF16": 8e-3}


def floats(kind, content):
    if kind == "BF16":
        words = struct.unpack(f"<{len(content) // 2}H", content)
        return struct.unpack(f"<{len(words)}f", b"".join(struct.pack("<I", w << 16) for w in words))
    return struct.unpack(f"<{len(content) // 4}f" if kind == "F32" else f"<{len(content) // 2}e", content)


def cases(goldens):
    """name -> (arguments, inputs, outputs). Tensors of a file have no strides: those cases are for tests in C++."""
    out = {}
    for golden in goldens:
        content, tensors = golden.read_bytes(), read_safetensors(golden)
        (length,) = struct.unpack_from("<Q", content)
        for name, text in json.loads(content[8:8 + length])["__metadata__"].items():
            case = json.loads(text)
            if "strides" in case:
                continue
            inputs, outputs = ({n: tensors[key] for n, key in case[side].items()} for side in ("in", "out"))
            arguments = [f"--set={setting}" for setting in case.get("set", [])]
            arguments += [f"--{text}={case[text]}" for text in ("score", "mask") if case.get(text)]
            out[name] = (arguments, inputs, outputs)
    return out


def difference(expected, found, rtol, atol):
    if expected[:2] != found[:2]:
        return f"{found[:2]}, not {expected[:2]}"
    rtol, atol = rtol + ROUNDED[expected[0]], atol + ROUNDED[expected[0]] / 10
    for i, (want, got) in enumerate(zip(floats(expected[0], expected[2]), floats(found[0], found[2]))):
        if want != got and (math.isinf(want) or not abs(want - got) <= atol + rtol * abs(want)):
            return f"element {i} is {got}, not {want}"
    return None


class Golden(ToolTest):
    def check(self, name, case, device, precision, tolerance):
        own, inputs, outputs = case
        given, out = self.folder / "in.safetensors", self.folder / "out.safetensors"
        write_safetensors(given, inputs)
        arguments = ["op", "attention", "--in", given, "--out", out, *device, "--set", f"precision={precision}", *own]
        for output in outputs:
            arguments += ["--output", output]
        self.ok(*arguments)
        found = read_safetensors(out)
        self.assertEqual(outputs.keys(), found.keys())
        for output, expected in outputs.items():
            self.assertIsNone(difference(expected, found[output], *tolerance), output)

    def check_all(self, device, precision, rtol, atol):
        everything = cases(GOLDENS)
        self.assertGreaterEqual(len(everything), 150)
        for name, case in everything.items():
            with self.subTest(name):
                coarser = 8 if any(t[0] == "BF16" for t in case[1].values()) and precision == "mixed" else 1
                self.check(name, case, device, precision, (coarser * rtol, coarser * atol))

    def test_reference(self):
        self.check_all(REFERENCE, "f32", 2e-5, 5e-6)
        self.check_all(REFERENCE, "mixed", 2e-5, 5e-6)

    def test_device(self):
        self.check_all(on_device(), "f32", 2e-5, 5e-6)

    def test_device_mixed(self):
        self.check_all(on_device(), "mixed", 2e-2, 1e-2)

    def test_users_functions(self):
        if "--score" not in self.ok("op", "--help").text:
            self.skipTest("built without tessera_glsl")
        everything = cases([USERS])
        self.assertGreaterEqual(len(everything), 15)
        for device in (on_device(), [*on_device(), "--cap", "software=0"]):
            for name, case in everything.items():
                with self.subTest(name, device=device):
                    self.check(name, case, device, "f32", (2e-5, 5e-6))


if __name__ == "__main__":
    main()
