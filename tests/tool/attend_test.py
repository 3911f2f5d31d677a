"""tessera attend: what is refused, the weights, and the pictures as files."""
import json
import re
import struct
import unittest
import xml.etree.ElementTree as ElementTree

from harness import MODEL, PROMPT, RANDOM, REFERENCE, ROOT, ToolTest, main, on_device

TRANSLATOR = ROOT / "tests/data/transformer/pre"
SVG = "{http://www.w3.org/2000/svg}"


def png_size(content):
    assert content[:8] == b"\x89PNG\r\n\x1a\n", content[:8]
    length, kind, width, height = struct.unpack_from(">I4sII", content, 8)
    assert (length, kind) == (13, b"IHDR")
    assert content[-8:-4] == b"IEND"
    return width, height


class Attend(ToolTest):
    def attend(self, *args, model=MODEL, device=REFERENCE, **options):
        return self.ok("attend", "-m", model, *device, *args, **options)

    def weights(self, *args, causal=False, **options):
        """What --json says; every row of every head a softmax."""
        out = self.attend("--json", *args, **options).json
        self.assertEqual(list(out), ["device", "model", "kind", "rows", "keys", "heads"])
        for head in out["heads"]:
            self.assertEqual(len(head["weights"]), len(out["rows"]))
            for r, row in enumerate(head["weights"]):
                self.assertEqual(len(row), len(out["keys"]))
                self.assertAlmostEqual(sum(row), 1, delta=1e-5)
                self.assertTrue(all(w == 0 if causal and k > r else 0 <= w <= 1.00001 for k, w in enumerate(row)))
        return out

    def same(self, a, b, delta):
        self.assertEqual([(h["layer"], h["head"]) for h in a["heads"]], [(h["layer"], h["head"]) for h in b["heads"]])
        for x, y in zip(a["heads"], b["heads"]):
            for p, q in zip(x["weights"], y["weights"]):
                for v, w in zip(p, q):
                    self.assertAlmostEqual(v, w, delta=delta)

    def test_a_model(self):
        out = self.weights(PROMPT, causal=True)
        self.assertEqual(out["kind"], "self-attention")
        self.assertEqual("".join(token["text"] for token in out["rows"])[-len(PROMPT):], PROMPT)
        self.assertEqual(out["rows"], out["keys"])
        layers = {head["layer"] for head in out["heads"]}
        heads = {head["head"] for head in out["heads"]}
        self.assertEqual(len(out["heads"]), len(layers) * len(heads))
        one = self.weights(PROMPT, "--layer", 1, "--head", 0, causal=True)
        self.assertEqual(one["heads"], [h for h in out["heads"] if (h["layer"], h["head"]) == (1, 0)])
        mean = self.weights(PROMPT, "--layer", 1, "--mean", causal=True)["heads"]
        self.assertEqual([head["head"] for head in mean], ["mean"])
        of_layer = [h["weights"] for h in out["heads"] if h["layer"] == 1]
        self.assertAlmostEqual(mean[0]["weights"][3][2], sum(w[3][2] for w in of_layer) / len(of_layer), delta=1e-6)
        self.assertEqual(self.weights("--kind", "self", causal=True, stdin=PROMPT.encode())["heads"], out["heads"])

    def test_on_a_device(self):
        device = on_device()
        self.same(self.weights(PROMPT, causal=True, device=device), self.weights(PROMPT, causal=True), 1e-3)
        text = self.attend(PROMPT, "--layer", 1, device=device).text
        self.assertIn("self-attention, layer 1, head 0", text)
        for kind in ("encoder", "decoder", "cross"):
            args = ["gacfg", "--kind", kind]
            self.same(self.weights(*args, model=TRANSLATOR, device=device), self.weights(*args, model=TRANSLATOR), 1e-5)

    def test_a_translator(self):
        text = self.ok("translate", "-m", TRANSLATOR, *REFERENCE, "gacfg", "--json").json["text"]
        cross = self.weights("gacfg", model=TRANSLATOR)
        self.assertEqual(cross["kind"], "cross-attention")
        self.assertEqual("".join(token["text"] for token in cross["keys"]), "gacfg")
        self.assertEqual("".join(t["text"] for t in cross["rows"] if t["text"] != "</s>"), text)
        decoder = self.weights("gacfg", "--kind", "self", model=TRANSLATOR, causal=True)
        self.assertEqual(decoder["rows"][0]["text"], "<s>")
        first = self.weights("gacfg", "--kind", "self", "--layer", 0, model=TRANSLATOR, causal=True)
        self.assertEqual(first["heads"], [h for h in decoder["heads"] if h["layer"] == 0])
        self.assertEqual(len(self.weights("gacfg", "--kind", "encoder", model=TRANSLATOR)["rows"]), 5)
        forced = self.weights("gacfg", "--target", "120", "--beam", 2, model=TRANSLATOR)
        self.assertEqual([token["text"] for token in forced["rows"]], ["1", "2", "0", "</s>"])

    def test_in_a_terminal(self):
        lines = self.attend(PROMPT).text.splitlines()
        self.assertIn(", layer 0, head 0", lines[0])
        self.assertIn("\u2502\u2588\u2588", "\n".join(lines))  # BOS attends to itself
        long = self.attend("sea " * 90, "--head", 1).text
        self.assertLessEqual(max(map(len, long.splitlines())), 130)
        self.assertIn("weights the largest", long)

    def picture(self, name, *args, **options):
        path = self.folder / name
        result = self.attend("-o", path, *args, **options)
        self.assertEqual((result.out, result.err), (b"", ""))
        return path.read_bytes()

    def test_svg(self):
        svg = ElementTree.fromstring(self.picture("one.svg", "a < b & c\n\td\u00e9", "--layer", 0, "--head", 0))
        self.assertEqual(svg.tag, SVG + "svg")
        texts = [text.text for text in svg.iter(SVG + "text")]
        self.assertTrue(any("layer 0, head 0" in text for text in texts))
        self.assertTrue(any("\u2423" in text for text in texts))
        paths = list(svg.iter(SVG + "path"))
        self.assertGreater(len(paths), 10)
        width, height = (int(svg.get(side)) for side in ("width", "height"))
        for text in svg.iter(SVG + "text"):
            at = re.findall(r"[-\d.]+", text.get("transform") or f'{text.get("x")} {text.get("y")}')
            self.assertTrue(0 <= float(at[0]) <= width and 0 <= float(at[1]) <= height, text.text)
        heads = ElementTree.fromstring(self.picture("heads.svg", PROMPT, "--layer", 0))
        names = [text.text for text in heads.iter(SVG + "text")]
        self.assertIn("head 0", names)
        self.assertIn("head 1", names)
        one = ElementTree.fromstring(self.picture("narrow.svg", "a", "--layer", 0, "--kind", "cross", "--target", "120", model=TRANSLATOR))
        places = [float(t.get("x")) for t in one.iter(SVG + "text") if (t.text or "").startswith("head ")]
        self.assertTrue(all(b - a > 30 for a, b in zip(places, places[1:])), places)
        self.assertIn("layer 1", [t.text for t in ElementTree.fromstring(self.picture("all.svg", PROMPT)).iter(SVG + "text")])
        cross = ElementTree.fromstring(self.picture("cross.svg", "gac\u0639fg", "--target", "120", model=TRANSLATOR))
        self.assertIn("\u0639", [text.text for text in cross.iter(SVG + "text")])

    def test_html(self):
        page = self.picture("page.html", "</script><b>", "--layer", 0).decode()
        data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])
        exact = self.weights("</script><b>", "--layer", 0)
        self.assertEqual(len(data["heads"]), len(exact["heads"]))
        for head, wanted in zip(data["heads"], exact["heads"]):
            flat = [w for row in wanted["weights"] for w in row]
            self.assertEqual(len(head["weights"]), len(flat))
            self.assertTrue(all(abs(a - b) <= 1e-5 for a, b in zip(head["weights"], flat)))
        self.assertEqual(page.count("</script>"), 2)
        self.assertNotIn("http", page)
        # Steps of equal length from white to dark: lightness falls all the way.
        light = [sum(f * int(c[i:i + 2], 16) for f, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5))) for c in data["colors"]]
        self.assertEqual((len(light), data["colors"][0]), (256, "#ffffff"))
        self.assertTrue(all(a >= b for a, b in zip(light, light[1:])))

    def has_png(self):
        """Where it has not, it says so before anything else."""
        return "which were not there" not in self.run_tool("attend", "-m", "none", "-o", "a.png", *REFERENCE, "a").err

    def test_png(self):
        if not self.has_png():
            self.skipTest("built without libpng or FreeType")
        one = png_size(self.picture("one.png", PROMPT, "--layer", 0, "--head", 0))
        heads = png_size(self.picture("heads.png", PROMPT, "--layer", 0))
        self.assertTrue(all(300 < side < 4000 for side in one + heads))
        svg = ElementTree.fromstring(self.picture("same.svg", PROMPT, "--layer", 0, "--head", 0))
        self.assertLess(abs(one[0] - 2 * int(svg.get("width"))), 120)  # but for the widths of letters
        png_size(self.picture("cross.png", "ga\u0639", model=TRANSLATOR))
        self.refused("attend", "-m", MODEL, *REFERENCE, "sea", "-o", "a.png", "--font", RANDOM, says="no font")

    def test_long_texts(self):
        text = " sea" * 230
        svg = ElementTree.fromstring(self.picture("long.svg", text, "--layer", 0, "--head", 0))
        self.assertLess(int(svg.get("width")), 1200)
        labels = [t for t in svg.iter(SVG + "text") if t.get("font-size") == "8"]
        self.assertTrue(40 < len(labels) < 300, len(labels))  # thinned

    def test_refused(self):
        def refused(*args, says, model=MODEL, status=1):
            self.refused("attend", "-m", model, *REFERENCE, *args, says=says, status=status)

        refused("a", "--layer", 99, says="layer 99: the model has")
        refused("a", "--head", 99, says="head 99: the model has")
        refused("a", "--kind", "cross", says="kind self")
        refused("a", "--target", "b", says="no target")
        refused("a", "--kind", "both", says="--kind", status=2)
        refused("a", "--head", 1, "--mean", says="--mean", status=2)
        refused("a", "-o", "a.gif", says="'a.gif' ends in none of .png, .svg, .html", status=2)
        refused("a", "-o", "no/such/folder.svg", says="no/such/folder.svg")
        for name in ("folder.html", "folder.png"):
            if name.endswith("html") or self.has_png():
                refused("a", "-o", f"no/such/{name}", says=f"no/such/{name}")
        refused("sea " * 3000, says="context")
        refused("a?", model=TRANSLATOR, says="U+003F")
        refused("a", "--target", "x", model=TRANSLATOR, says="target.txt")
        refused("", model=TRANSLATOR, says="no tokens")
        refused("a", model=self.folder / "none.gguf", says="none.gguf")


if __name__ == "__main__":
    main()
