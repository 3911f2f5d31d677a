"""tessera inspect, tokenize, convert; help; files that lie. Each bad one: one line, a status, no crash, little memory."""
import os
import pathlib
import pty
import random
import resource
import signal
import struct
import subprocess

from harness import (MODEL, PROMPT, RANDOM, REFERENCE, TOOL, ToolTest, gguf, gguf_string, main, with_u32)

GIB = 1 << 30
COMMANDS = ["generate", "translate", "devices", "verify", "inspect", "tokenize", "convert", "op"]


class Help(ToolTest):
    def test_every_command_teaches_by_example(self):
        for command in COMMANDS:
            result = self.ok(command, "--help")
            self.assertEqual(result.err, "")
            self.assertRegex(result.text, rf"Examples?:\n  tessera {command}")
            for line in result.text.splitlines():
                self.assertLessEqual(len(line), 110, line)

    def test_program(self):
        self.assertRegex(self.ok("--version").text, r"\Atessera \d+\.\d+\.\d+\n\Z")
        overview = self.ok("--help").text
        for command in COMMANDS:
            self.assertIn(command, overview)
        self.refused(status=2, says="--help")
        self.refused("no-such-command", status=2, says="--help")
        self.refused("inspect", status=2, says="--help")


class Inspect(ToolTest):
    def test_json(self):
        out = self.ok("inspect", MODEL, "--json").json
        self.assertEqual((out["kind"], out["version"]), ("GGUF", 3))
        self.assertEqual(out["bytes"], pathlib.Path(MODEL).stat().st_size)
        self.assertIn("general.architecture", out["metadata"])
        self.assertEqual(set(out["tensors"][0]), {"name", "type", "shape", "offset", "bytes"})
        whole = self.ok("inspect", MODEL, "--json", "--full").json["metadata"]
        self.assertEqual(len(whole["tokenizer.ggml.tokens"]), len(whole["tokenizer.ggml.token_type"]))

    def test_table(self):
        text = self.ok("inspect", MODEL).text
        self.assertIn("general.architecture", text)
        self.assertIn("token_embd.weight", text)


class Tokenize(ToolTest):
    def test_there_and_back(self):
        text = "Once upon a time.\n  Two  spaces, 123, don't; naïve \u4e2d"
        out = self.ok("tokenize", "-m", MODEL, text, "--json").json
        self.assertEqual(list(out), ["ids", "pieces", "text"])
        self.assertEqual(len(out["ids"]), len(out["pieces"]))
        plain = self.ok("tokenize", "-m", MODEL, "--no-special", text, "--json").json
        self.assertEqual(plain["text"].lstrip(" "), text)
        lines = self.ok("tokenize", "-m", MODEL, "The sea").text.split("\n")
        self.assertEqual(lines[0], " ".join(map(str, self.ok("tokenize", "-m", MODEL, "The sea", "--json").json["ids"])))
        self.assertEqual(self.ok("tokenize", "-m", MODEL, stdin=b"The sea").text.split("\n"), lines)
        path = self.write("text", b"The sea")
        self.assertEqual(self.ok("tokenize", "-m", MODEL, "--file", path).text.split("\n"), lines)

    def test_bytes_that_are_no_text(self):
        result = self.run_tool("tokenize", "-m", MODEL, "--json", stdin=b"a\xff\xfeb\0c")
        self.assertIn(result.status, (0, 1))
        result.text


