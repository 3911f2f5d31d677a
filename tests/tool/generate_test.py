"""tessera generate: the contract of its options."""
import os
import pathlib
import signal
import subprocess
import time

from harness import (BUNDLED, MODEL, PROMPT, REFERENCE, TOOL, ToolTest, main, on_device, read_logits, with_u32)


class Text(ToolTest):
    def test_streams(self):
        result = self.generate(PROMPT, "-n", 12)
        told = self.generate(PROMPT, "-n", 12, "--json").json
        self.assertEqual(result.text, told["text"])
        for word in ("load", "pipelines", "prefill", "decode", "tokens/s", "submits", "memory", "peak"):
            self.assertIn(word, result.err)
        self.assertNotIn("\r", result.err)  # no progress bar in a file
        self.assertNotIn("\033", result.err)

    def test_json(self):
        result = self.generate(PROMPT, "-n", 5, "--json")
        out = result.json
        self.assertEqual(result.err, "")
        self.assertEqual(list(out), ["device", "prompt_ids", "ids", "text", "stop", "timings"])
        self.assertEqual(out["device"], "reference")
        self.assertEqual(len(out["ids"]), 5)
        self.assertEqual(out["stop"], "length")
        ids = self.ok("tokenize", "-m", MODEL, PROMPT, "--json").json["ids"]
        self.assertEqual(out["prompt_ids"], ids)
        for name in ("load_seconds", "pipeline_seconds", "first_token_seconds", "prefill_tokens_per_second",
                     "decode_tokens_per_second", "submits_per_token", "peak_memory_bytes"):
            self.assertIsInstance(out["timings"][name], (int, float), name)
        self.assertGreater(out["timings"]["peak_memory_bytes"], 1e6)

    def test_sources_of_the_prompt(self):
        wanted = self.generate(PROMPT, "-n", 6).text
        path = self.write("a prompt.txt", PROMPT.encode())
        self.assertEqual(self.generate("--prompt-file", path, "-n", 6).text, wanted)
        self.assertEqual(self.generate("-n", 6, stdin=PROMPT.encode()).text, wanted)
        self.refused("generate", "-m", MODEL, "--prompt-file", self.folder / "absent", says="absent")
        self.refused("generate", "-m", MODEL, "--prompt-file", self.folder, says="directory")
        self.refused("generate", "-m", MODEL, "x", "--prompt-file", path, status=2)

    def test_empty_prompt_is_bos(self):
        metadata = self.ok("inspect", MODEL, "--json").json["metadata"]
        out = self.generate("", "-n", 3, "--json").json
        self.assertEqual(out["prompt_ids"], [metadata["tokenizer.ggml.bos_token_id"]])
        self.assertEqual(len(out["ids"]), 3)

    def test_echo(self):
        plain = self.generate(PROMPT, "-n", 4).text
        self.assertEqual(self.generate(PROMPT, "-n", 4, "--echo").text, PROMPT + plain)

    def test_length(self):
        for n in (1, 7):
            self.assertEqual(len(self.generate(PROMPT, "-n", n, "--json").json["ids"]), n)
        self.refused("generate", "-m", MODEL, "x", "-n", 0, status=2)
        self.refused("generate", "-m", MODEL, "x", "-n", "many", status=2)

    def test_stop_text(self):
        text = self.generate(PROMPT, "-n", 40).text
        stop = next(text[k:k + 2] for k in range(10, len(text)) if "\ufffd" not in text[k:k + 2])
        out = self.generate(PROMPT, "-n", 40, "--stop", "never seen", "--stop", stop, "--json").json
        self.assertEqual(out["text"], text[:text.index(stop)])
        self.assertEqual(out["stop"], "text")

    def test_end_token(self):
        ids = self.generate(PROMPT, "-n", 12, "--ignore-eos", "--json").json["ids"]
        at = ids.index(ids[6])
        model = self.write("ends.gguf",
                           with_u32(pathlib.Path(MODEL).read_bytes(), "tokenizer.ggml.eos_token_id", ids[at]))
        out = self.generate(PROMPT, "-n", 12, "--json", model=model).json
        self.assertEqual((out["stop"], out["ids"]), ("eos", ids[:at + 1]))
        out = self.generate(PROMPT, "-n", 12, "--json", "--ignore-eos", model=model).json
        self.assertEqual((out["stop"], out["ids"]), ("length", ids))

    def test_context(self):
        prompt = len(self.ok("tokenize", "-m", MODEL, PROMPT, "--json").json["ids"])
        out = self.generate(PROMPT, "--context", prompt + 4, "--ignore-eos", "-n", 50, "--json").json
        self.assertEqual(out["stop"], "context")
        self.assertIn(len(out["ids"]), (4, 5))  # the last one needs no room
        self.refused("generate", "-m", MODEL, *REFERENCE, PROMPT, "--context", prompt - 1, says="context")
        self.refused("generate", "-m", MODEL, *REFERENCE, "x", "--context", 1 << 31, says="context")

    def test_default_length_and_context(self):
        out = self.generate("The sea", "--ignore-eos", "--json").json
        self.assertEqual((len(out["ids"]), out["stop"]), (256, "length"))

    def test_every_byte_is_whole(self):
        for seed in range(3):
            self.generate("é", "-n", 60, "--temp", 3, "--seed", seed).text  # decodes strictly

    def test_bundled_model(self):
        if not BUNDLED.exists():
            self.refused("generate", *REFERENCE, "x", says="-m")
            return
        out = self.ok("generate", *REFERENCE, "Once upon a time", "-n", 8).text
        self.assertEqual(out, self.generate("Once upon a time", "-n", 8, model=BUNDLED).text)


