#!/usr/bin/env python3
"""Writes docs/ops.md from what the tool says of its ops:

    tessera op --help --json | tools/document_ops.py - > docs/ops.md
"""

import json
import sys

HEAD = """# Operations

Every op that `tessera op NAME` and `tessera_op_run` take. This page is made from the table that
`tessera op NAME --help` prints (`tessera op --help --json | tools/document_ops.py -`).

    tessera op NAME --in A.safetensors --out B.safetensors [--set NAME=VALUE ...] [--output NAME ...]
                    [--device D] [--time N]

runs one op on the tensors of a safetensors (or GGUF) file, which are found by their names. Names are ONNX's where
ONNX has the op. `--device reference` is the CPU reference, which computes in float64 whatever `precision` says.
`--output` asks for an optional output. Shapes are outermost first, tensors row-major without gaps. Arguments that do
not fit are refused by name, with exit code 1, before anything runs; no file is written then.

`tessera op NAME --plan --shape Q=F16:1,8,65536,64 ...` runs nothing: it tells from shapes alone which kernels would run
and which faster tiers were refused, the scratch memory, the arithmetic and traffic, how many tiles of scores attention
goes through, and what a host binds that records the op itself ([embedding.md](embedding.md)).
"""


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def table(title, columns, rows):
    if not rows:
        return ""
    out = f"\n| {title} | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1) + "\n"
    for row in rows:
        out += "| " + " | ".join(cell(value) for value in row) + " |\n"
    return out


def tensors(title, rows):
    described = []
    for row in rows:
        text = ("optional. " if row["optional"] else "") + row["text"]
        described.append((f"`{row['name']}`", row["types"], row["shape"], text.strip()))
    return table(title, ("type", "shape", ""), described)


def main():
    ops = json.load(sys.stdin)
    text = HEAD + "\n| op | |\n|---|---|\n"
    for op in ops:
        text += f"| [`{op['name']}`](#{op['name']}) | {cell(op['summary'])} |\n"
    for op in ops:
        text += f"\n## {op['name']}\n\n{op['summary']}.\n\n"
        text += "".join(f"    {line}\n" for line in op["equations"].split("\n"))
        text += tensors("input", op["inputs"]) + tensors("output", op["outputs"])
        text += table("attribute", ("values", "default", ""),
                      [(f"`{a['name']}`", a["values"], a["default"] or "-", a["text"]) for a in op["attributes"]])
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