class Convert(ToolTest):
    def test_round_trip(self):
        for kind in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
            path = self.folder / f"{kind}.gguf"
            self.ok("convert", MODEL, path, "--type", kind)
            types = {t["type"] for t in self.ok("inspect", path, "--json").json["tensors"]}
            self.assertIn(kind, types)
            self.assertLessEqual(types, {kind, "F32", "F16"})
            self.assertEqual(len(self.generate(PROMPT, "-n", 3, "--ignore-eos", "--json", model=path).json["ids"]), 3)
        again = self.folder / "again.gguf"
        self.ok("convert", self.folder / "F32.gguf", again, "--type", "F32")
        self.assertEqual(self.generate(PROMPT, "-n", 8, model=again).text,
                         self.generate(PROMPT, "-n", 8, model=self.folder / "F32.gguf").text)

    def test_refusals(self):
        out = self.folder / "refused.gguf"
        self.refused("convert", MODEL, out, "--type", "Q9_9", says="'Q9_9' is not one of F32, ")
        self.refused("convert", MODEL, out, "--type", "q4_k", says="Q4_K is read, but not written")
        self.refused("convert", MODEL, "/no/such/folder/x.gguf", "--type", "F16", says="/no/such/folder")
        self.refused("convert", self.folder / "absent.gguf", out, "--type", "F16", says="absent.gguf")
        self.refused("convert", MODEL, out, status=2)
        bad = self.write("short.gguf", pathlib.Path(MODEL).read_bytes()[:-64])
        self.refused("convert", bad, out, "--type", "F16")
        self.assertFalse(out.exists())
        values = [1.0] * 64
        values[35] = float("nan")
        nan = self.write("nan.gguf", gguf(tensors=[("w", (32, 2), 0, 0)], data=struct.pack("<64f", *values)))
        line = self.refused("convert", nan, out, "--type", "Q5_1", says='tensor "w" row 1 column 3: nan').err
        self.assertIn("nan.gguf", line)
        self.assertEqual([p.name for p in self.folder.glob("refused*")], [])

    def test_report(self):
        path = self.folder / "report.gguf"
        tensors = self.ok("inspect", MODEL, "--json").json["tensors"]
        text = self.ok("convert", MODEL, path, "--type", "q5_0").text
        self.assertRegex(text, r"report\.gguf: weights of .*, were .*\n(.*\n)*Q5_0 +\d+ tensors")
        report = self.ok("convert", MODEL, path, "--type", "q5_0", "--json").json
        self.assertEqual((report["in"], report["out"]), (MODEL, str(path)))
        self.assertEqual([(t["name"], t["from"], t["bytes_in"]) for t in report["tensors"]],
                         [(t["name"], t["type"], t["bytes"]) for t in tensors])
        made = {t["name"]: t for t in self.ok("inspect", path, "--json").json["tensors"]}
        for t in report["tensors"]:
            self.assertEqual((t["to"], t["bytes_out"]), (made[t["name"]]["type"], made[t["name"]]["bytes"]))

    def test_a_full_disk_loses_nothing(self):
        path = self.write("kept.gguf", pathlib.Path(MODEL).read_bytes())

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

        for source in (MODEL, path):
            process = subprocess.run([TOOL, "convert", source, path, "--type", "F32"], capture_output=True,
                                     preexec_fn=limit, env=self.environment({}))
            self.assertEqual(process.returncode, 1)
            self.assertRegex(process.stderr.decode(), r"\Atessera: [^\n]*kept\.gguf[^\n]*: writing failed: [^\n]+\n\Z")
            self.assertEqual([p.name for p in self.folder.glob("kept*")], ["kept.gguf"])
            self.assertEqual(path.read_bytes(), pathlib.Path(MODEL).read_bytes())

    def test_progress_is_for_terminals(self):
        self.assertEqual(self.ok("convert", MODEL, self.folder / "bar.gguf", "--type", "Q4_1").err, "")
        ours, theirs = pty.openpty()
        process = subprocess.run([TOOL, "convert", MODEL, self.folder / "bar.gguf", "--type", "Q4_1"], stderr=theirs,
                                 stdout=subprocess.DEVNULL, env=self.environment({}))
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 1 << 16):
                shown += part
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        shown = shown.decode()
        self.assertEqual(process.returncode, 0)
        self.assertIn("converting [", shown)
        self.assertTrue(shown.endswith("\r\x1b[K"), shown)


