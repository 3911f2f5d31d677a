#!/usr/bin/env python3
"""Writes tests/data/attention_user_golden.safetensors: flex_attention of PyTorch on the CPU in float64, with the same
functions in GLSL beside it, as cases of `tessera op attention --score .. --mask ..`.

    python3 tools/goldens/attention_user.py [OUT]

Needs torch. The file's metadata has a JSON object for each case: {"score": GLSL, "mask": GLSL, "in": {"Q": key of a
tensor, ..}, "out": {..}}; equal tensors are stored once. Each result is also compared with the formula in float64
(flex_attention's softmax is float32).
"""
import json
import math
import pathlib
import sys

import attention
import torch
from attention import ROOT
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

torch.manual_seed(20250207)
tensors, metadata = [], {}


def store(data):
    for key, known in enumerate(tensors):
        if known.dtype == data.dtype and known.shape == data.shape and torch.equal(known, data):
            return str(key)
    tensors.append(data.contiguous().clone())
    return str(len(tensors) - 1)


def formula(q, k, v, score_mod, mask_mod):
    batch, heads, rows, dim = q.shape
    k, v = (x.repeat_interleave(heads // k.shape[1], dim=1) for x in (k, v))
    place = torch.meshgrid(*(torch.arange(n) for n in (batch, heads, rows, k.shape[2])), indexing="ij")
    s = q @ k.transpose(-1, -2) / math.sqrt(dim)
    s = score_mod(s, *place) if score_mod else s
    s = s.masked_fill(~mask_mod(*place).expand(s.shape), -math.inf) if mask_mod else s
    return torch.nan_to_num(torch.softmax(s, dim=-1)) @ v, torch.logsumexp(s, dim=-1)


def case(name, rows=37, keys=37, batch=2, heads=4, kv_heads=2, dim=8, score=(None, ""), mask=(None, ""), **buffers):
    """`score`, `mask`: (the function in Python, the body of the same in GLSL)."""
    q = torch.randn(batch, heads, rows, dim)
    k, v = torch.randn(2, batch, kv_heads, keys, dim)
    blocks = create_block_mask(mask[0], batch, heads, rows, keys, device="cpu") if mask[0] else None
    y, lse = flex_attention(q.double(), k.double(), v.double(), score_mod=score[0], block_mask=blocks,
                            enable_gqa=heads != kv_heads, return_lse=True)
    expected, expected_lse = formula(q.double(), k.double(), v.double(), score[0], mask[0])
    seen = ~torch.isinf(expected_lse)
    torch.testing.assert_close(y[seen], expected[seen], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(lse[seen].double(), expected_lse[seen], rtol=1e-5, atol=1e-5)
    inputs = {"Q": q, "K": k, "V": v} | {f"user.{n}": data for n, data in buffers.items()}
    texts = {"score": "float score(float s, uint b, uint h, uint q, uint k)", "mask": "bool mask(uint b, uint h, uint q, uint k)"}
    metadata[name] = json.dumps(
        {kind: f"{texts[kind]} {{\n{body}\n}}\n" if body else "" for kind, body in (("score", score[1]), ("mask", mask[1]))} |
        {"in": {n: store(data) for n, data in inputs.items()},
         "out": {"Y": store(y.float()), "lse": store(lse.float())}})


def causal(b, h, q, k):
    return q >= k


def window(width):
    return lambda b, h, q, k: (q >= k) & (q - k < width)


def scores():
    slopes = torch.tensor([0.5, 0.25, 0.125, 1.0])
    alibi = (lambda s, b, h, q, k: s - slopes[h] * (q - k).abs(), "  return s - slopes[h] * abs(float(int(q) - int(k)));")
    case("alibi", score=alibi, slopes=slopes)
    case("alibi_causal", rows=130, keys=130, score=alibi, mask=(causal, "  return q >= k;"), slopes=slopes)
    case("softcap", score=(lambda s, b, h, q, k: 2 * torch.tanh(s / 2), "  return 2.0 * tanh(s / 2.0);"))
    table = torch.randn(4, 36 + 37 + 1)
    case("relative_bias", score=(lambda s, b, h, q, k: s + table[h, q - k + 36], "  return s + bias[h * 74 + q + 36 - k];"),
         bias=table)
    factors = torch.tensor([0.5, 2.0])
    case("temperature_of_sequence", rows=3, keys=90,
         score=(lambda s, b, h, q, k: s * factors[b], "  return s * factors[b];"), factors=factors)
    case("no_keys_before", rows=9, keys=40, score=(
        lambda s, b, h, q, k: torch.where(k >= 5, s, -math.inf), "  return k >= 5 ? s : -1.0 / 0.0;"))


def masks():
    case("window", rows=150, keys=150, mask=(window(12), "  return q >= k && q - k < 12;"))
    case("window_of_one_row", rows=1, keys=300,
         mask=(lambda b, h, q, k: (q + 299 - k) < 40, "  return q + 299 - k < 40;"))
    documents = (torch.arange(70) // 19).to(torch.int32)
    case("documents", rows=70, keys=70, mask=(
        lambda b, h, q, k: (documents[q] == documents[k]) & (q >= k),
        "  return document[q] == document[k] && q >= k;"), document=documents)
    prefix = torch.tensor([9, 21], dtype=torch.int32)
    case("prefix_lm", rows=40, keys=40, mask=(
        lambda b, h, q, k: (q >= k) | (k < prefix[b]), "  return q >= k || int(k) < prefix[b];"), prefix=prefix)
    case("by_head", rows=60, keys=60, mask=(
        lambda b, h, q, k: torch.where(h % 2 == 0, q >= k, (q - k).abs() < 7),
        "  return h % 2 == 0 ? q >= k : abs(int(q) - int(k)) < 7;"))
    case("and_or", rows=75, keys=75, mask=(
        lambda b, h, q, k: ((q - k).abs() < 8) & (documents[q % 70] == documents[k % 70]) | (k % 16 == 0),
        "  bool near = abs(int(q) - int(k)) < 8;\n  return near && document[q % 70] == document[k % 70] || k % 16 == 0;"),
        document=documents)
    case("neighbourhood_of_an_image", rows=64, keys=64, kv_heads=4, mask=(
        lambda b, h, q, k: ((q // 8 - k // 8).abs() <= 2) & ((q % 8 - k % 8).abs() <= 1),
        "  ivec2 a = ivec2(q / 8, q % 8), c = ivec2(k / 8, k % 8);\n  return all(lessThanEqual(abs(a - c), ivec2(2, 1)));"))
    case("dilated", rows=40, keys=100, mask=(lambda b, h, q, k: (q + k) % 5 == 0, "  return (q + k) % 5 == 0;"))
    padding = torch.tensor([20, 33], dtype=torch.int32)
    case("lengths", rows=8, keys=40, mask=(lambda b, h, q, k: k < padding[b], "  return int(k) < count[b];"), count=padding)


def main():
    scores()
    masks()
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/attention_user_golden.safetensors"
    attention.save(path, {str(key): data for key, data in enumerate(tensors)}, metadata)
    print(f"{len(metadata)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
