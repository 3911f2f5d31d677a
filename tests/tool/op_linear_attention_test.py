"""Linear and Linformer attention against PyTorch in float64 (tools/goldens/linear_attention.py) through `tessera op`, on
the reference and on the device; and a sequence in two calls against one.

Tolerance, |found - expected| <= atol + rtol |expected|: states are sums of up to 50 products of normal numbers, outputs
of up to 90: with magnitudes below 100, roundings of 6e-8 add up to 5e-5 at worst and mostly to far less: rtol 2e-5, atol
2e-5. F16 and BF16 outputs are rounded once more (5e-4, 4e-3).
"""
import json
import struct
import unittest

from harness import REFERENCE, ROOT, ToolTest, main, on_device, read_safetensors
from onnx_case import write_safetensors
from op_attention_test import difference

GOLDEN = ROOT / "tests/data/linear_attention_golden.safetensors"


def cases():
    """name -> (op, settings, inputs, outputs)."""
    content, tensors = GOLDEN.read_bytes(), read_safetensors(GOLDEN)
    (length,) = struct.unpack_from("<Q", content)
    out = {}
    for name, text in json.loads(content[8:8 + length])["__metadata__"].items():
        case = json.loads(text)
        out[name] = (case["op"], case["set"], *({n: tensors[key] for n, key in case[side].items()} for side in ("in", "out")))
    return out


def part(tensor, first, end):
    """Rows [first, end) of (batch, len, columns)."""
    kind, (batch, rows, columns), content = tensor
    row = len(content) // (batch * rows)
    of_batch = [content[(b * rows + first) * row:(b * rows + end) * row] for b in range(batch)]
    return kind, [batch, end - first, columns], b"".join(of_batch)


class Golden(ToolTest):
    def op(self, op, inputs, settings, wanted, device):
        given, out = self.folder / "in.safetensors", self.folder / "out.safetensors"
        write_safetensors(given, inputs)
        arguments = ["op", op, "--in", given, "--out", out, *device]
        for setting in settings:
            arguments += ["--set", setting]
        for name in wanted:
            arguments += ["--output", name]
        self.ok(*arguments)
        return read_safetensors(out)

    def check_all(self, device):
        everything = cases()
        self.assertGreaterEqual(len(everything), 50)
        for name, (op, settings, inputs, outputs) in everything.items():
            with self.subTest(name):
                found = self.op(op, inputs, settings, outputs, device)
                self.assertLessEqual(outputs.keys(), found.keys())
                for output, expected in outputs.items():
                    self.assertIsNone(difference(expected, found[output], 2e-5, 2e-5), output)

    def test_reference(self):
        self.check_all(REFERENCE)

    def test_device(self):
        self.check_all(on_device())

    # Wherever it is cut.
    def test_two_calls(self):
        rows = ("query", "key", "value", "decay", "beta")
        states = {"past_state": "present_state", "past_normaliser": "present_normaliser"}
        for name in ("linear_long", "gated_long", "delta_long", "gated_delta_long", "elu_plus_one_gated"):
            op, settings, inputs, outputs = cases()[name]
            length = inputs["query"][1][1]
            for cut in (1, 16, length - 1):
                with self.subTest(name, cut=cut):
                    halves, given = [], inputs
                    for first, end in ((0, cut), (cut, length)):
                        call = {n: part(t, first, end) if n in rows else t for n, t in given.items()}
                        halves.append(self.op(op, call, settings, outputs, on_device()))
                        given = {n: halves[0][states[n]] if n in states else t for n, t in inputs.items()}
                    for at, (first, end) in enumerate(((0, cut), (cut, length))):
                        expected = part(outputs["output"], first, end)
                        self.assertIsNone(difference(expected, halves[at]["output"], 2e-5, 2e-5))
                    self.assertIsNone(difference(outputs["present_state"], halves[1]["present_state"], 2e-5, 2e-5))


if __name__ == "__main__":
    main()