class BadFiles(ToolTest):
    def refuse_all(self, path, says="", inspect=True):
        for command in (["generate", "-m", path, *REFERENCE, "x", "-n", 1], ["tokenize", "-m", path, "x"],
                        ["verify", "-m", path, *REFERENCE]):
            with self.subTest(path.name, command=command[0]):
                self.refused(*command, says=says, memory=GIB)
        if inspect:
            with self.subTest(path.name, command="inspect"):
                self.refused("inspect", path, says=says, memory=GIB)

    def test_paths(self):
        self.refuse_all(self.folder / "absent.gguf", says="absent.gguf")
        self.refused("generate", "-m", self.folder, *REFERENCE, "x", "-n", 1, says="directory")
        self.refused("tokenize", "-m", self.folder, "x", says="directory")
        for command in (["verify", "-m"], ["inspect"]):  # may be a folder with a model of its own
            self.refused(*command, self.folder, says="config.json")
        self.refuse_all(self.write("empty.gguf", b""))
        self.refuse_all(self.write("text.gguf", b"This is no model. " * 20))

    def test_lies(self):
        string = gguf_string
        name = ("general.architecture", 8, string("llama"))
        files = {
            "wrong magic": gguf([name], magic=b"GGUG"),
            "version 9": gguf([name], version=9),
            "2^60 tensors": gguf([name], tensor_count=1 << 60),
            "2^60 keys": gguf([name], kv_count=1 << 60),
            "long string": gguf([("general.architecture", 8, struct.pack("<Q", 1 << 62))]),
            "long array": gguf([("a", 9, struct.pack("<IQ", 4, 1 << 61))]),
            "deep arrays": gguf([("a", 9, struct.pack("<IQ", 9, 1) * 100000)]),
            "unknown value": gguf([("a", 77, b"\0" * 8)]),
            "huge tensor": gguf([name], [("t", [1 << 40, 1 << 40], 0, 0)]),
            "no elements": gguf([name], [("t", [0], 0, 0)]),
            "9 dimensions": gguf([name], [("t", [1] * 9, 0, 0)]),
            "past the end": gguf([name], [("t", [64], 0, 1 << 40)], data=b"\0" * 256),
            "overlap": gguf([name], [("t", [64], 0, 0), ("u", [64], 0, 32)], data=b"\0" * 512),
            "unaligned": gguf([name], [("t", [8], 0, 3)], data=b"\0" * 512),
            "twice": gguf([name], [("t", [8], 0, 0), ("t", [8], 0, 32)], data=b"\0" * 512),
        }
        for what, content in files.items():
            self.refuse_all(self.write(what + ".gguf", content))

    def test_unknown_architecture_and_type(self):
        path = self.write("alien.gguf", gguf([("general.architecture", 8, gguf_string("alien"))]))
        self.refused("generate", "-m", path, *REFERENCE, "x")
        content = pathlib.Path(RANDOM).read_bytes()
        at = content.index(gguf_string("blk.0.ffn_up.weight")) + 8 + len("blk.0.ffn_up.weight") + 4 + 16
        path = self.write("type.gguf", content[:at] + struct.pack("<I", 99) + content[at + 4:])
        self.refused("generate", "-m", path, *REFERENCE, "x", says="blk.0.ffn_up.weight")
        self.ok("inspect", path)

    def test_absurd_config(self):
        content = pathlib.Path(RANDOM).read_bytes()
        for key in ("qwen2.block_count", "qwen2.embedding_length", "qwen2.attention.head_count",
                    "qwen2.attention.head_count_kv", "qwen2.feed_forward_length", "qwen2.context_length"):
            for value in (0, 7, 0xffffffff):
                if key == "qwen2.context_length" and value:
                    continue
                with self.subTest(key, value=value):
                    path = self.write("config.gguf", with_u32(content, key, value))
                    self.refused("generate", "-m", path, *REFERENCE, "x", "-n", 1, memory=GIB)

    def test_truncated(self):
        content = pathlib.Path(RANDOM).read_bytes()
        for size in (3, 8, 23, 24, 100, 1000, 5000, len(content) // 2, len(content) - 1):
            self.refuse_all(self.write(f"{size} bytes.gguf", content[:size]))

    def test_flipped_bits(self):
        content = pathlib.Path(RANDOM).read_bytes()
        header = content.index(b"output_norm.weight")
        generator = random.Random(1)
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(generator.choice((1, 4))):
                damaged[generator.randrange(header)] ^= 1 << generator.randrange(8)
            path = self.write("flipped.gguf", damaged)
            for command in (["generate", "-m", path, *REFERENCE, "x", "-n", 1], ["inspect", path]):
                result = self.run_tool(*command, memory=GIB)
                self.assertIn(result.status, (0, 1), result.err)
                if result.status:
                    self.assertRegex(result.err, r"\Atessera: [^\n]+\n\Z")

    def test_safetensors(self):
        def file(header, data=b"", length=None):
            return struct.pack("<Q", len(header) if length is None else length) + header + data
        files = {
            "no json": file(b"{nonsense"),
            "long header": file(b"{}", length=1 << 60),
            "past the end": file(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
            "wrong size": file(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}', b"\0" * 8),
            "huge": file(b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}', b"\0" * 8),
        }
        for what, content in files.items():
            with self.subTest(what):
                self.refused("inspect", self.write(what + ".safetensors", content), memory=GIB)

    def test_prompt_longer_than_the_context(self):
        self.refused("generate", "-m", MODEL, *REFERENCE, "--prompt-file", self.write("long", b"the sea " * 60000),
                     says="context", memory=2 * GIB)


if __name__ == "__main__":
    main()