class Sampling(ToolTest):
    def ids(self, *options, device=REFERENCE):
        return self.generate(PROMPT, "-n", 24, "--ignore-eos", "--json", *options, device=device).json["ids"]

    def test_repeats_with_its_seed(self):
        options = ["--temp", 1.5, "--top-k", 40, "--top-p", 0.95, "--min-p", 0.01, "--penalty", 1.1]
        first = self.ids(*options, "--seed", 7)
        self.assertEqual(self.ids(*options, "--seed", 7), first)
        self.assertNotEqual(self.ids(*options, "--seed", 8), first)

    def test_greedy(self):
        greedy = self.ids()
        self.assertEqual(self.ids("--temp", 0, "--seed", 3), greedy)
        self.assertEqual(self.ids("--temp", 1, "--top-k", 1, "--seed", 3), greedy)
        self.assertNotEqual(self.ids("--penalty", 100), greedy)

    def test_on_the_device(self):
        options = ["--temp", 1.2, "--top-k", 20, "--seed", 5]
        self.assertEqual(self.ids(*options, device=on_device()), self.ids(*options, device=on_device()))

    def test_values_that_make_no_sense(self):
        for option in (["--temp", -1], ["--top-p", 2], ["--min-p", "nan"], ["--penalty", -3]):
            self.refused("generate", "-m", MODEL, *REFERENCE, "x", *option)
        for option in (["--top-k", -1], ["--seed", "x"], ["--no-such-option"]):
            self.refused("generate", "-m", MODEL, *REFERENCE, "x", *option, status=2, says="--help")


class Logits(ToolTest):
    def check(self, device):
        path = self.folder / "out.safetensors"
        out = self.generate(PROMPT, "-n", 6, "--ignore-eos", "--logits", path, "--json", device=device).json
        rows = read_logits(path)
        prompt, ids = out["prompt_ids"], out["ids"]
        self.assertIn(len(rows), (len(prompt) + 5, len(prompt) + 6))
        chosen = [max(range(len(row)), key=lambda i: (row[i], -i)) for row in rows[len(prompt) - 1:]]
        self.assertEqual(chosen[:6], ids)
        return rows, ids

    def test_reference_and_device_agree(self):
        reference, ids = self.check(REFERENCE)
        rows, device_ids = self.check(on_device())
        self.assertEqual(device_ids, ids)
        scale = max(map(abs, reference[0]))
        self.assertLess(max(abs(a - b) for a, b in zip(reference[0], rows[0])), 0.02 * scale)

    def test_cannot_be_written(self):
        self.refused("generate", "-m", MODEL, *REFERENCE, "x", "-n", 2, "--logits", "/no/such/folder/l", says="/no/such")
        self.refused("generate", "-m", MODEL, *REFERENCE, "x", "-n", 2, "--logits", self.folder)


