#!/usr/bin/env python3
"""Every driver at hand: the GPU tests on those that execute, `tessera shaders` on those that only compile.

    tools/driver_matrix.py                            what this machine has, to standard output
    tools/driver_matrix.py --config FILE --keep FOLDER --out docs/drivers.md [--only NAME...]
    tools/driver_matrix.py --check FILE...            reads `tessera shaders --json`; status 1 on vector spills or scratch,
                                                      and with --disassembly where a kernel lacks its instructions

A line of FILE: NAME run|compile BUILD COMMAND...; the command is put in front of BUILD/tessera and of
`ctest --test-dir BUILD -L gpu`, all run in the repository's root, for example

    lavapipe-w4  run      build  env VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json LP_NATIVE_VECTOR_WIDTH=128
    navi21       compile  build  env VK_DRIVER_FILES=/usr/share/vulkan/icd.d/radeon_icd.x86_64.json RADV_FORCE_FAMILY=navi21

Without a file: each installed driver that finds a device, and three GPUs of RADV's null device. --keep holds what each
device gave, so that a slow matrix may be gone through in parts (--only): the document is of all devices of the list that
have a result there. Beside --out come the tables of single pipelines, out's name/VENDOR.md, the vendor being a device's
name up to its first "-". In the output file, what follows the line "<!-- by hand -->" is kept.
"""
import argparse
import datetime
import glob
import json
import pathlib
import re
import shlex
import subprocess
import sys
from dataclasses import asdict, dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[1]
BY_HAND = "<!-- by hand -->"
NULL_FAMILIES = ("vega20", "navi21", "gfx1100")
# Values kept in lanes of vector registers: they cost an instruction, no memory.
HARMLESS = ("Spilled SGPRs",)
# Instructions as the machine code of some driver has them, and the kernels that are nothing without them.
SPECIAL = {"matrix": (re.compile(r"\b(?:v_wmma_|v_mfma_|dpas|hmma)"), "coopmat"),
           "dot": (re.compile(r"\b(?:v_dot4|dp4a|idp4)"), "matmul_dot")}
# Columns of the tables of pipelines.
FIGURES = [("regs", lambda p: p["registers"]), ("spills", lambda p: vector_spills(p)),
           ("scratch", lambda p: p["scratch_bytes"]), ("shared", lambda p: p["shared_bytes"]),
           ("instr", lambda p: p["instructions"]), ("cycles", lambda p: p["cycles"]),
           *((name, lambda p, name=name: p.get(name)) for name in SPECIAL)]


@dataclass
class Device:
    name: str
    kind: str  # run | compile
    build: str
    command: list
    info: dict = field(default_factory=dict)  # of `devices` or `shaders`
    passed: int = 0
    skipped: int = 0
    failed: list = field(default_factory=list)
    error: str = ""
    commit: str = ""  # and date, of the result
    date: str = ""

    @property
    def vendor(self):
        return self.name.split("-")[0]


def execute(device, program, timeout):
    return subprocess.run([*device.command, *program], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
                          errors="replace")


def read_config(path):
    devices = []
    for number, line in enumerate(pathlib.Path(path).read_text().splitlines(), 1):
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if len(words) < 3 or words[1] not in ("run", "compile"):
            sys.exit(f"{path}:{number}: needs NAME run|compile BUILD COMMAND...")
        devices.append(Device(words[0], words[1], words[2], words[3:]))
    return devices


def installed(build):
    """Drivers with a device of their own, then RADV's null devices."""
    manifests = sorted(glob.glob("/usr/share/vulkan/icd.d/*.json") + glob.glob("/etc/vulkan/icd.d/*.json"))
    devices = []
    for manifest in manifests:
        device = Device(pathlib.Path(manifest).name.split("_icd")[0], "run", build,
                        ["env", f"VK_DRIVER_FILES={manifest}", f"VK_ICD_FILENAMES={manifest}"])
        found = execute(device, [f"{build}/tessera", "devices", "--json"], 60)
        if found.returncode == 0 and any(d["chosen"] for d in json.loads(found.stdout)["devices"]):
            devices.append(device)
    for manifest in [m for m in manifests if "radeon" in m][:1]:
        for family in NULL_FAMILIES:
            devices.append(Device(family, "compile", build,
                                  ["env", f"VK_DRIVER_FILES={manifest}", f"VK_ICD_FILENAMES={manifest}",
                                   f"RADV_FORCE_FAMILY={family}"]))
    return devices


