#!/usr/bin/env python3
"""Writes tests/data/attention_golden.safetensors: attention by PyTorch in float64, cases of `tessera op attention`.

    python3 tools/goldens/attention.py [OUT]

Needs torch and safetensors. The file's metadata has a JSON object for each case: {"set": ["is_causal=1", ..],
"in": {"Q": key of a tensor, ..}, "out": {..}}; equal tensors are stored once. Outputs are stored in their own type,
rounded once.

Cases of general strides, which no tensor of a file has, have further members: "shapes" {"Q": [B, H, S, D], ..} and
"strides" {"Q": [..], ..} in elements. Their tensors are the memory from the view's first to its last element; that
of Y is NaN where nothing may be written.

Every expected value is `formula` in float64. Where torch.nn.functional.scaled_dot_product_attention or
flex_attention can say the same, the script also asserts that it does.
"""

import json
import math
import pathlib
import struct
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

ROOT = pathlib.Path(__file__).resolve().parents[2]
torch.manual_seed(20250111)
tensors, metadata = {}, {}
INF = math.inf


def randn(*shape, dtype=torch.float32):
    return torch.randn(*shape, dtype=torch.float64).to(dtype)


def visible(batch, q_len, kv_len, causal="none", left=None, right=None, lengths=None, q_lens=None):
    """Which keys a row may see, as booleans (batch, 1, q_len, kv_len)."""
    i = torch.arange(q_len).view(1, 1, q_len, 1)
    j = torch.arange(kv_len).view(1, 1, 1, kv_len)
    n_k = torch.full((batch,), kv_len) if lengths is None else torch.tensor(lengths)
    n_k = n_k.view(batch, 1, 1, 1)
    centre = i + n_k - q_len if causal == "bottom_right" else i + 0 * n_k
    keep = (j < n_k) & (i >= 0)
    if causal != "none":
        keep = keep & (j <= centre)
    if left is not None:
        keep = keep & (j >= centre - left)
    if right is not None:
        keep = keep & (j <= centre + right)
    return keep


