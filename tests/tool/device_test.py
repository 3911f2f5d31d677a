"""tessera devices and verify; --device, --cap, machines without Vulkan, the pipeline-cache file."""
import os
import shutil

from harness import MODEL, PROMPT, REFERENCE, ToolTest, main, on_device


class Devices(ToolTest):
    def devices(self, *options, **how):
        return self.ok("devices", "--json", *options, **how).json["devices"]

    def test_json(self):
        on_device()
        devices = self.devices()
        self.assertEqual([d["index"] for d in devices], list(range(len(devices))))
        self.assertEqual(sum(d["chosen"] for d in devices), 1)
        for d in devices:
            for name, kind in {"name": str, "type": str, "driver": str, "vulkan": str, "memory_bytes": int,
                               "limits": dict, "capabilities": dict, "kernels": list}.items():
                self.assertIsInstance(d[name], kind, name)
            self.assertIn("refused", d)
            self.assertGreater(d["limits"]["max_storage_range"], 0)
            self.assertIn(d["capabilities"]["fp16"], (True, False))
            self.assertIn(d["kernels"][0]["origin"], ("built", "prebuilt"))

    def test_table(self):
        on_device()
        result = self.ok("devices")
        self.assertEqual(result.err, "")
        self.assertIn("* ", result.text)
        for line in result.text.splitlines():
            self.assertLessEqual(len(line), 110, line)

    def test_choice(self):
        on_device()
        chosen = next(d for d in self.devices() if d["chosen"])
        name = chosen["name"]
        for choice in (chosen["index"], name, name[1:7].upper(), name[:5].lower()):
            out = self.generate("x", "-n", 1, "--json", device=["--device", choice]).json
            self.assertEqual(out["device"], name)
        for nonsense in ("no such device", "4711", "-1"):
            self.refused("generate", "-m", MODEL, f"--device={nonsense}", "x")

    def test_caps(self):
        on_device()
        caps = ["--cap", "max_shared_bytes=16k", "--cap", "fp16=0"]
        for d in self.devices(*caps):
            self.assertEqual((d["limits"]["max_shared_bytes"], d["capabilities"]["fp16"]), (16384, False))
        for cap in ("nonsense=1", "max_shared_bytes", "max_shared_bytes=many", "=1", "max_shared_bytes=0",
                    "fp16=2", "max_shared_bytes=1t"):
            with self.subTest(cap):
                self.refused("generate", "-m", MODEL, "--cap", cap, "x")


class WithoutVulkan(ToolTest):
    """A loader that finds no driver, a file that is no library, a library that is no loader."""

    def machines(self):
        yield "no driver", {"VK_DRIVER_FILES": "/nonexistent.json", "VK_ICD_FILENAMES": "/nonexistent.json"}
        if os.uname().sysname != "Linux":
            return
        broken = self.folder / "broken"
        broken.mkdir(exist_ok=True)
        (broken / "libvulkan.so.1").write_bytes(b"")
        yield "no loader", {"LD_LIBRARY_PATH": str(broken)}
        libm = next((p for p in ("/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6",
                                 "/usr/lib/libm.so.6", "/usr/lib64/libm.so.6") if os.path.exists(p)), None)
        if libm:
            other = self.folder / "other"
            other.mkdir(exist_ok=True)
            shutil.copy(libm, other / "libvulkan.so.1")
            yield "no Vulkan loader", {"LD_LIBRARY_PATH": str(other)}

    def test_reference_runs(self):
        wanted = self.generate("x", "-n", 4).text
        for what, env in self.machines():
            with self.subTest(what):
                self.assertEqual(self.generate("x", "-n", 4, env=env).text, wanted)
                self.ok("tokenize", "-m", MODEL, "x", env=env)

    def test_others_say_why(self):
        for what, env in self.machines():
            for command in (["generate", "-m", MODEL, "x"], ["verify", "-m", MODEL],
                            ["generate", "-m", MODEL, "--device", "0", "x"]):
                with self.subTest(what, command=command):
                    self.refused(*command, env=env, says="Vulkan")
            result = self.run_tool("devices", env=env)
            self.assertLessEqual(len(result.err.splitlines()), 1)
            self.assertEqual(result.status == 0, result.err == "", what)


class Verify(ToolTest):
    def check(self, out, precision="f32"):
        self.assertEqual(list(out), ["device", "precision", "ok", "first_fault", "ops"])
        self.assertEqual(out["precision"], precision)
        self.assertIs(out["ok"], True)
        self.assertIsNone(out["first_fault"])
        kinds = {row["kind"] for row in out["ops"]}
        self.assertLessEqual({"matmul", "attention", "norm", "whole"}, kinds)
        for row in out["ops"]:
            self.assertTrue(row["ok"] and row["ratio"] <= 1 and row["worst_error"] >= 0, row)
            self.assertGreater(row["elements"], 0)
            self.assertEqual("largest" in row, row["kind"] == "whole")
            if row["kind"] == "whole":  # else it proves nothing
                self.assertLess(row["bound"], (0.01 if precision == "f32" else 0.1) * row["largest"])

    def test_device(self):
        result = self.ok("verify", "-m", MODEL, "--json", *on_device())
        self.assertEqual(result.err, "")
        self.check(result.json)

    def test_mixed(self):
        self.check(self.ok("verify", "-m", MODEL, "--precision", "mixed", "--json", *on_device()).json, "mixed")
        self.refused("verify", "-m", MODEL, "--precision", "f8", status=2, says="f8")

    def test_table(self):
        text = self.ok("verify", "-m", MODEL, "--text", PROMPT, *on_device()).text
        self.assertIn("matmul", text)
        self.assertIn("within its bound", text)
        self.assertIn(", precision f32\n", text)
        self.assertRegex(text, "the tolerance of the whole is [0-9.e-]+ of the largest logit, [0-9.]+\n")

    def test_reference(self):
        result = self.run_tool("verify", "-m", MODEL, *REFERENCE)
        if result.status != 0:
            self.refused("verify", "-m", MODEL, *REFERENCE, says="reference")


class PipelineCache(ToolTest):
    def test_kept_damaged_and_read_only(self):
        device = on_device()
        folder = self.folder / "kept"
        env = {"XDG_CACHE_HOME": str(folder)}
        wanted = self.generate("x", "-n", 4, device=device, env=env).text
        files = list((folder / "tessera").iterdir())
        self.assertEqual(len(files), 1, files)
        self.assertEqual(self.generate("x", "-n", 4, device=device, env=env).text, wanted)

        blob = bytearray(files[0].read_bytes())
        blob[len(blob) // 2] ^= 0x10
        files[0].write_bytes(blob)
        result = self.generate("x", "-n", 4, device=device, env=env)
        self.assertEqual(result.text, wanted)
        self.assertIn("cache", result.err)  # a warning; the next run is quiet
        self.assertNotIn("tessera:", self.generate("x", "-n", 4, device=device, env=env).err)

        absent = self.folder / "none"
        self.generate("x", "-n", 1, "--no-pipeline-cache", device=device, env={"XDG_CACHE_HOME": str(absent)})
        self.assertFalse((absent / "tessera").exists())  # drivers may cache beside it
        # A place that cannot be written is no failure.
        file = self.write("a file", b"")
        result = self.generate("x", "-n", 4, device=device, env={"XDG_CACHE_HOME": str(file)})
        self.assertEqual(result.text, wanted)


if __name__ == "__main__":
    main()
