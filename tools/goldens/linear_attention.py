#!/usr/bin/env python3
"""Writes tests/data/linear_attention_golden.safetensors: linear attention row by row in float64 by PyTorch, cases of
`tessera op linear_attention` and `tessera op linformer_attention`.

    python3 tools/goldens/linear_attention.py [OUT]

Needs torch. The file is like that of tools/goldens/attention.py; a case's "op" names its operation. Where the state's
sum can be said as one product of matrices, or as torch.nn.functional.scaled_dot_product_attention, the script also
asserts that it is the same.
"""

import json
import math
import pathlib
import sys

import torch
import torch.nn.functional as F

import attention as golden

torch.manual_seed(20251122)
MAPS = {"none": lambda x: x, "elu_plus_one": lambda x: F.elu(x) + 1, "relu": F.relu, "exp": torch.exp}


def heads_of(x, heads):
    """(batch, len, heads*dim) as (batch, heads, len, dim), in float64."""
    return x.double().unflatten(-1, (heads, -1)).transpose(1, 2)


def recurrence(rule, q_heads, kv_heads, query, key, value, past_state=None, decay=None, beta=None,
               past_normaliser=None, scale=0.0, feature_map="none", normalise=0, epsilon=1e-6, is_causal=1):
    f = MAPS[feature_map]
    q, k, v = f(heads_of(query, q_heads)), f(heads_of(key, kv_heads)), heads_of(value, kv_heads)
    batch, _, n, k_dim = q.shape
    v = torch.cat([v, torch.ones(batch, kv_heads, n, 1)], -1)  # the normaliser is the state of a column of ones
    s = torch.zeros(batch, kv_heads, k_dim, v.shape[-1], dtype=torch.float64)
    if past_state is not None:
        s[..., :-1] = past_state.double()
    if past_normaliser is not None:
        s[..., -1] = past_normaliser.double()
    if decay is not None:
        g = heads_of(decay, kv_heads)
    rate = None if beta is None else beta.double().transpose(1, 2).expand(-1, kv_heads, -1)
    read = lambda t, state: torch.einsum("bhd,bhdc->bhc", q[:, :, t], state.repeat_interleave(q_heads // kv_heads, 1))
    rows = []
    for t in range(n):
        if "gated" in rule:
            s = s * g[:, :, t].exp()[..., None]
        u = v[:, :, t]
        if "delta" in rule:
            u = rate[:, :, t, None] * (u - torch.einsum("bhdc,bhd->bhc", s, k[:, :, t]))
        s = s + k[:, :, t, :, None] * u[..., None, :]
        rows.append(read(t, s))
    if not is_causal:
        rows = [read(t, s) for t in range(n)]
    y = torch.stack(rows, 2)
    if rule == "linear" and past_state is None and is_causal:
        whole = (q @ k.repeat_interleave(q_heads // kv_heads, 1).mT).tril() @ v.repeat_interleave(q_heads // kv_heads, 1)
        torch.testing.assert_close(whole, y, rtol=1e-11, atol=1e-12)
    factor = scale if scale else 1.0 if normalise else 1 / math.sqrt(k_dim)
    out = factor * y[..., :-1]
    if normalise:
        out = out / (y[..., -1:] + epsilon)
    return {"output": out.transpose(1, 2).flatten(2), "present_state": s[..., :-1], "present_normaliser": s[..., -1]}


def store(name, op, inputs, result, settings):
    kind = next(iter(inputs.values())).dtype
    golden.metadata[name] = json.dumps({
        "op": op, "set": [f"{key}={value}" for key, value in settings.items()],
        "in": {tensor: golden.store(data) for tensor, data in inputs.items()},
        "out": {tensor: golden.store(data.to(kind)) for tensor, data in result.items()}})


def case(name, rule, batch=2, n=5, heads=4, kv_heads=2, k_dim=8, v_dim=6, dtype=torch.float32, past=False,
         by_dim=False, by_head=False, wanted=("output", "present_state"), **settings):
    randn = lambda *shape: golden.randn(*shape, dtype=dtype)
    inputs = {"query": randn(batch, n, heads * k_dim), "key": randn(batch, n, kv_heads * k_dim),
              "value": randn(batch, n, kv_heads * v_dim)}
    if "delta" in rule:
        inputs["key"] = F.normalize(inputs["key"].unflatten(-1, (kv_heads, -1)), dim=-1).flatten(2)
        inputs["beta"] = torch.rand(batch, n, kv_heads if by_head else 1).to(dtype)
    if "gated" in rule:
        inputs["decay"] = (-torch.rand(batch, n, kv_heads * (k_dim if by_dim else 1))).to(dtype)
    if past:
        inputs["past_state"] = randn(batch, kv_heads, k_dim, v_dim)
    if past and settings.get("normalise"):
        inputs["past_normaliser"] = torch.rand(batch, kv_heads, k_dim).to(dtype)
    result = recurrence(rule, heads, kv_heads, **inputs, **settings)
    store(name, "linear_attention", inputs, {o: result[o] for o in wanted},
          {"update_rule": rule, "q_num_heads": heads, "kv_num_heads": kv_heads, **settings})


def rules():
    for rule in ("linear", "gated", "delta", "gated_delta"):
        case(rule, rule)
        case(rule + "_past", rule, past=True, by_head=True)
        case(rule + "_row", rule, n=1, past=True, by_dim=True)
        case(rule + "_long", rule, batch=1, n=50, heads=2, kv_heads=1, k_dim=20, v_dim=35, past=True, by_dim=True)
        case(rule + "_odd", rule, batch=1, n=37, heads=3, kv_heads=3, k_dim=13, v_dim=3, by_head=True)
        case(rule + "_one", rule, batch=1, n=1, heads=1, kv_heads=1, k_dim=1, v_dim=1)
        case(rule + "_scale", rule, n=18, scale=-0.75)
        for dtype in (torch.float16, torch.bfloat16):
            case(f"{rule}_{str(dtype).removeprefix('torch.')}", rule, n=18, past=True, dtype=dtype)


def maps():
    for feature_map in ("elu_plus_one", "relu", "exp"):
        for is_causal in (0, 1):
            for normalise in (0, 1):
                past = normalise == is_causal
                wanted = ("output", "present_state") + (("present_normaliser",) if normalise else ())
                case(f"{feature_map}_{is_causal}_{normalise}", "linear", n=21, past=past, wanted=wanted,
                     feature_map=feature_map, is_causal=is_causal, normalise=normalise, epsilon=1e-3)
    case("elu_plus_one_gated", "gated", n=21, past=True, by_dim=True, feature_map="elu_plus_one", normalise=1,
         wanted=("output", "present_state", "present_normaliser"))


def linformer(name, batch=2, heads=4, kv_heads=4, n=19, q_len=None, rank=5, dim=8, v_dim=None, four=False,
              two=True, dtype=torch.float32, **settings):
    v_dim, q_len = v_dim or dim, q_len or n
    sizes = (("Q", heads, q_len, dim), ("K", kv_heads, n, dim), ("V", kv_heads, n, v_dim))
    split = {tensor: golden.randn(batch, h, length, d, dtype=dtype) for tensor, h, length, d in sizes}
    inputs = {tensor: x if four else golden.packed(x) for tensor, x in split.items()}
    inputs["E"] = golden.randn(rank, n, dtype=dtype)
    if two:
        inputs["F"] = golden.randn(rank, n, dtype=dtype)
    e, f = inputs["E"].double(), inputs.get("F", inputs["E"]).double()
    q, k, v = (split[tensor].double() for tensor in "QKV")
    k, v = (x.repeat_interleave(heads // kv_heads, 1) for x in (e @ k, f @ v))
    y = golden.formula(q, k, v, scale=settings.get("scale"))["Y"]
    if not four:
        y, settings = golden.packed(y), {"q_num_heads": heads, "kv_num_heads": kv_heads, **settings}
    store(name, "linformer_attention", inputs, {"Y": y}, settings)


def linformers():
    linformer("linformer")
    linformer("linformer_shared", two=False)
    linformer("linformer_4d", four=True, kv_heads=2, v_dim=5)
    linformer("linformer_gqa", kv_heads=2, v_dim=12, scale=0.25)
    linformer("linformer_one", batch=1, heads=1, kv_heads=1, n=1, rank=1, dim=1)
    linformer("linformer_long", batch=1, heads=2, kv_heads=1, n=90, q_len=7, rank=33, dim=16)
    linformer("linformer_rank_n", n=6, rank=9, four=True)
    linformer("linformer_float16", dtype=torch.float16)


def main():
    for write in (rules, maps, linformers):
        write()
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else golden.ROOT / "tests/data/linear_attention_golden.safetensors"
    golden.save(out)
    print(f"{len(golden.metadata)} cases, {out.stat().st_size} bytes in {out}")


if __name__ == "__main__":
    main()
