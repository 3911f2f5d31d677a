"""tessera shaders, bench ops and bench model: shapes of the JSON, exit statuses, devices that lack what is asked."""
import glob
import json
import os
import subprocess
import sys
import unittest

from harness import MODEL, REFERENCE, ROOT, ToolTest, main, on_device

FIGURES = ["registers", "spills", "scratch_bytes", "shared_bytes", "instructions", "cycles"]
MATRIX = str(ROOT / "tools/driver_matrix.py")
LOOPS = str(ROOT / "tools/inner_loops.py")


def null_device():
    """The environment of Mesa's AMD compiler without hardware."""
    manifests = sorted(glob.glob("/usr/share/vulkan/icd.d/radeon_icd*.json"))
    if not manifests:
        raise unittest.SkipTest("RADV is not installed")
    return {"RADV_FORCE_FAMILY": "navi21", "VK_DRIVER_FILES": manifests[0], "VK_ICD_FILENAMES": manifests[0]}


class Shaders(ToolTest):
    def check_pipeline(self, p):
        self.assertEqual(list(p)[:4], ["kernel", "variant", "failed", "subgroup_size"])
        for name in FIGURES:
            self.assertIsInstance(p[name], (int, float, type(None)), name)
        self.assertIsInstance(p["driver"], dict)

    def test_device_under_test(self):
        result = self.ok("shaders", "--json", *on_device())
        self.assertEqual(list(result.json), ["version", "device", "driver", "available", "pipelines"])
        for p in result.json["pipelines"]:
            self.check_pipeline(p)
        self.assertEqual(result.json["available"], result.json["pipelines"] != [])

    def test_without_the_extension(self):
        off = [*on_device(), "--cap", "executable_properties=0"]
        self.assertIn("not available", self.ok("shaders", *off).text)
        found = self.ok("shaders", "--json", *off).json
        self.assertEqual((found["available"], found["pipelines"]), (False, []))

    def test_driver_that_only_compiles(self):
        env = null_device()
        found = self.ok("shaders", "--json", env=env).json
        self.assertTrue(found["available"])
        self.assertGreater(len(found["pipelines"]), 20)
        for p in found["pipelines"]:
            self.check_pipeline(p)
            self.assertIsNone(p["failed"], p)
            for name in FIGURES:
                self.assertIsNotNone(p[name], (p["kernel"], name))
            self.assertEqual(p["spills"], p["driver"]["Spilled SGPRs"] + p["driver"]["Spilled VGPRs"])
            self.assertNotIn("texts", p)
        judged = subprocess.run([sys.executable, MATRIX, "--check", "-"], input=json.dumps(found), text=True,
                                capture_output=True)
        self.assertEqual(judged.returncode, 0, judged.stdout + judged.stderr)
        found["pipelines"][0]["scratch_bytes"] = 4
        judged = subprocess.run([sys.executable, MATRIX, "--check", "-"], input=json.dumps(found), text=True,
                                capture_output=True)
        self.assertEqual(judged.returncode, 1, judged.stdout)
        self.assertIn(found["pipelines"][0]["kernel"], judged.stdout)
        for code, status in (("v_dot4_i32_i8 v0, v1, v2, v0", 0), ("v_add_f32 v0, v1, v2", 1)):
            made_for = dict(found["pipelines"][1], kernel="matmul_dot", texts=[{"name": "Assembly", "text": code}])
            judged = subprocess.run([sys.executable, MATRIX, "--check", "-"], text=True, capture_output=True,
                                    input=json.dumps(dict(found, pipelines=[made_for])))
            self.assertEqual(judged.returncode, status, judged.stdout + judged.stderr)
        self.assertIn("no dot instruction", judged.stdout)

    def test_table_filter_disassembly(self):
        env = null_device()
        table = self.ok("shaders", "--filter", "MATVEC_subgroup q8_0", env=env).text
        self.assertIn("q8_0, 1 row", table)
        self.assertNotIn("q4_0", table)
        self.assertNotIn("\033", table)
        assembly = self.ok("shaders", "--filter", "advance", "--disassembly", env=env).text
        self.assertIn("s_endpgm", assembly)
        found = self.ok("shaders", "--filter", "advance", "--disassembly", "--json", env=env).json
        self.assertTrue(any("s_endpgm" in t["text"] for t in found["pipelines"][0]["texts"]))
        self.assertEqual(self.ok("shaders", "--filter", "no such kernel", "--json", env=env).json["pipelines"], [])

    def test_inner_loops(self):
        found = self.ok("shaders", "--filter", "d64, f16 KV, 512", "--disassembly", "--json", env=null_device())
        counted = subprocess.run([sys.executable, LOOPS], input=found.text, text=True, capture_output=True)
        self.assertEqual(counted.returncode, 0, counted.stderr)
        rows = [[c.strip() for c in line.split("|")[1:-1]] for line in counted.stdout.splitlines()[2:]]
        self.assertEqual([row[3] for row in rows], ["256", "128"])  # 4 rows x 4 keys x 16; 4 rows x 2 vec4 x 16
        for row in rows:
            self.assertAlmostEqual(sum(map(float, row[3:8])) / float(row[3]), float(row[8]), delta=0.006)
            self.assertLess(float(row[8]), 1.5)

    def test_refusals(self):
        self.refused("shaders", *REFERENCE, says="reference")
        self.refused("shaders", "--device", "no such device")
        self.refused("shaders", "--nonsense", status=2)


