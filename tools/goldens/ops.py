#!/usr/bin/env python3
"""Writes tests/data/ops_golden.json: single ops by PyTorch, in float64 ("expected") and float32 ("f32").

    python3 tools/goldens/ops.py [OUT]

Needs torch, numpy and gguf. Every case is one op with small inputs; src/graph/graph.h says what each operand is.
"""

import json
import pathlib
import sys

import gguf
import numpy as np
import torch
import torch.nn.functional as F

ROOT = pathlib.Path(__file__).resolve().parents[2]
rng = np.random.default_rng(20240607)
cases = []
EPS = float(np.float32(1e-5))


def random(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def operand(data, storage="activation", dtype="F32", raw=None, shape=None):
    """An op's input. `raw`: file bytes of a block format, whose decoded values are `data`."""
    out = {"storage": storage, "dtype": dtype, "shape": list(shape or data.shape)}
    if raw is not None:
        out["hex"] = raw.tobytes().hex()
    else:
        out["data"] = [float(f"{x:.9g}") for x in np.asarray(data).flatten().tolist()]
    return out


def quantised(data, dtype):
    kind = getattr(gguf.GGMLQuantizationType, dtype)
    raw = gguf.quants.quantize(data, kind)
    return gguf.quants.dequantize(raw, kind).astype(np.float32), raw


def random_blocks(rng, rows, dtype):
    """Rows of one block of a type that nothing here encodes: random bytes, whose f16 fields are small numbers."""
    kind = getattr(gguf.GGMLQuantizationType, dtype)
    raw = rng.integers(0, 256, (rows, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for at in (208,) if dtype == "Q6_K" else (0, 2):
        raw[:, at : at + 2] = rng.uniform(1e-4, 1e-3, (rows, 1)).astype("<f2").view(np.uint8)
    return gguf.quants.dequantize(raw, kind).astype(np.float32), raw


def words(data):
    return {"storage": "input", "dtype": "U32", "shape": [len(data)], "data": list(data)}


def case(name, kind, inputs, compute, attrs=None, position=0, dynamic=False, tensors=(), outputs=None):
    """`compute(*tensors)` gives the outputs as tensors; run in both precisions.
    An output is described as its storage, or as the index of the input that is written in place with the elements."""
    in64 = [torch.tensor(t, dtype=torch.float64) for t in tensors]
    in32 = [torch.tensor(t, dtype=torch.float32) for t in tensors]
    result64, result32 = compute(*in64), compute(*in32)
    described = []
    for i, (a, b) in enumerate(zip(result64, result32)):
        out = {"shape": list(a.shape), "expected": [float(f"{x:.14g}") for x in a.flatten().tolist()],
               "f32": [float(f"{x:.9g}") for x in b.flatten().tolist()]}
        out.update((outputs or [{}] * len(result64))[i])
        described.append(out)
    cases.append({"name": name, "kind": kind, "attrs": attrs or {}, "position": position, "dynamic": dynamic,
                  "inputs": inputs, "outputs": described})


def norms():
    x, r, w, b = random(3, 40), random(3, 40, scale=0.5), random(40), random(40)
    vectors = [operand(w, "weight"), operand(b, "weight")]

    def rms(x, w, r=None):
        s = x if r is None else x + r
        return [F.rms_norm(s, (40,), w, EPS)] + ([s] if r is not None else [])

    def layer(x, w, b, r=None):
        s = x if r is None else x + r
        return [F.layer_norm(s, (40,), w, b, EPS)] + ([s] if r is not None else [])

    case("rms_norm", "norm", [operand(x), vectors[0], None, None], rms, {"eps": EPS}, tensors=(x, w))
    case("rms_norm_residual", "norm", [operand(x), vectors[0], None, operand(r)], rms, {"eps": EPS}, tensors=(x, w, r))
    attrs = {"eps": EPS, "layer_norm": True}
    case("layer_norm", "norm", [operand(x), *vectors, None], layer, attrs, tensors=(x, w, b))
    case("layer_norm_residual", "norm", [operand(x), *vectors, operand(r)], layer, attrs, tensors=(x, w, b, r))
    shifted = x + np.float32(30)  # where a one-pass variance would cancel
    case("layer_norm_shifted", "norm", [operand(shifted), *vectors, None], layer, attrs, tensors=(shifted, w, b))
    tiny = x * np.float32(1e-4)  # eps counts
    case("rms_norm_tiny", "norm", [operand(tiny), vectors[0], None, None], rms, {"eps": EPS}, tensors=(tiny, w))


ACTIVATIONS = {
    "none": lambda x: x,
    "silu": F.silu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_erf": F.gelu,
    "relu": F.relu,
    "relu2": lambda x: F.relu(x) ** 2,
    "sigmoid": torch.sigmoid,
}


def activations():
    x = np.concatenate([np.linspace(-12, 12, 25), [-100, -0.001, 0, 1e-6, 60]]).astype(np.float32).reshape(2, 15)
    up = random(2, 15)
    for name, act in ACTIVATIONS.items():
        if name == "none":
            continue
        case(name, "activation", [operand(x)], lambda x: [act(x)], {"act": name}, tensors=(x,))
        case("glu_" + name, "glu", [operand(x), operand(up)], lambda x, u: [act(x) * u], {"act": name}, tensors=(x, up))
    a, b = random(2, 15), random(2, 15)
    case("add", "add", [operand(a), operand(b)], lambda a, b: [a + b], tensors=(a, b))


def matmuls():
    x, w, up, b, ub = random(2, 64), random(5, 64), random(5, 64), random(5), random(5)
    wo, uo, bo, ubo = (operand(t, "weight") for t in (w, up, b, ub))
    case("matmul", "matmul", [operand(x), wo, None, None, None], lambda x, w: [x @ w.T], tensors=(x, w))
    for name, act in ACTIVATIONS.items():
        case("matmul_bias_" + name, "matmul", [operand(x), wo, bo, None, None],
             lambda x, w, b: [act(F.linear(x, w, b))], {"act": name}, tensors=(x, w, b))
    for name in ("silu", "gelu_tanh"):
        act = ACTIVATIONS[name]
        case("gated_" + name, "matmul", [operand(x), wo, bo, uo, ubo],
             lambda x, w, b, u, c: [act(F.linear(x, w, b)) * F.linear(x, u, c)], {"act": name},
             tensors=(x, w, b, up, ub))
    for dtype in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        value, raw = quantised(w, dtype)
        case("matmul_" + dtype, "matmul", [operand(x), operand(value, "weight", dtype, raw), None, None, None],
             lambda x, w: [x @ w.T], tensors=(x, value))


def rope_table(context, dims, theta=10000.0):
    angle = np.outer(np.arange(context), theta ** (-np.arange(0, dims, 2) / dims))
    return np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)


def turn(x, table, head_dim, dims, adjacent, position):
    """As complex numbers for adjacent pairs, with rotate-half for the others."""
    rows = x.shape[0]
    x = x.reshape(rows, -1, head_dim)
    part, rest = x[..., :dims], x[..., dims:]
    t = table[position:position + rows, None]
    if adjacent:
        pairs = torch.view_as_complex(part.reshape(*part.shape[:-1], dims // 2, 2).contiguous())
        turned = torch.view_as_real(pairs * torch.view_as_complex(t.contiguous())).flatten(-2)
    else:
        cos, sin = torch.cat([t[..., 0]] * 2, -1), torch.cat([t[..., 1]] * 2, -1)
        half = torch.cat([-part[..., dims // 2:], part[..., :dims // 2]], -1)
        turned = part * cos + half * sin
    return torch.cat([turned, rest], -1).reshape(rows, -1)


def ropes():
    context, position = 12, 5
    for adjacent in (True, False):
        for dims in (8, 4):
            x, table = random(3, 16), rope_table(context, dims)
            attrs = {"heads": 2, "head_dim": 8, "rope_dims": dims, "rope_adjacent": adjacent}
            case(f"rope_{'adjacent' if adjacent else 'half'}_{dims}", "rope",
                 [operand(x), operand(table, "constant"), "state"],
                 lambda x, t: [turn(x, t, 8, dims, adjacent, position)], attrs, position, True, (x, table))

    k = random(3, 16)
    elements = [(h * context + position + r) * 8 + i for r in range(3) for h in range(2) for i in range(8)]
    for dtype in ("F32", "F16"):
        cache = operand(np.zeros((2, context, 8), np.float32), "cache", dtype)
        case("kv_append_" + dtype, "kv_append", [operand(k), "state", cache], lambda k: [k],
             {"kv_heads": 2, "head_dim": 8}, position, True, (k,), [{"in_place": 2, "elements": elements}])
        qkv, table = random(3, 64), rope_table(context, 8)
        attrs = {"heads": 4, "kv_heads": 2, "head_dim": 8, "rope_dims": 8, "rope_adjacent": dtype == "F32"}
        case("rope_append_" + dtype, "rope_append",
             [operand(qkv), operand(table, "constant"), "state", cache, cache],
             lambda x, t: [turn(x[:, :32], t, 8, 8, attrs["rope_adjacent"], position),
                           turn(x[:, 32:48], t, 8, 8, attrs["rope_adjacent"], position), x[:, 48:]],
             attrs, position, True, (qkv, table),
             [{}, {"in_place": 3, "elements": elements}, {"in_place": 4, "elements": elements}])


def attentions():
    context, heads, kv_heads, dim, rows = 12, 4, 2, 8, 3
    factor = float(np.float32(dim ** -0.5))
    for name, position, causal, window, dtype, scale in (
            ("causal", 5, True, 0, "F32", 1), ("first", 0, True, 0, "F32", 1), ("window", 5, True, 4, "F32", 1),
            ("f16", 5, True, 0, "F16", 1), ("full", 5, False, 0, "F32", 1), ("sharp", 5, True, 0, "F32", 20)):
        q, k, v = random(rows, heads * dim, scale=scale), random(kv_heads, context, dim), random(kv_heads, context, dim)
        if dtype == "F16":
            k, v = (t.astype(np.float16).astype(np.float32) for t in (k, v))
        end = position + rows
        i, j = np.arange(position, end)[:, None], np.arange(end)[None]
        seen = (j <= i) if causal else np.ones((rows, end), bool)
        if window:
            seen &= j > i - window

        def attend(q, k, v):
            out = F.scaled_dot_product_attention(
                q.reshape(1, rows, heads, dim).transpose(1, 2), k[None, :, :end], v[None, :, :end],
                attn_mask=torch.tensor(seen), scale=factor, enable_gqa=True)
            return [out[0].transpose(0, 1).reshape(rows, heads * dim)]

        caches = [operand(t, "cache", dtype) for t in (k, v)]
        case("attention_" + name, "attention", [operand(q), *caches, "state"], attend,
             {"heads": heads, "kv_heads": kv_heads, "head_dim": dim, "scale": factor, "causal": causal,
              "window": window}, position, True, (q, k, v))


def rows():
    table = random(6, 32)
    for dtype in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        value, raw = (table, None) if dtype == "F32" else quantised(table, dtype)
        case("embedding_" + dtype, "embedding",
             [words([9, 9, 4, 0, 5]), "state", operand(value, "weight", dtype, raw, shape=table.shape)],
             lambda t: [t[[4, 0, 5]]], position=2, dynamic=True, tensors=(value,))
    x = random(3, 8)
    case("last_row", "last_row", [operand(x), "state", None], lambda x: [x[2:]], dynamic=True, tensors=(x,),
         outputs=[{"dynamic": False}])
    r = random(3, 8)
    case("last_row_residual", "last_row", [operand(x), "state", operand(r)], lambda x, r: [(x + r)[2:]], dynamic=True,
         tensors=(x, r), outputs=[{"dynamic": False}])


def k_quants():
    rng = np.random.default_rng(6)
    for dtype in ("Q4_K", "Q5_K", "Q6_K"):
        value, raw = random_blocks(rng, 5, dtype)
        x = np.abs(random(2, 256)) * np.sign(value[:2])  # sums of 256 terms that do not cancel
        weight = operand(value, "weight", dtype, raw)
        case("matmul_" + dtype, "matmul", [operand(x), weight, None, None, None], lambda x, w: [x @ w.T],
             tensors=(x, value))
        case("embedding_" + dtype, "embedding", [words([1, 4, 0]), "state", weight],
             lambda t: [t[[4, 0]]], position=1, dynamic=True, tensors=(value,))


def epilogues():
    rng = np.random.default_rng(7)
    x, w, up, b, ub, r = (rng.standard_normal(shape).astype(np.float32)
                          for shape in ((2, 64), (5, 64), (5, 64), 5, 5, (2, 5)))
    wo, uo, bo, ubo = (operand(t, "weight") for t in (w, up, b, ub))
    case("matmul_scale_residual", "matmul", [operand(x), wo, bo, None, None, operand(r)],
         lambda x, w, b, r: [F.silu(-0.75 * (x @ w.T) + b) + r], {"act": "silu", "scale": -0.75}, tensors=(x, w, b, r))
    case("gated_scale_residual", "matmul", [operand(x), wo, bo, uo, ubo, operand(r)],
         lambda x, w, b, u, c, r: [torch.sigmoid(0.125 * (x @ w.T) + b) * (0.125 * (x @ u.T) + c) + r],
         {"act": "sigmoid", "scale": 0.125}, tensors=(x, w, b, up, ub, r))
    half_x, half_r = (t.astype(np.float16).astype(np.float32) for t in (x, r))
    case("matmul_f16", "matmul", [operand(half_x, dtype="F16"), wo, bo, None, None, operand(half_r, dtype="F16")],
         lambda x, w, b, r: [F.linear(x, w, b) + r], tensors=(half_x, w, b, half_r), outputs=[{"dtype": "F16"}])


def main():
    for group in (norms, activations, matmuls, ropes, attentions, rows, k_quants, epilogues):
        group()
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/ops_golden.json"
    body = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    out.write_text(f'{{"made_by":"tools/goldens/ops.py, torch {torch.__version__}","cases":[\n{body}\n]}}\n')
    print(f"{len(cases)} cases, {out.stat().st_size} bytes: {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