def run_tests(device, timeout):
    found = execute(device, [f"{device.build}/tessera", "devices", "--json"], 120)
    if found.returncode != 0:
        device.error = last_line(found.stderr)
        return
    device.info = next((d for d in json.loads(found.stdout)["devices"] if d["chosen"]), {})
    tests = execute(device, ["ctest", "--test-dir", device.build, "-L", "gpu", "-V", "-j", "2"], timeout)
    text = re.sub(r"^\d+: ", "", tests.stdout, flags=re.M)
    device.passed = len(re.findall(r"^\[       OK \]", text, re.M))
    device.skipped = len(re.findall(r"^\[  SKIPPED \] .* \(", text, re.M))
    device.failed = sorted({m.split(",")[0] for m in re.findall(r"^\[  FAILED  \] (\S+\.\S+)", text, re.M)})
    # A program that crashed ends without naming a test.
    for name, why in re.findall(r"^\s+\d+ - (\S+) \((\w[\w ]*)\)", tests.stdout, re.M):
        if why not in ("Failed",):
            device.failed.append(f"{name} ({why})")
    if not device.passed and not device.failed:
        device.error = last_line(tests.stdout + tests.stderr)


def last_line(text):
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def run_shaders(device, timeout):
    found = execute(device, [f"{device.build}/tessera", "shaders", "--json", "--disassembly"], timeout)
    if found.returncode != 0:
        device.error = f"status {found.returncode}: {last_line(found.stderr)}"
        return
    device.info = with_counts(json.loads(found.stdout))


def with_counts(info):
    """Counts of SPECIAL instructions instead of the texts, the last of which is the machine code."""
    for p in info["pipelines"]:
        texts = p.pop("texts", None)
        if texts:
            p.update({name: len(found.findall(texts[-1]["text"])) for name, (found, _) in SPECIAL.items()})
    return info


def vector_spills(pipeline):
    """Spills to memory; None where the driver does not say."""
    if pipeline["spills"] is None:
        return None
    return pipeline["spills"] - sum(pipeline["driver"].get(name, 0) for name in HARMLESS)


def lacks(pipeline):
    """The SPECIAL instructions that its kernel is made for and has not; empty where the machine code is unknown."""
    return [name for name, (_, kernel) in SPECIAL.items() if kernel in pipeline["kernel"] and pipeline.get(name) == 0]


def bad(pipeline):
    return bool(pipeline["failed"] or vector_spills(pipeline) or pipeline["scratch_bytes"] or lacks(pipeline))


def label(pipeline):
    return pipeline["kernel"] + (f" ({pipeline['variant']})" if pipeline["variant"] else "")


def cell(value):
    return "–" if value is None else f"{value:g}"


def largest(pipelines, figure):
    values = [figure(p) for p in pipelines if figure(p) is not None]
    return max(values) if values else None


def executing_table(devices):
    out = ["| name | device | driver | commit | tests passed | failed |", "|---|---|---|---|---|---|"]
    for d in devices:
        if d.error:
            out.append(f"| {d.name} | | | {d.commit} | | {d.error} |")
            continue
        total = d.passed + len(d.failed)
        failed = ", ".join(d.failed) if d.failed else "none"
        out.append(f"| {d.name} | {d.info.get('name', '')} | {d.info.get('driver', '')} | {d.commit} | "
                   f"{d.passed} of {total} | "
                   f"{failed} |")
    return out


def compiling_table(devices):
    out = ["| name | device | driver | commit | pipelines | no pipeline | vector spills | scratch |",
           "|---|---|---|---|---|---|---|---|"]
    for d in devices:
        if d.error:
            out.append(f"| {d.name} | | {d.error} | {d.commit} | | | | |")
            continue
        where = f"| {d.name} | {d.info['device'].strip()} | {d.info['driver']} | {d.commit} |"
        if not d.info["available"]:
            out.append(f"{where} not available | | | |")
            continue
        p = d.info["pipelines"]
        counts = (sum(bool(x["failed"]) for x in p), sum(bool(vector_spills(x)) for x in p),
                  sum(bool(x["scratch_bytes"]) for x in p))
        out.append(f"{where} {len(p)} | " + " | ".join(str(c) if c else "none" for c in counts) + " |")
    return out