class Interactive(ToolTest):
    def test_keeps_what_was_said(self):
        one = self.generate("--interactive", "-n", 8, "--ignore-eos", stdin=b"The sea was calm\n")
        two = self.generate("--interactive", "-n", 8, "--ignore-eos", stdin=b"The sea was calm\nand then\n")
        self.assertTrue(two.text.startswith(one.text))
        fresh = self.generate("--interactive", "-n", 8, "--ignore-eos", stdin=b"\nand then\n")
        self.assertNotEqual(two.text[len(one.text):], fresh.text[-len(two.text) + len(one.text):])
        self.assertNotIn("> ", two.err.splitlines()[0])

    def test_second_line_fills_the_context(self):
        line = b"the house by the sea"
        count = len(self.ok("tokenize", "-m", MODEL, line.decode(), "--json").json["ids"])
        options = ["--interactive", "-n", 2, "--ignore-eos", "--context", count + 6]
        self.generate(*options, stdin=line)
        result = self.run_tool("generate", "-m", MODEL, *REFERENCE, *options, stdin=line + b"\n" + line)
        self.assertEqual(result.status, 1)
        self.assertIn("context", result.err)

    def test_on_the_device(self):
        lines = b"The sea was calm\nand then\n"
        options = ["--interactive", "-n", 5, "--ignore-eos"]
        self.assertEqual(self.generate(*options, stdin=lines, device=on_device()).text,
                         self.generate(*options, stdin=lines).text)

    def test_excludes(self):
        for other in ("x", "--json", "--prompt-file=x"):
            self.refused("generate", "-m", MODEL, "--interactive", other, status=2)


class Signals(ToolTest):
    LONG = ["-n", 100000, "--ignore-eos", "--temp", 2]

    def interrupt(self, process):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err.decode()

    def test_ctrl_c_while_generating(self):
        for _ in range(5):  # a fast device may end before
            process = self.start("generate", "-m", MODEL, *on_device(), PROMPT, *self.LONG)
            process.stdin.close()
            process.stdin = None
            first = process.stdout.read(1)
            status, rest, err = self.interrupt(process)
            if status != 0:
                break
        self.assertEqual(status, 130, err)
        (first + rest).decode()

    def test_ctrl_c_while_waiting(self):
        process = self.start("generate", "-m", MODEL, *REFERENCE, "--interactive", "-n", 4)
        process.stdin.write(b"The sea\n")
        process.stdin.flush()
        process.stdout.readline()
        time.sleep(0.3)
        status, _, err = self.interrupt(process)
        self.assertEqual(status, 130, err)

    def test_ctrl_c_while_reading_the_prompt(self):
        process = self.start("generate", "-m", MODEL, *REFERENCE)
        time.sleep(1)
        status, out, err = self.interrupt(process)
        self.assertEqual((status, out), (130, b""), err)

    def test_closed_pipe(self):
        process = self.start("generate", "-m", MODEL, *REFERENCE, PROMPT, "-n", 60)
        process.stdout.close()
        process.stdout = None
        process.stdin.close()
        self.assertEqual(process.wait(timeout=120), -signal.SIGPIPE)
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()

    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([TOOL, "tokenize", "-m", MODEL, "x"], stdout=full, stderr=subprocess.PIPE)
        self.assertEqual(result.returncode, 1)
        self.assertIn(b"standard output", result.stderr)


if __name__ == "__main__":
    main()
