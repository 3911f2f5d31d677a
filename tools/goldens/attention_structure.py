#!/usr/bin/env python3
"""Writes tests/data/attention_structure_golden.safetensors: block lists, prefixes, relative biases and other scores of
attention in float64, cases of `tessera op attention` in the form that attention.py describes.

    python3 tools/goldens/attention_structure.py [OUT]

Needs torch, transformers and safetensors. Expected values are attention.formula with a dense mask or bias, Swin's as
transformers has it; or what whole modules give, of transformers (Longformer, T5) and torch (MultiheadAttention), which
are asserted to be the formula too.
"""

import pathlib
import sys

import attention
import torch
from attention import INF, ROOT, case, formula, named, qkv, randn, visible
from transformers.models.longformer.modeling_longformer import LongformerConfig, LongformerSelfAttention
from transformers.models.swin.modeling_swin import SwinRelativePositionBias
from transformers.models.t5.modeling_t5 import T5Attention, T5Config

MASK64 = (1 << 64) - 1


def lists(blocks):
    """block_rows and block_columns of booleans (.., row blocks, key blocks)."""
    flat = blocks.flatten(0, -3) if blocks.dim() > 2 else blocks[None]
    rows, columns = [], []
    for matrix in flat:
        rows.append(len(columns))
        for row in matrix:
            columns += row.nonzero().flatten().tolist()
            rows.append(len(columns))
    return {"block_rows": torch.tensor(rows, dtype=torch.int32).view(*blocks.shape[:-2], blocks.shape[-2] + 1),
            "block_columns": torch.tensor(columns, dtype=torch.int32)}


def dense(blocks, q_block, k_block, q_len, kv_len):
    """The same as booleans (batch|1, heads|1, q_len, kv_len)."""
    keep = blocks.repeat_interleave(q_block, -2).repeat_interleave(k_block, -1)[..., :q_len, :kv_len]
    return keep.view(*[1] * (4 - keep.dim()), *keep.shape)