def kernel_table(devices):
    devices = [d for d in devices if not d.error and d.info["available"]]
    kernels = list(dict.fromkeys(p["kernel"] for d in devices for p in d.info["pipelines"]))
    out = ["| kernel | " + " | ".join(d.name for d in devices) + " |", "|---|" + "---|" * len(devices)]
    for kernel in kernels:
        row = []
        for d in devices:
            mine = [p for p in d.info["pipelines"] if p["kernel"] == kernel]
            if not mine:
                row.append("")
                continue
            text = cell(largest(mine, lambda p: p["registers"]))
            spills, scratch = largest(mine, vector_spills), largest(mine, lambda p: p["scratch_bytes"])
            if spills or scratch:
                text = f"**{text}, {cell(spills)} spills, {cell(scratch)} B**"
            if any(p["failed"] for p in mine):
                text += " **no pipeline**"
            row.append(text)
        out.append(f"| {kernel} | " + " | ".join(row) + " |")
    return out


def special_table(devices):
    """Least and most over a kernel's variants."""
    devices = [d for d in devices if not d.error and d.info["available"]]
    listed = [(kernel, name) for d in devices for p in d.info["pipelines"] for name, (_, part) in SPECIAL.items()
              if part in (kernel := p["kernel"])]
    out = ["| kernel | instruction | " + " | ".join(d.name for d in devices) + " |", "|---|---|" + "---|" * len(devices)]
    for kernel, name in dict.fromkeys(listed):
        row = []
        for d in devices:
            counts = [p[name] for p in d.info["pipelines"] if p["kernel"] == kernel and p.get(name) is not None]
            ends = sorted({min(counts), max(counts)}) if counts else []
            row.append(" to ".join(map(str, ends)))
        out.append(f"| {kernel} | {name} | " + " | ".join(row) + " |")
    return out


def faults(devices):
    out = []
    for d in devices:
        if d.error or not d.info["available"]:
            continue
        for p in filter(bad, d.info["pipelines"]):
            what = p["failed"] or (f"{cell(vector_spills(p))} vector spills, {cell(p['scratch_bytes'])} bytes of scratch"
                                   + "".join(f", no {name} instruction" for name in lacks(p)))
            out.append(f"- {d.name}: {label(p)}: {what}")
    return out


def pipeline_tables(vendor, devices):
    """A table a device, a row a pipeline."""
    out = [f"# Pipelines: {vendor}", "",
           "Every kernel as the product would use it, as `tessera shaders` prints it; [benchmarks.md](../benchmarks.md)",
           "explains the columns. Written by `tools/driver_matrix.py`.", ""]
    for d in devices:
        out += [f"## {d.name}", "", f"{d.info['device'].strip()}, {d.info['driver']}, commit {d.commit}", "",
                "| kernel | variant | lanes | " + " | ".join(name for name, _ in FIGURES) + " |",
                "|---|---|" + "--:|" * (len(FIGURES) + 1)]
        for p in d.info["pipelines"]:
            cells = [cell(p["subgroup_size"]), *(cell(figure(p)) for _, figure in FIGURES)]
            out.append(f"| {p['kernel']} | {p['variant']} | "
                       + (p["failed"] + " |" * len(FIGURES) if p["failed"] else " | ".join(cells)) + " |")
        out.append("")
    return "\n".join(out)


def with_pipelines(devices):
    return [d for d in devices if d.kind == "compile" and not d.error and d.info["available"]]


