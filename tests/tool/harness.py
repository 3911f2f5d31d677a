"""Runs the command-line tool as a user does, and reads what it writes. Standard library only.

TESSERA_TOOL          the program
TESSERA_SANITIZE      sanitizers it was built with: no limit on address space then
TESSERA_TEST_DEVICE   the device of tests that run on one ("none": they skip; unset: the best there is)
TESSERA_TEST_CAPS     name=value,...: lowered limits for them
"""
import array
import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = os.environ.get("TESSERA_TOOL", str(ROOT / "build/tessera"))
BUNDLED = ROOT / "models/tessera-tiny.gguf"
RANDOM = ROOT / "tests/data/qwen2_random.gguf"
MODEL = str(BUNDLED if BUNDLED.exists() else RANDOM)
SANITIZED = os.environ.get("TESSERA_SANITIZE", "") != ""
PROMPT = "Once upon a time there was a house by the sea, and in it"
REFERENCE = ["--device", "reference"]


def on_device(large=False):
    """Options that choose the device under test; large: with bindings as large as it really has."""
    device = os.environ.get("TESSERA_TEST_DEVICE", "")
    if device == "none":
        raise unittest.SkipTest("TESSERA_TEST_DEVICE=none")
    options = ["--device", device] if device else []
    for cap in filter(None, os.environ.get("TESSERA_TEST_CAPS", "").split(",")):
        if not (large and cap.startswith("max_storage_range=")):
            options += ["--cap", cap]
    return options


class Result:
    def __init__(self, process):
        self.status = process.returncode
        self.out = process.stdout
        self.err = process.stderr.decode()

    @property
    def text(self):
        return self.out.decode()  # strict: a broken character fails the test

    @property
    def json(self):
        return json.loads(self.out)


class ToolTest(unittest.TestCase):
    maxDiff = 2000
    program, name = TOOL, "tessera"  # name: what its errors begin with

    @classmethod
    def setUpClass(cls):
        cls.folder_ = tempfile.TemporaryDirectory(prefix="tessera tool ")  # paths have spaces
        cls.folder = pathlib.Path(cls.folder_.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder_.cleanup()

    def environment(self, extra):
        env = {**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache"), **extra}
        if SANITIZED:
            # The tool's end unloads the driver, whose own leaks then have no name left to suppress. Leaks of
            # the library are looked for in the tests of the rooms, which keep drivers loaded.
            env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        return env

    def run_tool(self, *args, stdin=b"", env={}, memory=None, cwd=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if memory and not SANITIZED:
                resource.setrlimit(resource.RLIMIT_AS, (memory, memory))

        process = subprocess.run([self.program, *map(str, args)], input=stdin, capture_output=True, timeout=600,
                                 env=self.environment(env), preexec_fn=limit, cwd=cwd or self.folder)
        return Result(process)

    def start(self, *args, env={}):
        return subprocess.Popen([self.program, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.environment(env), cwd=self.folder)

    def ok(self, *args, **options):
        result = self.run_tool(*args, **options)
        self.assertEqual(result.status, 0, result.err)
        return result

    def refused(self, *args, says="", status=1, **options):
        """One line on standard error, nothing on standard output."""
        result = self.run_tool(*args, **options)
        self.assertEqual(result.status, status, f"{args}: {result.err}")
        self.assertRegex(result.err, rf"\A{self.name}: [^\n]{{8,1020}}\n\Z", args)
        self.assertIn(says, result.err, args)
        self.assertEqual(result.out, b"", args)
        return result

    def generate(self, *args, model=MODEL, device=REFERENCE, **options):
        return self.ok("generate", "-m", model, *device, *args, **options)

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path


def read_safetensors(path):
    """name -> (dtype, shape, bytes)."""
    content = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8:8 + length])
    header.pop("__metadata__", None)
    data = content[8 + length:]
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}


def read_logits(path):
    """Rows of the tensor `logits`."""
    dtype, (positions, vocab), content = read_safetensors(path)["logits"]
    assert dtype == "F32" and len(content) == positions * vocab * 4
    values = array.array("f")
    values.frombytes(content)
    if sys.byteorder == "big":
        values.byteswap()
    return [values[p * vocab:(p + 1) * vocab] for p in range(positions)]


def gguf_string(text):
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text


def gguf(metadata=(), tensors=(), magic=b"GGUF", version=3, tensor_count=None, kv_count=None, data=b""):
    """A GGUF file, true or lying. metadata: (key, type, bytes); tensors: (name, dims, type, offset)."""
    out = magic + struct.pack("<IQQ", version, len(tensors) if tensor_count is None else tensor_count,
                              len(metadata) if kv_count is None else kv_count)
    for key, kind, value in metadata:
        out += gguf_string(key) + struct.pack("<I", kind) + value
    for name, dims, kind, offset in tensors:
        out += gguf_string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
        out += struct.pack("<IQ", kind, offset)
    return out + b"\0" * (-len(out) % 32) + data


def with_u32(content, key, value):
    """A copy of a GGUF file with another value of a u32."""
    at = content.index(gguf_string(key)) + 8 + len(key)
    assert struct.unpack_from("<I", content, at) == (4,), "not a u32"
    return content[:at + 4] + struct.pack("<I", value) + content[at + 8:]


def main():
    unittest.main(verbosity=2)
