#!/usr/bin/env python3
"""Linear attention of `tessera bench ops` beside PyTorch on the CPU, in turn: the table of docs/kernels/linear_attention.md.

    python3 tools/compare_linear_attention.py [--tool build/tessera] [--rounds 3] [--cap NAME=VALUE]... [--no-torch]

Needs torch. PyTorch has the usual chunked forms as batched products of matrices: of 16, 32, 64 and 128 rows the fastest
is taken. Each is compared with the recurrence in float64 first. Times are medians over the rounds, in ms.
"""

import argparse
import json
import statistics
import subprocess
import time

import torch

RULES = ("linear", "gated", "delta", "gated_delta")


def numbers(rule, heads, n, dim):
    randn = lambda *shape: torch.randn(heads, n, *shape)
    x = {"q": randn(dim), "k": torch.nn.functional.normalize(randn(dim), dim=-1), "v": randn(dim),
         "s": torch.randn(heads, dim, dim) if n == 1 else torch.zeros(heads, dim, dim)}
    if "gated" in rule:  # by element, or by head
        x["g"] = -torch.rand(heads, n, 1 if "delta" in rule else dim)
    if "delta" in rule:
        x["beta"] = torch.rand(heads, n, 1)
    return x


def recurrence(q, k, v, s, g=None, beta=None):
    rows = []
    for t in range(q.shape[1]):
        if g is not None:
            s = s * g[:, t].exp()[..., None]
        u = v[:, t, None]
        if beta is not None:
            u = beta[:, t, None] * (u - k[:, t, None] @ s)
        s = s + k[:, t, :, None] * u
        rows.append(q[:, t, None] @ s)
    return torch.cat(rows, 1) / q.shape[-1] ** 0.5, s


def chunk_of(q, k, v, s, g=None, beta=None):
    """Rows of a chunk at once: decays are split into what queries and what keys have of them, or, of a head, are a mask."""
    n = q.shape[1]
    left, keys, ends, mask = q, k, k, 1.0
    if g is not None:
        b = g.cumsum(1)
        if g.shape[-1] == 1:
            mask = (b - b.mT).tril().exp()
            left, ends = q * b.exp(), k * (b[:, -1:] - b).exp()
        else:
            left, keys, ends = q * b.exp(), k * (-b).exp(), k * (b[:, -1:] - b).exp()
    u = v
    if beta is not None:
        before = k if g is None else k * b.exp()
        pairs = (beta * (k @ k.mT) * mask).tril(-1)
        u = torch.linalg.solve_triangular(torch.eye(n) + pairs, beta * (v - before @ s), upper=False, unitriangular=True)
    scores = (left @ keys.mT).tril() if g is None or g.shape[-1] > 1 else (q @ k.mT * mask).tril()
    y = left @ s + scores @ u
    if g is not None:
        s = s * b[:, -1].exp()[..., None]
    return y, s + ends.mT @ u


def chunked(rows, s, **x):
    out = []
    for first in range(0, x["q"].shape[1], rows):
        y, s = chunk_of(s=s, **{name: t[:, first:first + rows] for name, t in x.items()})
        out.append(y)
    return torch.cat(out, 1) / x["q"].shape[-1] ** 0.5, s


def median_ms(run):
    run()
    times = []
    while len(times) < 5 or sum(times) < 0.3 and len(times) < 100:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def torch_times():
    """name -> (ms, rows of a chunk)"""
    out = {}
    for rule in RULES:
        for dim in (64, 128):
            for n in (1, 512, 2048):
                x = numbers(rule, 8, n, dim)
                expected = recurrence(**{name: t.double() for name, t in x.items()})[0] if n <= 512 else None
                best = None
                for rows in (1,) if n == 1 else (16, 32, 64, 128):
                    y = (recurrence(**x) if n == 1 else chunked(rows, **x))[0]
                    if expected is not None and not (y - expected).abs().max() <= 1e-4 * expected.abs().max():
                        continue
                    ms = median_ms(lambda: recurrence(**x) if n == 1 else chunked(rows, **x))
                    best = min(best or (ms, rows), (ms, rows))
                out[f"linear_attention/{rule}/d{dim}/h8/n{n}"] = best
    return out


def tool_times(tool, caps):
    command = [tool, "bench", "ops", "--filter", "^linear_attention", "--json", "--samples", "5"]
    for cap in caps:
        command += ["--cap", cap]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return {op["name"]: 1000 * op["median_s"] for op in found["ops"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tool", default="build/tessera")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cap", action="append", default=[])
    parser.add_argument("--no-torch", action="store_true")
    options = parser.parse_args()
    ours, theirs = [], []
    with torch.inference_mode():
        for _ in range(options.rounds):
            ours.append(tool_times(options.tool, options.cap))
            theirs.append({} if options.no_torch else torch_times())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| op | PyTorch (chunk) | Tessera | ratio |\n|---|--:|--:|--:|")
    for name in ours[0]:
        ms = statistics.median(times[name] for times in ours)
        if name not in theirs[0]:
            print(f"| {name} | | {ms:.2f} | |")
            continue
        other = statistics.median(times[name][0] for times in theirs)
        print(f"| {name} | {other:.2f} ({theirs[0][name][1]}) | {ms:.2f} | {other / ms:.2f} |")


if __name__ == "__main__":
    main()
