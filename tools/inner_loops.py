#!/usr/bin/env python3
"""What the innermost loops cost besides their multiply-adds, from the drivers' own disassembly.

    tessera shaders --filter TEXT --disassembly --json | tools/inner_loops.py [FILE...]

A line for each innermost loop with at least 16 multiply-adds: instructions of each class in one round. Repeats that one
line stands for (Adreno's rptN, nopN) and the two halves of AMD's v_dual count as the issue slots that they take. Reads the
assembly of RADV, Intel's driver, NVK and Turnip.
"""
import json
import re
import sys

LEAST = 16  # multiply-adds
LABEL = re.compile(r"^\s*(?:block(?:\.u)? \d+ (L\d+)|(BB\d+|LABEL\d+|l\d+):)")
JUMP = re.compile(r"(?:s_c?branch\w*|while\(|bra |jump |br ).*?\b(BB\d+|LABEL\d+|L\d+|l\d+)\b")
# In order; the first that matches. Of a line, or of it and the next (Intel names a message there).
CLASSES = [
    ("multiply-adds", re.compile(r"v_(?:dual_)?fma|v_mad_f32|v_fmac|\bmad\(\d+\)\s+\S+F\s|\bffma|\bmad\.f32")),
    ("shared reads", re.compile(r"\bds_(?:read|load)|slm MsgDesc: \( load|\bld\.shared|\bldl\b|\bldl\.")),
    ("waits", re.compile(r"s_waitcnt|s_delay_alu|s_nop|s_clause|\bsync \w+\(|\bnop\b")),
    ("jumps", re.compile(r"s_c?branch|s_cmp|\bwhile\(|\bbra\b|\bjump\b|\bbr\b|\bisetp|\bcmp[.s]")),
]
NAMES = [name for name, _ in CLASSES] + ["rest"]


def instructions(text):
    """(labels here, line with what follows on the next, jump target) of each instruction."""
    labels, out = [], []
    for line in text.splitlines():
        line = line.split(" //")[0].split(" ; ")[0].rstrip()
        label = LABEL.match(line)
        if label:
            labels.append(label.group(1) or label.group(2))
        elif re.match(r"^\s{20,}\w+ MsgDesc", line) and out:
            out[-1][1] += " " + line.strip()
        elif re.match(r"^(?:\s*@?!?\w|\t|\s*\()", line) and not re.match(r"^\s*(?:}|;)", line) and line.strip():
            jump = JUMP.search(line)
            out.append([labels, line.strip(), jump.group(1) if jump else None])
            labels = []
    return out


def loops(program):
    """Ranges of instructions that jump back to their first and hold no other such range."""
    at = {label: i for i, (labels, _, _) in enumerate(program) for label in labels}
    ranges = {(at[target], i + 1) for i, (_, _, target) in enumerate(program) if target in at and at[target] <= i}
    return sorted(r for r in ranges if not any(o != r and r[0] <= o[0] and o[1] <= r[1] for o in ranges))


def slots(line):
    """(class, issue slots) pairs of an instruction."""
    repeat = re.search(r"\(rpt(\d+)\)", line)
    count = int(repeat.group(1)) + 1 if repeat else 1
    name = next((n for n, pattern in CLASSES if pattern.search(line)), "rest")
    if "::" in line:  # v_dual: two operations in one slot
        halves = [next((n for n, p in CLASSES if p.search(half)), "rest") for half in line.split("::")]
        return [(h, 0.5) for h in halves]
    waits = re.search(r"\(nop(\d+)\)", line)
    return [(name, count)] + ([("waits", int(waits.group(1)))] if waits else [])


def report(device, pipelines):
    for p in pipelines:
        text = next((t["text"] for t in p.get("texts", []) if "assembly" in t["name"].lower()), "")
        program = instructions(text)
        for first, last in loops(program):
            counts = dict.fromkeys(NAMES, 0)
            for _, line, _ in program[first:last]:
                for name, n in slots(line):
                    counts[name] += n
            if counts["multiply-adds"] < LEAST:
                continue
            total = sum(counts.values())
            yield [device, p["kernel"], p["variant"], *(f"{counts[n]:g}" for n in NAMES),
                   f"{total / counts['multiply-adds']:.2f}"]


def main():
    rows = []
    for path in sys.argv[1:] or ["-"]:
        if path in ("-h", "--help"):
            print(__doc__)
            return 0
        with (sys.stdin if path == "-" else open(path)) as file:
            info = json.load(file)
        rows += report(info["device"], info["pipelines"])
    header = ["device", "kernel", "variant", *NAMES, "a multiply-add"]
    print("| " + " | ".join(header) + " |\n|---|---|---|" + "--:|" * (len(NAMES) + 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    return 0 if rows else 1


if __name__ == "__main__":
    sys.exit(main())