def block_lists():
    q, k, v = qkv(q_len=45, kv_len=70, heads=2, kv_heads=1)
    for q_block, k_block, shared in ((16, 16, ()), (8, 32, (2,)), (64, 1, ()), (1, 5, (2, 1)), (3, 7, (2, 2)), (45, 70, ())):
        blocks = torch.rand(*shared, -(-45 // q_block), -(-70 // k_block)) < 0.4
        keep = dense(blocks, q_block, k_block, 45, 70).expand(2, 2, -1, -1)
        given = named(q, k, v, **lists(blocks))
        sizes = dict(q_block=q_block, k_block=k_block)
        name = f"lists_{q_block}x{k_block}"
        case(name, given, formula(q, k, v, keep=keep), ("Y", "lse"), **sizes)
        case(name + "_causal", given, formula(q, k, v, keep=keep & visible(2, 45, 70, "bottom_right", 30)), ("Y",),
             causal="bottom_right", window_left=30, **sizes)
        lengths = torch.tensor([33, 70])
        keep = keep & visible(2, 45, 70, "top_left", lengths=lengths.tolist())
        result = formula(q, k, v, keep=keep)
        case(name + "_lengths", {**given, "nonpad_kv_seqlen": lengths}, result, ("Y", "lse"), scores="weights",
             part=(slice(None), slice(1, 2), slice(20, 23)), causal="top_left", score_head=1, score_row=20, score_rows=3,
             **sizes)


def graphs():
    q, k, v = qkv(batch=1, heads=3, kv_heads=3, q_len=50, kv_len=50, dim=12)
    for name, share in {"sparse": 0.08, "full": 1.1, "empty": -1}.items():
        edges = torch.rand(50, 50) < share
        edges[7] = edges[:, 9] = share > 0
        case(f"graph_{name}", named(q, k, v, **lists(edges)), formula(q, k, v, keep=edges.expand(1, 3, 50, 50)),
             ("Y", "lse"))


def splitmix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK64
    return x ^ (x >> 31)


def sparse(n, window, globals_, random=0, seed=0):
    """Blocks that Longformer's and BigBird's rows see."""
    blocks = torch.zeros(n, n, dtype=torch.bool)
    for row in range(n):
        listed = {key for key in range(n) if row < globals_ or key < globals_ or abs(row - key) <= window}
        others = [key for key in range(n) if key not in listed]
        drawn, state = set(), splitmix(seed ^ splitmix(row))
        while len(drawn) < min(random, len(others)):
            drawn.add(others[state % len(others)])
            state = splitmix(state)
        blocks[row, sorted(listed | drawn)] = True
    return blocks


def longformer(window, globals_, same):
    """Its attention module with q, k, v of local and of global rows, and its output, heads first. `same`: with global
    projections like the local ones its output is formula with this mask."""
    config = LongformerConfig(hidden_size=16, num_attention_heads=2, attention_window=[2 * window],
                              attention_probs_dropout_prob=0.0)
    layer = LongformerSelfAttention(config, 0).double().eval()
    for part in ("query", "key", "value") if same else ():
        getattr(layer, part + "_global").load_state_dict(getattr(layer, part).state_dict())
    n = 12 * window
    x, mask = 3 * randn(1, n, 16).double(), torch.zeros(1, n).double()
    mask[:, :globals_] = 10000
    found = layer(x, attention_mask=mask, is_index_masked=mask < 0, is_index_global_attn=mask > 0,
                  is_global_attn=globals_ > 0)[0]
    near, far = ([part(x).view(1, n, 2, 8).transpose(1, 2).detach() for part in parts] for parts in (
        (layer.query, layer.key, layer.value), (layer.query_global, layer.key_global, layer.value_global)))
    return near, far, found.view(1, n, 2, 8).transpose(1, 2).detach()


def longformer_modules():
    """Whole modules. With projections of their own, global rows are a call over the global keys and values."""
    for window, globals_ in ((2, 0), (3, 1), (4, 5)):
        (q, k, v), _, found = longformer(window, globals_, True)
        wanted = formula(q, k, v, keep=sparse(12 * window, window, globals_).expand(1, 2, -1, -1))["Y"]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)  # its softmax is float32
        case(f"longformer_module_{window}_{globals_}", named(*(x.float() for x in (q, k, v))), {"Y": found},
             sparsity="longformer", sparse_window=window, sparse_global=globals_)
    (q, k, v), far, found = longformer(3, 4, False)
    case("longformer_module_rows", named(*(x.float() for x in (q[:, :, 4:], k, v)), **lists(sparse(36, 3, 4)[4:])),
         {"Y": found[:, :, 4:]})
    case("longformer_module_global_rows", named(far[0][:, :, :4].float(), far[1].float(), far[2].float()),
         {"Y": found[:, :, :4]})


def known_shapes():
    for name, n, block, settings in (("longformer", 40, 1, dict(window=3, globals_=2)),
                                     ("longformer", 70, 16, dict(window=1, globals_=1)),
                                     ("bigbird", 90, 8, dict(window=1, globals_=1, random=3, seed=5)),
                                     ("bigbird", 33, 2, dict(window=0, globals_=0, random=40))):
        q, k, v = qkv(batch=1, q_len=n, kv_len=n)
        blocks = sparse(-(-n // block), **settings)
        case(f"{name}_{block}", named(q, k, v), formula(q, k, v, keep=dense(blocks, block, block, n, n).expand(1, 4, n, n)),
             ("Y", "lse"), sparsity=name, q_block=block, k_block=block,
             **{"sparse_" + key.strip("_").replace("globals", "global"): value for key, value in settings.items()})


def prefixes():
    for q_len, kv_len in ((9, 9), (5, 12), (40, 70)):
        q, k, v = qkv(q_len=q_len, kv_len=kv_len)
        for causal in ("top_left", "bottom_right"):
            keep = visible(2, q_len, kv_len, causal)
            j = torch.arange(kv_len)
            case(f"prefix_{causal}_{q_len}", named(q, k, v), formula(q, k, v, keep=keep | (j < 6)), ("Y", "lse"),
                 causal=causal, prefix_length=6)
            lengths = torch.tensor([3, kv_len])
            case(f"prefixes_{causal}_{q_len}", named(q, k, v, prefix_lengths=lengths),
                 formula(q, k, v, keep=keep | (j < lengths.view(2, 1, 1, 1))), ("Y", "lse"), causal=causal)


def t5_bias(table, q_len, kv_len, bidirectional, max_distance):
    distance = torch.arange(kv_len)[None] - (torch.arange(q_len) + kv_len - q_len)[:, None]
    buckets = T5Attention._relative_position_bucket(distance, bidirectional, table.shape[0], max_distance)
    return table[buckets].permute(2, 0, 1)


def t5_modules():
    """Whole modules but for the last projection, of an encoder and, causal by its mask, of a decoder."""
    for name, decoder in (("encoder", False), ("decoder", True)):
        config = T5Config(d_model=16, d_kv=8, num_heads=2, dropout_rate=0.0, is_decoder=decoder)
        layer = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).double().eval()
        layer.relative_attention_bias.weight.data = randn(32, 2).double()
        layer.o = torch.nn.Identity()
        x = randn(1, 200, 16).double()
        q, k, v = (part(x).view(1, 200, 2, 8).transpose(1, 2).detach() for part in (layer.q, layer.k, layer.v))
        table = layer.relative_attention_bias.weight.detach()
        keep = visible(1, 200, 200, "top_left" if decoder else "none")
        mask = torch.zeros(1, 1, 200, 200).double().masked_fill(~keep, torch.finfo(torch.float32).min)
        found = layer(x, mask=mask)[0].detach().view(1, 200, 2, 8).transpose(1, 2)
        wanted = formula(q, k, v, add=t5_bias(table, 200, 200, not decoder, 128)[None], keep=keep, scale=1.0)["Y"]
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)  # its softmax is float32
        case(f"t5_module_{name}", named(*(t.float() for t in (q, k, v)), relative_bias=table.float()), {"Y": found},
             relative="t5", bidirectional=int(not decoder), scale=1.0, causal="top_left" if decoder else "none")


def relative_biases():
    for name, q_len, kv_len, buckets, bidirectional, reach in (
            ("encoder", 150, 150, 32, True, 128), ("decoder", 5, 300, 32, False, 128), ("short", 20, 20, 8, True, 20),
            ("cross", 7, 60, 12, True, 33)):
        q, k, v = qkv(batch=1, heads=2, kv_heads=2, q_len=q_len, kv_len=kv_len)
        table = randn(buckets, 2)
        bias = t5_bias(table, q_len, kv_len, bidirectional, reach)[None]
        settings = dict(relative="t5", bidirectional=int(bidirectional), max_distance=reach, scale=1.0)
        keep = None if bidirectional else visible(1, q_len, kv_len, "bottom_right")
        if not bidirectional:
            settings["causal"] = "bottom_right"
        case(f"t5_{name}", named(q, k, v, relative_bias=table), formula(q, k, v, add=bias, keep=keep, scale=1.0),
             ("Y", "lse"), **settings)
    table = randn(11, 4)
    q, k, v = qkv(q_len=20, kv_len=30)
    distance = (torch.arange(30)[None] - (torch.arange(20) + 10)[:, None]).clamp(-5, 5) + 5
    case("relative_distance", named(q, k, v, relative_bias=table),
         formula(q, k, v, add=table[distance].permute(2, 0, 1)[None].expand(2, -1, -1, -1)), ("Y", "lse"))
    for height, width in ((7, 7), (3, 5), (1, 4)):
        index = SwinRelativePositionBias(2, (height, width)).relative_position_index
        n = height * width
        q, k, v = qkv(batch=3, heads=2, kv_heads=2, q_len=n, kv_len=n)
        table = randn((2 * height - 1) * (2 * width - 1), 2)
        bias = table[index.view(-1)].view(n, n, 2).permute(2, 0, 1)[None].expand(3, -1, -1, -1)
        case(f"swin_{height}x{width}", named(q, k, v, relative_bias=table), formula(q, k, v, add=bias), ("Y", "lse"),
             relative="window", window_width=width)
        shifted = torch.where(torch.rand(3, 1, n, n) < 0.8, 0.0, -100.0)
        case(f"swin_shifted_{height}x{width}", named(q, k, v, relative_bias=table, attn_mask=shifted),
             formula(q, k, v, add=bias + shifted), ("Y",), relative="window", window_width=width)


def top(s, k):
    """The k highest of each row, of equal ones the first."""
    order = s.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.zeros_like(s, dtype=torch.bool).scatter(-1, order, True)


def top_k():
    q, k, v = qkv(q_len=19, kv_len=70)
    causal = visible(2, 19, 70, "bottom_right", 40)
    for count in (1, 4, 69, 70, 1000):
        keep = top(formula(q, k, v)["masked"], count)
        case(f"top_{count}", named(q, k, v), formula(q, k, v, keep=keep), ("Y", "lse"), top_k=count)
        keep = causal & top(formula(q, k, v, keep=causal)["masked"], count)
        case(f"top_{count}_causal", named(q, k, v), formula(q, k, v, keep=keep), ("Y", "lse"), scores="weights",
             part=(slice(None), slice(0, 1), slice(3, 6)), top_k=count, causal="bottom_right", window_left=40,
             score_heads=1, score_row=3, score_rows=3)
    same = torch.zeros_like(q)
    keep = (torch.arange(70) < 9).expand(2, 4, 19, 70)
    case("top_of_equal", named(same, k, v), formula(same, k, v, keep=keep), ("Y", "lse"), top_k=9)


def general_scores():
    """Luong's: q^T W k, W transposed as rows of what K is multiplied with."""
    for name, sizes in {"one": {"batch": 1}, "batch": {}, "head": {"heads": 1, "kv_heads": 1}, "dims": {"dim": 20}}.items():
        q, k, v = qkv(**sizes)
        dim = q.shape[-1]
        wide, matrix = randn(*q.shape[:3], 12), randn(q.shape[1], dim, 12) * 0.3
        result = formula(torch.einsum("bhqe,hde->bhqd", wide.double(), matrix.double()), k, v)
        case(f"general_{name}", named(wide, k, v, score_matrix=matrix), result, ("Y", "lse"))
        case(f"general_rows_first_{name}", named(*(x.transpose(1, 2) for x in (wide, k, v)), score_matrix=matrix),
             {"Y": result["Y"].transpose(1, 2)}, layout="rows_first")


def additive_formula(q, k, v, vector, keep):
    q, k, v, vector = (x.double() for x in (q, k, v, vector))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    s = torch.einsum("bhqkd,hd->bhqk", torch.tanh(q[..., :, None, :] + k[..., None, :, :]), vector)
    s = s.masked_fill(~keep, -INF)
    lse = torch.logsumexp(s, -1)
    return {"Y": torch.exp(s - lse[..., None]) @ v, "lse": lse, "raw": s}


def additive_scores():
    for name, sizes in {"rows": {"q_len": 33, "kv_len": 40}, "few": {"q_len": 2, "kv_len": 150}, "dim_1": {"dim": 1},
                        "wide": {"dim": 65, "v_dim": 3}}.items():
        q, k, v = qkv(**sizes)
        vector = randn(4, q.shape[-1])
        keep = visible(2, q.shape[2], k.shape[2], "bottom_right")
        case(f"additive_{name}", named(q, k, v, score_vector=vector), additive_formula(q, k, v, vector, keep),
             ("Y", "lse"), score="additive", causal="bottom_right")
    q, k, v = qkv(batch=1, q_len=5, kv_len=30)
    matrix, vector = randn(4, 8, 8) * 0.3, randn(4, 8)
    everything = torch.tensor(True)
    projected = torch.einsum("bhqe,hde->bhqd", q.double(), matrix.double())
    case("additive_matrix", named(q, k, v, score_matrix=matrix, score_vector=vector),
         additive_formula(projected, k, v, vector, everything), ("Y", "lse"), score="additive")
    case("additive_saturated", named(100 * q, k, v, score_vector=vector),
         additive_formula(100 * q, k, v, vector, everything), ("Y", "lse"), score="additive")


def multihead_attention():
    """torch.nn.MultiheadAttention between its projections, with the weights of each head and their mean."""
    module = torch.nn.MultiheadAttention(24, 4, batch_first=True, dtype=torch.float64).eval()
    with torch.no_grad():
        module.in_proj_bias.copy_(randn(72))
        module.out_proj.weight.copy_(torch.eye(24))
        x, memory = 2 * randn(2, 19, 24).double(), 2 * randn(2, 37, 24).double()
        parts = (torch.nn.functional.linear(t, w, b) for t, w, b in zip(
            (x, memory, memory), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)))
        given = named(*(t.float() for t in parts))
        padding = torch.arange(37) >= torch.tensor([20, 37])[:, None]
        causal = torch.arange(37) > torch.arange(19)[:, None]
        keep = ~(padding[:, None, None] | causal)
        for name, masks, more in (("", {}, {}), ("_masked", {"key_padding_mask": padding, "attn_mask": causal},
                                               {"attn_mask": keep})):
            for average in (False, True):
                y, weights = module(x, memory, memory, need_weights=True, average_attn_weights=average, **masks)
                case(f"multihead{name}_{'average' if average else 'heads'}", {**given, **more},
                     {"Y": y, "weights": weights.view(2, -1, 19, 37)}, scores="weights", q_num_heads=4, kv_num_heads=4,
                     average_heads=int(average))