def formula(q, k, v, keep=None, add=None, scale=None, softcap=0.0, slopes=None, sinks=None, cosine=False, lengths=None):
    """y, lse and the four kinds of scores, of heads-first float64 tensors. `keep`: booleans; `add`: a sum of masks."""
    q, k, v = q.double(), k.double(), v.double()
    batch, heads, q_len, _ = q.shape
    kv_heads, kv_len = k.shape[1:3]
    k, v = (x.repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    if cosine:
        q, k = (x / x.norm(dim=-1, keepdim=True).clamp_min(1e-300) for x in (q, k))
    scale = (1.0 if cosine else 1 / math.sqrt(q.shape[-1])) if scale is None else scale
    s = raw = q @ k.transpose(-1, -2) * scale
    if softcap:
        s = softcap * torch.tanh(s / softcap)
    capped = s
    if add is not None:
        s = s + add.double()
    if slopes is not None:
        n_k = torch.full((batch,), kv_len) if lengths is None else torch.tensor(lengths)
        i, j = torch.arange(q_len).view(1, 1, -1, 1), torch.arange(kv_len).view(1, 1, 1, -1)
        s = s - slopes.double().view(1, -1, 1, 1) * (i + n_k.view(-1, 1, 1, 1) - q_len - j).abs()
    if keep is not None:
        s = s.masked_fill(~keep, -INF)
    joined = s
    if sinks is not None:
        joined = torch.cat([s, sinks.double().view(1, -1, 1, 1).expand(batch, heads, q_len, 1)], dim=-1)
    lse = torch.logsumexp(joined, dim=-1)
    weights = torch.where(torch.isinf(lse)[..., None], 0.0, torch.exp(s - lse.clamp_min(-1e300)[..., None]))
    y = weights @ v
    same_as_torch(y, lse, q, k, v, raw, capped, s, scale, softcap, sinks)
    return {"Y": y, "lse": lse, "raw": raw, "capped": capped, "masked": s, "weights": weights}


def same_as_torch(y, lse, q, k, v, raw, capped, s, scale, softcap, sinks):
    if sinks is not None:
        return  # neither function has them
    rows_see = ~torch.isinf(lse)
    if not softcap:
        added = torch.where(torch.isinf(s), s, s - raw)
        sdpa = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
        torch.testing.assert_close(sdpa[rows_see], y[rows_see], rtol=1e-11, atol=1e-12)
        return

    def score_mod(score, b, h, i, j):
        t = softcap * torch.tanh(score / softcap)
        return t + torch.where(torch.isinf(s[b, h, i, j]), s[b, h, i, j], s[b, h, i, j] - capped[b, h, i, j])

    flex, flex_lse = flex_attention(q, k, v, score_mod=score_mod, scale=scale, return_lse=True)
    torch.testing.assert_close(flex[rows_see], y[rows_see], rtol=1e-6, atol=1e-7)  # its softmax is float32
    torch.testing.assert_close(flex_lse[rows_see].double(), lse[rows_see], rtol=1e-6, atol=1e-6)


def store(data):
    """The key of a tensor with this content."""
    for key, known in tensors.items():
        if known.dtype == data.dtype and known.shape == data.shape and torch.equal(known, data):
            return key
    key = str(len(tensors))
    tensors[key] = data.contiguous().clone()
    return key


def case(name, inputs, result, outputs=("Y",), scores=None, part=None, **attributes):
    """`scores`: which of the four kinds is qk_matmul_output; `part`: what of it is wanted."""
    kind, stored, expected = inputs["Q"].dtype, {}, {}
    for tensor, data in inputs.items():
        stored[tensor] = store(data)
    out = {o: result[o].to(torch.float32 if o == "lse" else kind) for o in outputs if o in result}
    if scores:
        out["qk_matmul_output"] = result[scores][part or slice(None)].to(kind)
        attributes["qk_matmul_output_mode"] = ["raw", "capped", "masked", "weights"].index(scores)
    for tensor, data in out.items():
        expected[tensor] = store(data)
    settings = [f"{key}={value}" for key, value in attributes.items()]
    metadata[name] = json.dumps({"set": settings, "in": stored, "out": expected})


def qkv(batch=2, heads=4, kv_heads=2, q_len=5, kv_len=7, dim=8, v_dim=None, dtype=torch.float32):
    return (randn(batch, heads, q_len, dim, dtype=dtype), randn(batch, kv_heads, kv_len, dim, dtype=dtype),
            randn(batch, kv_heads, kv_len, v_dim or dim, dtype=dtype))


def named(q, k, v, **more):
    return {"Q": q, "K": k, "V": v, **more}


def packed(x):
    """(batch, heads, len, dim) as (batch, len, heads*dim)."""
    return x.transpose(1, 2).flatten(2)


def heads_and_layouts():
    for name, sizes in {"plain": {"kv_heads": 4}, "gqa": {}, "mqa": {"kv_heads": 1}, "v_dim": {"v_dim": 5},
                        "wide_v": {"dim": 3, "v_dim": 40}, "dim_1": {"dim": 1}, "dim_33": {"dim": 33, "v_dim": 31},
                        "dim_512": {"batch": 1, "heads": 2, "q_len": 3, "dim": 512, "v_dim": 7}, "one_row": {"batch": 1, "q_len": 1, "kv_len": 150},
                        "one_key": {"kv_len": 1}, "tiles": {"batch": 1, "heads": 6, "q_len": 37, "kv_len": 70, "dim": 20}}.items():
        q, k, v = qkv(**sizes)
        case(name, named(q, k, v), formula(q, k, v), ("Y", "lse"))
    q, k, v = qkv(v_dim=6)
    result = formula(q, k, v)
    case("packed", named(*map(packed, (q, k, v))), {"Y": packed(result["Y"])}, q_num_heads=4, kv_num_heads=2)
    case("rows_first", named(*(x.transpose(1, 2) for x in (q, k, v))), {"Y": result["Y"].transpose(1, 2)},
         layout="rows_first")
    case("scale", named(q, k, v), formula(q, k, v, scale=-1.75), scale=-1.75)


def types():
    for dtype in (torch.float16, torch.bfloat16):
        q, k, v = qkv(dim=24, dtype=dtype)
        name = str(dtype).removeprefix("torch.")
        case(name, named(q, k, v), formula(q, k, v, keep=visible(2, 5, 7, "top_left")), ("Y", "lse"), is_causal=1)
        case(name + "_kv", named(q.float(), k, v), formula(q, k, v))
        case(name + "_mask", named(q.float(), k, v, attn_mask=(mask := randn(5, 7, dtype=dtype))),
             formula(q, k, v, add=mask))
    # Blocks of 32 elements: scale max|x|/127 as float16, rounded halves away from zero.
    q, k, v = qkv(dim=64, v_dim=32)

    def q8_0(x):
        blocks = x.double().unflatten(-1, (-1, 32))
        amax = blocks.abs().amax(-1, keepdim=True).float()
        inverse, d = 127 / amax, (amax / 127).half().double()
        scaled = (blocks.float() * inverse).double()
        return (torch.sign(scaled) * torch.floor(scaled.abs() + 0.5) * d).flatten(-2)

    case("q8_0", named(q, k, v), formula(q, q8_0(k), q8_0(v)), kv_type="Q8_0")


def causality_and_windows():
    for name, sizes in {"short": {"q_len": 3}, "long": {"q_len": 9}}.items():
        q, k, v = qkv(**sizes)
        n = q.shape[2]
        for causal in ("none", "top_left", "bottom_right"):
            for left, right in ((None, None), (2, None), (None, 1), (1, 1), (0, 0)):
                if (left, right) == (None, None) and causal == "none":
                    continue
                keep = visible(2, n, 7, causal, left, right)
                given = {"causal": causal}
                if left is not None:
                    given["window_left"] = left
                if right is not None:
                    given["window_right"] = right
                said = f"{'' if left is None else left}_{'' if right is None else right}"
                case(f"{causal}_{name}_{said}", named(q, k, v), formula(q, k, v, keep=keep), ("Y", "lse"), **given)
    q, k, v = qkv(batch=1, heads=2, q_len=61, kv_len=83, dim=16)
    case("window_tiles", named(q, k, v), formula(q, k, v, keep=visible(1, 61, 83, "bottom_right", 9)),
         causal="bottom_right", window_left=9)


def masks():
    q, k, v = qkv()
    for name, shape in {"full": (2, 4, 5, 7), "heads": (4, 5, 7), "rows": (5, 7), "keys": (7,), "sequences": (2, 1, 1, 7)}.items():
        keep = torch.rand(*shape) < 0.6
        case(f"bool_{name}", named(q, k, v, attn_mask=keep), formula(q, k, v, keep=keep.expand(2, 4, 5, 7)),
             ("Y", "lse"))
        mask = randn(*shape)
        mask.view(-1)[::5] = -INF
        case(f"float_{name}", named(q, k, v, attn_mask=mask), formula(q, k, v, add=mask.expand(2, 4, 5, 7)))
    short = torch.rand(5, 4) < 0.7
    keep = torch.cat([short, torch.zeros(5, 3, dtype=torch.bool)], dim=1)
    case("short_mask", named(q, k, v, attn_mask=short), formula(q, k, v, keep=keep.expand(2, 4, 5, 7)))
    bias, mask = randn(4, 5, 1), torch.rand(2, 1, 5, 7) < 0.5
    case("bias_and_mask", named(q, k, v, bias=bias, attn_mask=mask),
         formula(q, k, v, add=bias.expand(2, 4, 5, 7), keep=mask.expand(2, 4, 5, 7)), ("Y", "lse"))
    case("bias", named(q, k, v, bias=(bias := randn(4, 5, 7))), formula(q, k, v, add=bias.expand(2, 4, 5, 7)))


def scores():
    q, k, v = qkv()
    slopes = torch.tensor([2.0 ** -(h + 1) for h in range(4)])
    sinks = torch.tensor([0.5, -2.0, 3.0, 0.0])
    causal = visible(2, 5, 7, "bottom_right")
    case("softcap", named(3 * q, k, v), formula(3 * q, k, v, softcap=1.5), ("Y", "lse"), softcap=1.5)
    case("alibi", named(q, k, v, alibi_slopes=slopes), formula(q, k, v, slopes=slopes, keep=causal), ("Y", "lse"),
         causal="bottom_right")
    case("sinks", named(q, k, v, sinks=sinks), formula(q, k, v, sinks=sinks), ("Y", "lse"))
    empty = torch.ones(2, 1, 5, 7, dtype=torch.bool)
    empty[:, :, 1::2] = False
    case("empty_rows", named(q, k, v, attn_mask=empty), formula(q, k, v, keep=empty), ("Y", "lse"))
    case("empty_rows_sinks", named(q, k, v, attn_mask=empty, sinks=sinks), formula(q, k, v, keep=empty, sinks=sinks),
         ("Y", "lse"))
    zero = q.clone()
    zero[:, :, 2] = 0
    case("cosine", named(zero, k, v), formula(zero, k, v, cosine=True, scale=7.5), ("Y", "lse"), score="cosine",
         scale=7.5)
    mask = randn(5, 7)
    everything = dict(softcap=2.5, add=mask.expand(2, 4, 5, 7), slopes=slopes, sinks=sinks, keep=causal, cosine=True, scale=4.0)
    result = formula(q, k, v, **everything)
    for kind in ("raw", "capped", "masked", "weights"):
        case(f"everything_{kind}", named(q, k, v, attn_mask=mask, alibi_slopes=slopes, sinks=sinks), result,
             ("Y", "lse"), scores=kind, causal="bottom_right", softcap=2.5, score="cosine", scale=4.0)
    case("some_weights", named(q, k, v), formula(q, k, v), scores="weights",
         part=(slice(None), slice(1, 3), slice(2, 5)), score_head=1, score_heads=2, score_row=2)


def lengths_and_documents():
    q, k, v = qkv(batch=4)
    lengths = [7, 0, 3, 5]
    given = torch.tensor(lengths)
    slopes = torch.tensor([0.5, 0.25, 1.0, 0.125])
    case("lengths", named(q, k, v, nonpad_kv_seqlen=given), formula(q, k, v, keep=visible(4, 5, 7, lengths=lengths)),
         ("Y", "lse"))
    keep = visible(4, 5, 7, "bottom_right", lengths=lengths)
    case("lengths_causal", named(q, k, v, nonpad_kv_seqlen=given), formula(q, k, v, keep=keep), ("Y", "lse"),
         is_causal=1)
    case("lengths_alibi", named(q, k, v, nonpad_kv_seqlen=given, alibi_slopes=slopes),
         formula(q, k, v, keep=keep, slopes=slopes, lengths=lengths), ("Y", "lse"), is_causal=1)
    # Blocks of 4 keys in any order; what lies in unused blocks and past the lengths is of no account.
    table = torch.tensor([[5, 1], [-1, 99], [7, 1000], [0, 3]], dtype=torch.int32)
    k_pool, v_pool = randn(9, 2, 4, 8), randn(9, 2, 4, 8)
    whole = [torch.stack([torch.cat([pool[b] for b in row.clamp(0, 8)], dim=1) for row in table])
             for pool in (k_pool, v_pool)]
    keep = visible(4, 5, 8, "bottom_right", lengths=lengths)
    case("paged", named(q, k_pool, v_pool, block_table=table, nonpad_kv_seqlen=given), formula(q, *whole, keep=keep),
         ("Y", "lse"), is_causal=1)

    q, k, v = qkv(batch=1, q_len=12, kv_len=12)
    for name, rows, keys in (("same", [0, 3, 3, 8, 12], None), ("cross", [0, 5, 6, 12], [0, 2, 9, 12])):
        keep = torch.zeros(1, 1, 12, 12, dtype=torch.bool)
        bounds = list(zip(rows, rows[1:], (keys or rows), (keys or rows)[1:]))
        for a, b, c, d in bounds:
            keep[:, :, a:b, c:d] = visible(1, b - a, d - c, "bottom_right", 3)[:1]
        offsets = torch.tensor([rows, keys] if keys else rows)
        case(f"documents_{name}", named(q, k, v, documents=offsets), formula(q, k, v, keep=keep), ("Y", "lse"),
             causal="bottom_right", window_left=3)


def caches():
    q, k, v = qkv(q_len=3, kv_len=9)
    past = {"past_key": k[:, :, :6], "past_value": v[:, :, :6]}
    result = formula(q, k, v, keep=visible(2, 3, 9, "bottom_right"))
    result |= {"present_key": k, "present_value": v}
    new = (k[:, :, 6:], v[:, :, 6:])
    case("past", named(q, *new, **past), result, ("Y", "lse", "present_key", "present_value"), is_causal=1)
    case("past_packed", named(*map(packed, (q, *new)), **past), {**result, "Y": packed(result["Y"])},
         ("Y", "present_key", "present_value"), is_causal=1, q_num_heads=4, kv_num_heads=2)
    # Capacity 16, 9 keys of it in use.
    held = [torch.cat([x, torch.full((2, 2, 7, 8), 1e4)], dim=2) for x in (k, v)]
    case("position", named(q, *held), result, ("Y", "lse"), causal="bottom_right", position=6)
    # A ring of 8 holds keys 22 to 29; rows 27, 28, 29 see 4 keys each.
    q, k, v = qkv(q_len=3, kv_len=30)
    at = [next(j for j in range(22, 30) if j % 8 == slot) for slot in range(8)]
    ring = [x[:, :, at] for x in (k, v)]
    case("ring", named(q, *ring), formula(q, k, v, keep=visible(2, 3, 30, "bottom_right", 3)), ("Y", "lse"),
         causal="bottom_right", window_left=3, ring=1, position=27)


def memory(view):
    """What a view covers, from its first to its last element; NaN between its elements."""
    last = sum(step * (n - 1) for step, n in zip(view.stride(), view.shape))
    flat = torch.full((last + 1,), math.nan, dtype=view.dtype)
    once = view[tuple(slice(0, 1 if step == 0 else None) for step in view.stride())]
    flat.as_strided(once.shape, once.stride()).copy_(once)
    return flat


def strided_case(name, q, k, v, y, **attributes):
    """Views (B, H, S, D) of any strides; `y` is one to write to."""
    keep = visible(q.shape[0], q.shape[2], k.shape[2], attributes.get("causal", "none"))
    y.copy_(formula(q, k, v, keep=keep)["Y"].to(y.dtype))
    views = {"Q": q, "K": k, "V": v, "Y": y}
    stored = {tensor: store(memory(view)) for tensor, view in views.items()}
    metadata[name] = json.dumps({"set": [f"{key}={value}" for key, value in attributes.items()],
                                 "in": {tensor: stored[tensor] for tensor in "QKV"}, "out": {"Y": stored["Y"]},
                                 "shapes": {tensor: list(view.shape) for tensor, view in views.items()},
                                 "strides": {tensor: list(view.stride()) for tensor, view in views.items()}})


def strides():
    for n in (1, 20):
        # One projection gives q, k and v of all heads; the output goes into rows of all heads.
        joint = randn(2, 20, 3, 4, 16)
        q, k, v = (joint[:, :, i].transpose(1, 2) for i in range(3))
        strided_case(f"strides_joint_{n}", q[:, :, :n], k, v, torch.empty(2, n, 4, 16).transpose(1, 2),
                     causal="bottom_right")
        # Keys lie across (a row's elements are apart), values by position first, the output across too.
        q, k, v = randn(2, n, 4, 12), randn(2, 2, 12, 23), randn(23, 2, 2, 9)
        strided_case(f"strides_across_{n}", q.transpose(1, 2), k.transpose(2, 3), v.permute(1, 2, 0, 3),
                     torch.empty(2, 4, 9, n).transpose(2, 3), causal="bottom_right")
        # Parts of larger tensors: every second head, every third row, some columns.
        q, k, v = randn(3, 8, 3 * n, 13), randn(2, 5, 40, 11), randn(2, 4, 50, 20)
        strided_case(f"strides_parts_{n}", q[1:, ::2, ::3, 2:10], k[:, 1::3, 3:36, 1:9], v[:, ::2, 9:42, 4:12],
                     torch.empty(2, 6, 2 * n, 24)[:, 1:5, ::2, ::3])
        # All sequences share the keys, all heads the values.
        q, k, v = randn(4, 2, n, 8).transpose(0, 1), randn(1, 2, 33, 8), randn(2, 1, 33, 8)
        strided_case(f"strides_repeated_{n}", q, k.expand(2, -1, -1, -1), v.expand(-1, 2, -1, -1),
                     torch.empty(2, 4, n, 10)[..., 1:9])
        for dtype in (torch.float16, torch.bfloat16):
            joint = randn(1, 20, 3, 3, 10, dtype=dtype)
            q, k, v = (joint[:, :, i, :, 1:9].transpose(1, 2) for i in range(3))
            strided_case(f"strides_{str(dtype).removeprefix('torch.')}_{n}", q[:, :, :n], k, v,
                         torch.empty(1, n, 3, 9, dtype=dtype)[..., :8].transpose(1, 2), causal="top_left")


def save(path, tensors=tensors, metadata=metadata):
    """As safetensors, the same bytes from the same numbers: the package's own order of the metadata differs."""
    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.bool: "BOOL",
             torch.int64: "I64", torch.int32: "I32"}
    header, data = {"__metadata__": metadata}, b""
    for key, tensor in tensors.items():
        content = tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        header[key] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape),
                       "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def main():
    for write in (heads_and_layouts, types, causality_and_windows, masks, scores, lengths_and_documents, caches, strides):
        write()
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/attention_golden.safetensors"
    save(out)
    print(f"{len(metadata)} cases, {out.stat().st_size} bytes in {out}")


if __name__ == "__main__":
    main()
