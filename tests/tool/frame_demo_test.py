"""The frame demo: what it reports and the pictures it writes, for few small frames."""
import os
import pathlib
import struct
import unittest
import zlib

from harness import ROOT, ToolTest, on_device

SMALL = ["--size", "320x180", "--frames", "30", "--fps", "30"]


def read_png(path):
    """Width, height and the rows, still filtered, of a PNG of 8-bit RGB."""
    content = pathlib.Path(path).read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n", path
    at, pixels = 8, b""
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        chunk = content[at + 8:at + 8 + length]
        (crc,) = struct.unpack_from(">I", content, at + 8 + length)
        assert crc == zlib.crc32(kind + chunk), path
        if kind == b"IHDR":
            width, height, depth, color = struct.unpack_from(">IIBB", chunk)
            assert (depth, color) == (8, 2), path
        elif kind == b"IDAT":
            pixels += chunk
        at += 12 + length
    rows = zlib.decompress(pixels)
    assert len(rows) == height * (3 * width + 1), path
    return width, height, rows


class FrameDemoTest(ToolTest):
    program, name = os.environ.get("TESSERA_FRAME_DEMO", str(ROOT / "build/frame_demo")), "frame_demo"

    def demo(self, out, *args):
        result = self.ok(*SMALL, *on_device(), "--json", "-o", out, *args)
        self.assertEqual(result.err, "")
        return result.json

    def test_report_and_pictures(self):
        report = self.demo("a folder/of pictures", "--pictures", 2, "--budget", 5000)
        self.assertEqual((report["width"], report["height"], report["frames"]), (320, 180, 30))
        for phase in report["without"], report["with"]:
            self.assertGreater(phase["p50_ms"], 0)
            self.assertLessEqual(phase["p50_ms"], phase["p95_ms"])
            self.assertLessEqual(phase["p95_ms"], phase["p99_ms"])
            self.assertLessEqual(phase["p99_ms"], phase["max_ms"])
        tessera = report["tessera"]
        self.assertGreater(tessera["tokens"], 0)
        self.assertGreater(tessera["submits"], 0)
        self.assertLessEqual(tessera["submits"], 30)  # one a frame at most
        if tessera["device"] is not None:
            self.assertGreater(tessera["device"]["max_ms"], 0)
        self.assertGreater(len(report["speech"][0]["words"]), len("Once upon a time"))
        names = [pathlib.Path(path).name for path in report["files"]]
        self.assertEqual(names, ["frame_00014.png", "frame_00029.png", "frame_times.png"])
        pictures = [read_png(self.folder / path) for path in report["files"]]
        self.assertEqual([p[:2] for p in pictures], [(320, 180), (320, 180), (1280, 720)])
        self.assertNotEqual(pictures[0][2], pictures[1][2])
        for _, _, rows in pictures:
            self.assertGreater(len(set(rows)), 30)

    def test_same_seed_same_words(self):
        said = [self.demo("words", "--pictures", 0, "--seed", 7, "--budget", budget)["speech"][0]["words"]
                for budget in (3000, 20000)]
        shorter, longer = sorted(said, key=len)
        self.assertTrue(longer.startswith(shorter), said)

    def test_without_json_a_table(self):
        result = self.ok(*SMALL, *on_device(), "--pictures", 1, "-o", "table")
        for word in "p50", "p99", "frame without Tessera", "frame with Tessera", "frame_times.png":
            self.assertIn(word, result.text)

    def test_help_teaches(self):
        text = self.ok("--help").text
        for option in "--budget", "--fps", "--size", "--seed", "--model", "--out", "--json", "Examples":
            self.assertIn(option, text)

    def test_refusals(self):
        on_device()  # skips where there is none
        self.write("a file", b"no folder")
        self.write("no.ttf", b"no font")
        for args, says in ((["-o", "a file"], "a file"), (["--font", "no.ttf"], "no.ttf"),
                           (["--model", "none.gguf"], "none.gguf"), (["--device", "no such"], "no such")):
            self.refused(*SMALL, *args, says=says)
        for args, says in ((["--size", "12"], "WIDTHxHEIGHT"), (["--size", "360x640"], "360x640"),
                           (["--fps", "0"], "--fps"), (["--frames", "1"], "--frames"),
                           (["--budget", "none"], "--budget"), (["--bugdet", "1"], "--bugdet")):
            self.refused(*args, says=says, status=2)


if __name__ == "__main__":
    unittest.main()
