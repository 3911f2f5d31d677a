"""tessera translate; verify and inspect on an encoder-decoder's folder."""
import json
import os
import pathlib
import shutil
import unittest

from harness import REFERENCE, ROOT, ToolTest, main, on_device

DATA = ROOT / "tests/data/transformer"
MODELS = os.environ.get("TESSERA_MODELS", "")
AREN = pathlib.Path(MODELS) / "aren-transliteration"


def texts(hypotheses):
    target = (DATA / "pre/target.txt").read_text(encoding="utf-8").splitlines()
    return ["".join(target[i] for i in h["ids"]) for h in hypotheses]


class Translate(ToolTest):
    def translate(self, *args, model=DATA / "pre", device=REFERENCE, **options):
        return self.ok("translate", "-m", model, *device, *args, **options)

    def golden(self, model):
        return json.loads((DATA / model / "golden.json").read_text())

    def objects(self, model, device, sources, *args):
        """What --json says of each source; one process, as a start costs some devices seconds."""
        out = self.translate("--json", *args, model=model, device=device, stdin="\n".join(sources).encode())
        return [json.loads(line) for line in out.text.splitlines()]

    def agrees(self, model, device):
        golden = self.golden(model)
        cases = golden["cases"]
        prefix = ["--prefix", " ".join(texts([{"ids": cases[0]["prefix"]}])[0])]
        for key, count, options in (("greedy", len(cases), []), ("beam_4", len(cases), ["--beam", 4]),
                                    ("prefix_greedy", 1, prefix), ("prefix_beam_4", 1, prefix + ["--beam", 4])):
            found = self.objects(DATA / model, device, [case["text"] for case in cases[:count]], "-n",
                                 golden["max_tokens"], *options)
            self.assertEqual(len(found), count)
            for out, case in zip(found, cases):
                self.agrees_with(out, case["source"], case[key])

    def agrees_with(self, out, source, expected):
        self.assertEqual(list(out), ["device", "source_ids", "ids", "text", "score", "hypotheses"])
        self.assertEqual(out["source_ids"], source)
        self.assertEqual([h["text"] for h in out["hypotheses"]], texts(expected))
        for found, hypothesis in zip(out["hypotheses"], expected):
            self.assertEqual(list(found), ["text", "ids", "score", "finished"])
            self.assertEqual((found["ids"], found["finished"]), (hypothesis["ids"], hypothesis["finished"]))
            self.assertAlmostEqual(found["score"], hypothesis["score"], delta=1e-3)
        self.assertEqual((out["ids"], out["text"], out["score"]),
                         tuple(out["hypotheses"][0][k] for k in ("ids", "text", "score")))

    def test_reference(self):
        for model in ("pre", "post"):
            self.agrees(model, REFERENCE)

    def test_device(self):
        for model in ("pre", "post"):
            self.agrees(model, on_device())

    def test_precision(self):
        """mixed may change scores a little; the reference rounds nothing in either."""
        exact = self.translate("abc", "--json").json
        self.assertEqual(self.translate("abc", "--json", "--precision", "mixed").json, exact)
        found = self.translate("abc", "--json", "--precision", "mixed", device=on_device()).json
        self.assertEqual(found["source_ids"], exact["source_ids"])
        self.refused("translate", "-m", DATA / "pre", "abc", "--precision", "f8", *REFERENCE, status=2, says="f8")

    def test_lines_of_standard_input(self):
        golden = self.golden("pre")
        cases = golden["cases"]
        lines = "\n".join([cases[0]["text"], "", cases[1]["text"] + "\r"]) + "\n"
        most = ["-n", golden["max_tokens"]]
        result = self.translate(*most, stdin=lines.encode())
        first, second = (texts(c["greedy"])[0] for c in cases[:2])
        self.assertEqual(result.text, f"{first}\n\n{second}\n")
        self.assertEqual(result.err, "")
        objects = [json.loads(line) for line in self.translate(*most, "--json", stdin=lines.encode()).text.splitlines()]
        self.assertEqual([o["text"] for o in objects], [first, "", second])
        self.assertEqual(objects[1]["hypotheses"], [])
        self.assertEqual(self.translate(stdin=b"").out, b"")

    def test_bad_texts(self):
        def refused(*args, says, stdin=b"", status=1):
            self.refused("translate", "-m", DATA / "pre", *REFERENCE, *args, says=says, stdin=stdin, status=status)

        refused("abz", says='character "z" (U+007A) at byte 2')
        refused("", says="no tokens")
        refused("a" * 300, says="300 tokens; at most 256")
        refused("a", "--prefix", "0a", says='"target.txt"')
        refused("a", "--prefix", "0" * 5, "-n", 3, says="5 tokens, more than the 3")
        refused(b"a\xff".decode("utf-8", "surrogateescape"), says="not UTF-8")
        refused("a", "--beam", 0, says="--beam", status=2)
        refused("a", "--beam", 64, says="beams must be from 1 to 14")
        result = self.run_tool("translate", "-m", DATA / "pre", *REFERENCE, stdin=b"a\nz\n")
        self.assertEqual(result.status, 1)
        self.assertIn("line 2", result.err)
        self.assertEqual(len(result.text.splitlines()), 1)

    def test_bad_folders(self):
        number = 0

        def refused(says, change):
            nonlocal number
            number += 1
            folder = self.folder / f"bad{number}"
            shutil.copytree(DATA / "pre", folder)
            change(folder)
            self.refused("translate", "-m", folder, "a", *REFERENCE, says=says)

        def config(**changes):
            def change(folder):
                path = folder / "config.json"
                path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
            return change

        for name in ("config.json", "source.txt", "target.txt"):
            refused(f'has no file "{name}"', lambda folder: (folder / name).unlink())
        refused("no file *.safetensors", lambda folder: (folder / "weights.safetensors").unlink())
        refused("several files", lambda folder: shutil.copy(folder / "weights.safetensors", folder / "b.safetensors"))
        refused("is not JSON", lambda folder: (folder / "config.json").write_text("{"))
        refused('"norm" is "\\"none\\""', config(norm="none"))
        refused("encoder/layer_0/ffn/linear_0/weight", config(ffn_dim=41))
        refused('"source.txt" has 2 tokens, but the model\'s embedding 15 rows', lambda folder: (folder / "source.txt").write_text("a\nb\n"))
        refused("line 1", lambda folder: (folder / "target.txt").write_bytes(b"\xff\n"))
        refused("", lambda folder: (folder / "weights.safetensors").write_bytes(b"\0" * 100))
        refused("", lambda folder: (folder / "weights.safetensors").write_bytes(
            (folder / "weights.safetensors").read_bytes()[:-100]))
        self.refused("translate", "-m", self.folder / "none", "a", *REFERENCE, says="none")
        self.refused("translate", "-m", DATA / "pre/config.json", "a", *REFERENCE, says="config.json")
        self.refused("translate", "a", *REFERENCE, status=2, says="--model")

    def test_verify(self):
        device = on_device()
        for model in ("pre", "post"):
            out = self.ok("verify", "-m", DATA / model, *device, "--json").json
            self.assertTrue(out["ok"])
            kinds = [row["kind"] for row in out["ops"]]
            for kind in ("embedding", "attention", "kv_append", "matmul", "norm", "arena", "whole"):
                self.assertIn(kind, kinds)
        self.ok("verify", "-m", DATA / "pre", *device, "--text", "abc")
        out = self.ok("verify", "-m", DATA / "pre", *device, "--precision", "mixed", "--json").json
        self.assertTrue(out["ok"])
        self.refused("verify", "-m", DATA / "pre", *device, "--context", 9, says="context")

    def test_inspect(self):
        out = self.ok("inspect", DATA / "pre", "--json").json
        self.assertEqual(out["metadata"]["d_model"], 24)
        self.assertIn("decoder/layer_1/attention/linear_1/weight", [t["name"] for t in out["tensors"]])
        self.refused("inspect", self.folder)

    @unittest.skipUnless(AREN.is_dir(), "TESSERA_MODELS is not set")
    def test_transliteration(self):
        golden = json.loads((AREN / "golden.json").read_text())
        cases = golden["numpy_float64"]
        free = [case for case in cases if "forced_prefix" not in case]
        forced = next(case for case in cases if "forced_prefix" in case)
        words = {text: word for text, word in golden["asserted_by_ctranslate2_tests"].items() if word != "atsumon"}
        self.assertEqual(len(words), 2)
        prefix = ["--prefix", " ".join(forced["forced_prefix"])]
        for device in (REFERENCE, on_device()):
            found = self.objects(AREN, device, ["".join(case["src"]) for case in free])
            self.assertEqual([out["text"] for out in found], [case["greedy"] for case in free])
            for out, case in zip(found, free):
                self.assertEqual(out["source_ids"], case["src_ids"])
                self.assertAlmostEqual(out["score"], case["sum_logprob"], delta=1e-3)
            for beam in (1, 4):
                found = self.objects(AREN, device, words, "--beam", beam)
                self.assertEqual([out["text"] for out in found], list(words.values()))
                out, = self.objects(AREN, device, ["".join(forced["src"])], "--beam", beam, *prefix)
                self.assertEqual(out["text"], "atsumon")
                if beam == 1:
                    self.assertAlmostEqual(out["score"], forced["sum_logprob"], delta=1e-3)


if __name__ == "__main__":
    main()