class BenchOps(ToolTest):
    def test_json(self):
        names = "^(add/1x4096|norm/rms_residual/1x4096|embedding/q4_0/1x4096|sample/.*/32000|rope/.*/1x4096|glu/.*/1x11008)$"
        found = self.ok("bench", "ops", "--json", "--samples", 3, "--filter", names, *on_device())
        self.assertEqual(found.err, "")
        out = found.json
        self.assertEqual(list(out), ["version", "date", "device", "driver", "clock", "precision", "form",
                                     "copy_gbyte_per_s", "peak_gflop_per_s", "ops"])
        self.assertEqual((out["precision"], out["form"]), ("f32", None))
        self.assertIn(out["clock"], ("gpu", "host"))
        self.assertGreater(out["copy_gbyte_per_s"], 0)
        self.assertGreater(out["peak_gflop_per_s"], 0)
        self.assertEqual(len(out["ops"]), 7)
        for op in out["ops"]:
            self.assertIsNone(op["failed"], op)
            self.assertEqual(op["samples"], 3)
            self.assertLessEqual(op["min_s"], op["median_s"])
            self.assertLessEqual(op["median_s"], op["max_s"])
            self.assertGreater(op["gbyte_per_s"], 0)
            self.assertGreater(op["checked"], 0)
            self.assertLessEqual(op["error_of_bound"], 1)

    def test_arithmetic(self):
        for name, flops, bytes_ in (("matmul/q8_0/4096x4096/n1", 2 * 4096 * 4096, 4096 * 4096 // 32 * 34 + 4 * 2 * 4096),
                                    ("matmul/q4_k/4096x4096/n8", 2 * 8 * 4096 * 4096, 4096 * 16 * 144 + 4 * 2 * 8 * 4096),
                                    ("attention/d64/h8kv8/1x4096", 4 * 8 * 64 * 4096, 8 * 64 * (2 * 4 + 2 * 2 * 4096)),
                                    ("attention/d64/h8kv8/512x512/causal", 4 * 8 * 64 * 512 * 513 // 2, 8 * 64 * 512 * 12),
                                    ("attention/d64/h8kv8/1024x1024/causal/window255",
                                     4 * 8 * 64 * (1024 * 256 - 255 * 128), 8 * 64 * 1024 * 12),
                                    ("attention/d64/h8kv8/2048x2048/sparse/64x64/1%", 4 * 8 * 64 * 10 * 64 * 64,
                                     8 * 64 * 2048 * 12)):
            out = self.ok("bench", "ops", "--json", "--samples", 1, "--filter", f"^{name}$", *on_device(large=True)).json
            (op,) = out["ops"]
            self.assertIsNone(op["failed"], op)
            self.assertAlmostEqual(op["gflop_per_s"] * op["median_s"] * 1e9 / flops, 1)
            self.assertAlmostEqual(op["gbyte_per_s"] * op["median_s"] * 1e9 / bytes_, 1)
            self.assertAlmostEqual(op["of_flop_peak"] * out["peak_gflop_per_s"] / op["gflop_per_s"], 1)
            self.assertAlmostEqual(op["of_copy"] * out["copy_gbyte_per_s"] / op["gbyte_per_s"], 1)
            if "sparse" in name:  # 10 of 32 x 32 blocks
                self.assertAlmostEqual(op["tiles"] / op["all_tiles"], 10 / 1024)
                self.assertAlmostEqual(op["s_per_tile"] * op["tiles"] / op["median_s"], 1)
            elif "attention" not in name:
                self.assertIsNone(op["tiles"])

    def test_without_timestamps(self):
        off = ["--samples", 1, "--filter", "^add/1x", *on_device(), "--cap", "timestamp_ns=0"]
        out = self.ok("bench", "ops", "--json", *off).json
        self.assertEqual(out["clock"], "host")
        self.assertGreater(out["ops"][0]["median_s"], 0)
        self.assertGreater(out["peak_gflop_per_s"], 0)
        self.assertIn("No GPU timestamps", self.ok("bench", "ops", *off).text)

    def test_precision_and_form(self):
        for precision, form in (("mixed", "matmul_scalar"), ("f32", "feed_forward_products"), ("f32", "mlp_fused")):
            out = self.ok("bench", "ops", "--json", "--samples", 1, "--precision", precision, "--form", form, "--filter",
                          "^(feed_forward/plain/q8_0/64x256/n8|add/1x4096)$", *on_device()).json
            self.assertEqual((out["precision"], out["form"]), (precision, form))
            self.assertEqual([op["failed"] for op in out["ops"]], [None, None])

    def test_table(self):
        text = self.ok("bench", "ops", "--samples", 1, "--filter", "^add/1x", *on_device()).text
        self.assertIn("GFLOP/s", text)
        self.assertIn("add/1x4096", text)

    def test_refusals(self):
        self.refused("bench", "ops", *REFERENCE, says="reference")
        self.refused("bench", "ops", "--filter", "[", status=2, says="--filter")
        self.refused("bench", "ops", "--samples", 0, status=2)
        self.refused("bench", status=2)
        on_device()
        self.refused("bench", "ops", "--json", "--filter", "^nothing$", *on_device(), says="no op")
        self.refused("bench", "ops", "--form", "nonsense", *on_device(), says="no op has a form 'nonsense'; forms are matmul_")
        self.refused("bench", "ops", "--precision", "f8", *on_device(), status=2, says="f8")


class BenchForms(ToolTest):
    def forms(self, pattern, *more):
        out = self.ok("bench", "forms", "--json", "--samples", 3, "--filter", pattern, *on_device(), *more).json
        self.assertEqual(list(out), ["version", "date", "device", "driver", "clock", "precision", "ops"])
        self.assertEqual(out["precision"], "mixed" if "mixed" in more else "f32")
        return out["ops"]

    def test_json(self):
        for pattern, forms in (("^feed_forward/plain/q8_0/64x256/n(1|64)$", ["feed_forward_fused", "feed_forward_products"]),
                               ("^mlp/f16/4x32/n64$", ["mlp_fused", "mlp_products"])):
            for op in self.forms(pattern):
                self.assertEqual([f["form"] for f in op["forms"]], forms)
                self.assertEqual(sum(f["chosen"] for f in op["forms"]), 1, op)
                for f in op["forms"]:
                    self.assertIsNone(f["failed"], op)
                    self.assertLessEqual(f["min_s"], f["median_s"])
                    self.assertGreater(f["checked"], 0)
                    self.assertLessEqual(f["error_of_bound"], 1)
                chosen, = (f["min_s"] for f in op["forms"] if f["chosen"])
                self.assertAlmostEqual(op["chosen_over_best"], chosen / min(f["min_s"] for f in op["forms"]))

    def test_bytes(self):
        """What products move beside what no form can avoid: the hidden activation, written and read."""
        for op in self.forms("^feed_forward/plain/f32/64x256/n(8|64)$"):
            rows = int(op["name"].rpartition("/n")[2])
            fused, products = (f["bytes_per_row"] for f in op["forms"])
            self.assertAlmostEqual(products, 2 * 4 * 64 * 256 / rows + 2 * 4 * 64 + 2 * 4 * 256)
            if fused < products:  # else its sums are split
                self.assertAlmostEqual(fused, products - 2 * 4 * 256)

    def test_mixed(self):
        for op in self.forms("^feed_forward/plain/q8_0/64x256/n64$", "--precision", "mixed"):
            self.assertEqual([f["failed"] for f in op["forms"]], [None, None])

    def test_a_form_that_is_refused(self):
        """Matrices of 4 MiB in bindings of 1 MiB."""
        small = ["--cap", "max_storage_range=1048576"]
        (op,) = self.forms("^feed_forward/plain/f32/512x2048/n1$", *small)
        fused, products = op["forms"]
        self.assertIn("do not fit one binding", fused["failed"])
        self.assertEqual([fused[k] for k in ("min_s", "gflop_per_s", "bytes_per_row", "chosen")], [None, None, None, False])
        self.assertIsNone(products["failed"])
        self.assertGreater(products["bytes_per_row"], 0)
        self.assertTrue(products["chosen"])
        self.assertEqual(op["chosen_over_best"], 1)
        text = self.ok("bench", "forms", "--samples", 1, "--filter", "^feed_forward/plain/f32/(64x256|512x2048)/n1$",
                       *on_device(), *small).text
        self.assertIn("of 1 ops", text)
        self.assertIn("not counted: 1 ops of which not every form was timed", text)

    def test_table(self):
        text = self.ok("bench", "forms", "--samples", 1, "--filter", "^mlp/f16/4x32/n64$", *on_device()).text
        self.assertIn("KiB a token", text)
        self.assertRegex(text, r"mlp_(fused|products) +chosen")
        self.assertIn("of 1 ops", text)

    def test_refusals(self):
        self.refused("bench", "forms", *REFERENCE, says="reference")
        self.refused("bench", "forms", "--filter", "[", status=2, says="--filter")
        on_device()
        self.refused("bench", "forms", "--json", "--filter", "^add", *on_device(), says="no op with several forms")


class BenchRates(ToolTest):
    FORMS = ["attention_coopmat2", "attention_coopmat", "attention_keys", "attention", "attention_keys/few_rows",
             "attention_split/few_rows", "matmul_coopmat2", "matmul_coopmat", "matmul_dot", "matmul_scalar",
             "matmul_dot/few_rows", "matmul_scalar/few_rows"]

    def plan(self, env, rows=64, device=None):
        shapes = [x for name, n in zip("QKV", (rows, 64, 64)) for x in ("--shape", f"{name}=F16:1,2,{n},32")]
        return self.ok("op", "attention", "--plan", "--json", *shapes, "--set", "precision=mixed",
                       *(device or on_device(large=True)), env=env)

    def test_measure_save_and_load(self):
        env = {"XDG_CACHE_HOME": str(self.folder / "rates")}
        out = self.ok("bench", "rates", "--json", "--save", "--samples", 3, *on_device(large=True), env=env).json
        self.assertEqual(list(out), ["version", "date", "device", "driver", "clock", "forms", "saved"])
        self.assertEqual([f["form"] for f in out["forms"]], self.FORMS)
        rates = {}
        for f in out["forms"]:
            if f["failed"] is None:
                rates[f["form"]] = f["gflop_per_s"]
                self.assertGreater(f["gflop_per_s"], 0)
                self.assertGreater(f["checked"], 0)
                self.assertLessEqual(f["error_of_bound"], 1)
            else:
                self.assertIsNone(f["gflop_per_s"])
        for op in ("attention", "matmul"):
            for suffix in ("", "/few_rows"):
                shapes = {f["shape"] for f in out["forms"] if f["failed"] is None and f["form"].startswith(op)
                          and ("/" in f["form"]) == bool(suffix)}
                self.assertEqual(len(shapes), 1, shapes)
        self.assertIn("attention", rates)
        self.assertIn("matmul_scalar", rates)
        with open(out["saved"]) as file:
            self.assertEqual(len(file.read().splitlines()), len(rates) + 1)

        for rows, suffix in ((64, ""), (1, "/few_rows")):
            forms = [f for f in rates if f.startswith("attention") and ("/" in f) == bool(suffix)]
            best = max(forms, key=rates.get)
            planned = self.plan(env, rows)
            self.assertEqual(planned.err, "")
            name = planned.json["kernels"][0]["name"].removesuffix("_half")
            if len({round(rates[f], 3) for f in forms}) == len(forms):
                self.assertEqual(name, best.removesuffix(suffix))
            refused = {r["tier"]: r["reason"] for r in planned.json["refused"]}
            for f in set(forms) - {best}:
                self.assertRegex(refused[f.removesuffix(suffix)], r"\Ameasured at \S+ GFLOP/s on this device, \S+ at \S+\Z")
        # Not those of a smaller device, and none without files.
        for more in (["--cap", "max_group_count_x=1000"], ["--no-pipeline-cache"]):
            self.assertNotIn("measured", self.plan(env, device=[*on_device(large=True), *more]).text)

    def test_other_rates_choose_another_form(self):
        env = {"XDG_CACHE_HOME": str(self.folder / "written")}
        file = self.ok("bench", "rates", "--json", "--save", "--samples", 1, *on_device(large=True), env=env).json["saved"]
        first = self.plan(env).json["kernels"][0]["name"]
        slow = "".join(f"{f}=1\n" for f in self.FORMS[:3])
        with open(file, "w") as out:
            out.write(slow + "attention=31\nend\n")
        self.assertEqual(self.plan(env).json["kernels"][0]["name"], "attention")
        for broken in (slow, "", "attention=31\n\0\nend\n", "attention=31\nend of", "attention_magic=3\nend\n"):
            with open(file, "w") as out:
                out.write(broken)
            planned = self.plan(env)
            self.assertNotIn("measured", planned.text)
            self.assertRegex(planned.err, r"\Atessera: [^\n]*ignored[^\n]*\n\Z")
            self.generate("x", "-n", 1, device=on_device(large=True), env=env)
        self.ok("bench", "rates", "--save", "--samples", 1, *on_device(large=True), env=env)
        self.assertEqual(self.plan(env).err, "")
        self.assertIn(first, self.plan(env).text)

    def test_refusals(self):
        self.refused("bench", "rates", *REFERENCE, says="reference")
        self.refused("bench", "rates", "--samples", 0, status=2)
        file = self.write("no folder", b"")
        out = self.run_tool("bench", "rates", "--save", "--samples", 1, *on_device(large=True), env={"XDG_CACHE_HOME": str(file)})
        self.assertEqual(out.status, 1)
        self.assertRegex(out.err, r"tessera: [^\n]*cannot be written\n\Z")


class BenchModel(ToolTest):
    def test_json(self):
        out = self.ok("bench", "model", "-m", MODEL, "-p", 20, "-n", 4, "--json", *on_device()).json
        self.assertEqual(list(out), ["version", "date", "device", "model", "chunk", "precision", "prompt", "generation"])
        for part, tokens in (("prompt", 20), ("generation", 4)):
            self.assertEqual(out[part]["tokens"], tokens)
            self.assertEqual(len(out[part]["rounds"]), 3)
            self.assertLessEqual(out[part]["min"], out[part]["tokens_per_s"])
            self.assertLessEqual(out[part]["tokens_per_s"], out[part]["max"])

    def test_one_of_two(self):
        out = self.ok("bench", "model", "-m", MODEL, "-p", 0, "-n", 2, "--json", *REFERENCE).json
        self.assertIsNone(out["prompt"])
        self.assertEqual(out["generation"]["tokens"], 2)
        text = self.ok("bench", "model", "-m", MODEL, "-p", 3, "-n", 0, *REFERENCE).text
        self.assertIn("tokens/s", text)
        self.assertNotIn("generation", text)

    def test_refusals(self):
        self.refused("bench", "model", "-m", "/nonexistent.gguf", *REFERENCE)
        self.refused("bench", "model", "-m", MODEL, "-p", "many", status=2)


if __name__ == "__main__":
    main()