def averages():
    """Of some of the heads, which share those of keys, beside what else weights are made of."""
    q, k, v = qkv(q_len=19, kv_len=70)
    sinks, causal = torch.tensor([0.5, -2.0, 3.0, 0.0]), visible(2, 19, 70, "bottom_right", 40)
    lengths, blocks = torch.tensor([0, 33]), torch.rand(4, 3, 9) < 0.5
    for name, given, result, settings in (
            ("sinks", {"sinks": sinks}, formula(q, k, v, keep=causal, sinks=sinks),
             dict(causal="bottom_right", window_left=40)),
            ("lengths", {"nonpad_kv_seqlen": lengths},
             formula(q, k, v, keep=visible(2, 19, 70, lengths=lengths.tolist())), {}),
            ("lists", lists(blocks), formula(q, k, v, keep=dense(blocks, 8, 8, 19, 70).expand(2, -1, -1, -1)),
             dict(q_block=8, k_block=8)),
            ("top", {}, formula(q, k, v, keep=top(formula(q, k, v)["masked"], 3)), dict(top_k=3))):
        mean = result["weights"][:, 1:4, 2:17].mean(1, keepdim=True)
        case(f"average_{name}", named(q, k, v, **given), {**result, "weights": mean}, ("Y", "lse"), scores="weights",
             average_heads=1, score_head=1, score_row=2, score_rows=15, **settings)


def main():
    for write in (block_lists, graphs, known_shapes, prefixes, relative_biases, top_k, general_scores, additive_scores,
                  longformer_modules, t5_modules, multihead_attention, averages):
        write()
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/attention_structure_golden.safetensors"
    attention.save(out)
    print(f"{len(attention.metadata)} cases, {out.stat().st_size} bytes in {out}")


if __name__ == "__main__":
    main()