def document(devices, folder):
    runs = [d for d in devices if d.kind == "run"]
    compiles = [d for d in devices if d.kind == "compile"]
    dates = sorted(d.date for d in devices)
    out = ["# Drivers", "", "Written by `tools/driver_matrix.py` on "
           + (dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}") + ".", ""]
    if runs:
        out += ["## Where the GPU tests ran", "", "Cases of `ctest -L gpu`, each compared with the reference.", "",
                *executing_table(runs), ""]
    if compiles:
        out += ["## Where the shaders were only compiled", "",
                "`tessera shaders` without a GPU: every kernel as the product would use it on that device. Spills are",
                "those of vector registers to memory, as each driver counts them.", "", *compiling_table(compiles), ""]
        vendors = dict.fromkeys(d.vendor for d in with_pipelines(compiles))
        if folder:
            out += ["Every pipeline, with registers, spills, scratch, shared memory, instructions and cycles:",
                    ", ".join(f"[{v}]({folder}/{v}.md)" for v in vendors) + ".", ""]
        found = faults(compiles)
        if found:
            out += ["### To be mended", "", *found, ""]
        out += ["## Registers by kernel", "",
                "The most over a kernel's variants, in each driver's unit (AMD: VGPRs of a lane; NVIDIA: GPRs of a lane;",
                "Adreno: full vec4 registers); with spills or scratch, those too. – is not reported.",
                "", *kernel_table(compiles), "",
                "## Matrix and integer dot instructions", "",
                "In the machine code, over a kernel's variants; blank where the device does not get the kernel. matrix: v_wmma",
                "(AMD), dpas (Intel), hmma (NVIDIA); dot: v_dot4, dp4a, idp4. A kernel made for them without any is a fault.",
                "", *special_table(compiles), ""]
    return "\n".join(out)


def write_documents(devices, path):
    out = pathlib.Path(path)
    old = out.read_text() if out.exists() else ""
    tail = old[old.index(BY_HAND):] if BY_HAND in old else BY_HAND + "\n"
    out.write_text(document(devices, out.stem) + "\n" + tail)
    listed = with_pipelines(devices)
    for vendor in dict.fromkeys(d.vendor for d in listed):
        folder = out.with_suffix("")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{vendor}.md").write_text(pipeline_tables(vendor, [d for d in listed if d.vendor == vendor]))


def measure(device, timeout):
    try:
        (run_tests if device.kind == "run" else run_shaders)(device, timeout)
    except subprocess.TimeoutExpired:
        device.error = f"no end within {timeout} s"
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    device.commit = commit.stdout.strip() or "unknown"
    device.date = datetime.date.today().isoformat()


def kept(device, folder):
    """The device with the result that an earlier run kept, or None."""
    path = pathlib.Path(folder or ".") / f"{device.name}.json"
    if not folder or not path.exists():
        return None
    return Device(**json.loads(path.read_text()))


def check(paths):
    status = 0
    for path in paths:
        with (sys.stdin if path == "-" else open(path)) as file:
            info = with_counts(json.load(file))
        device = Device(info["device"], "compile", "", [], info)
        found = faults([device])
        print(f"{info['device']}, {info['driver']}: {len(info['pipelines'])} pipelines, {len(found)} at fault")
        for line in found:
            print(line)
        if found or not info["pipelines"]:
            status = 1
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="the devices; without it what this machine has")
    parser.add_argument("--build", default="build", help="build folder for the default devices")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these devices of the list")
    parser.add_argument("--out", help="a Markdown file; without it standard output")
    parser.add_argument("--keep", metavar="FOLDER", help="results, NAME.json each")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds a device may take")
    parser.add_argument("--check", nargs="+", metavar="FILE", help="only judge these files ('-': standard input)")
    options = parser.parse_args()
    if options.check:
        return check(options.check)
    devices = read_config(options.config) if options.config else installed(options.build)
    results = []
    for device in devices:
        if options.only and device.name not in options.only:
            results.append(kept(device, options.keep))
            continue
        print(f"{device.name}...", file=sys.stderr, flush=True)
        measure(device, options.timeout)
        results.append(device)
        if options.keep:
            pathlib.Path(options.keep).mkdir(parents=True, exist_ok=True)
            (pathlib.Path(options.keep) / f"{device.name}.json").write_text(json.dumps(asdict(device), indent=1))
    results = [d for d in results if d]
    if not results:
        sys.exit("no device")
    if options.out:
        write_documents(results, options.out)
    else:
        print(document(results, None))
    failed = any(d.error or d.failed for d in results) or faults([d for d in results if d.kind == "compile"])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
