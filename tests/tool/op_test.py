"""`tessera op`: its help and docs/ops.md, what it refuses, plans, and every op on the device against the reference."""
import math
import random
import struct
import subprocess
import sys
import unittest

from harness import REFERENCE, ROOT, ToolTest, gguf, main, on_device, read_safetensors
from onnx_case import write_safetensors

random.seed(11)


def f32(*shape, values=None):
    count = 1
    for n in shape:
        count *= n
    return "F32", list(shape), struct.pack(f"<{count}f", *(values or (random.gauss(0, 1) for _ in range(count))))


def f16(*shape):
    kind, shape, content = f32(*shape)
    values = struct.unpack(f"<{len(content) // 4}f", content)
    return "F16", shape, struct.pack(f"<{len(values)}e", *values)


def i64(*values, shape=None):
    return "I64", shape or [len(values)], struct.pack(f"<{len(values)}q", *values)


def qkv(q_len=5, keys=7, heads=4, kv_heads=2, dim=8, v_dim=8):
    return {"Q": f32(1, heads, q_len, dim), "K": f32(1, kv_heads, keys, dim), "V": f32(1, kv_heads, keys, v_dim)}


class OpTest(ToolTest):
    def arguments(self, op, tensors, settings=(), outputs=(), device=REFERENCE, files=()):
        given = self.folder / "in.safetensors"
        write_safetensors(given, tensors)
        out = ["op", op, "--in", given, "--out", self.folder / "out.safetensors", *device]
        for file in files:
            out += ["--in", file]
        for setting in settings:
            out += ["--set", setting]
        for output in outputs:
            out += ["--output", output]
        return out

    def op(self, *args, **options):
        self.ok(*self.arguments(*args, **options))
        return read_safetensors(self.folder / "out.safetensors")


class Help(OpTest):
    def test_names(self):
        ops = self.ok("op", "--help", "--json").json
        self.assertGreaterEqual(len(ops), 12)
        overview = self.ok("op", "--help").text
        for op in ops:
            self.assertIn(op["name"], overview)
            text = self.ok("op", op["name"], "--help").text
            for row in op["inputs"] + op["outputs"] + op["attributes"]:
                self.assertIn(f"\n  {row['name']} ", text)

    def test_document(self):
        made = subprocess.run([sys.executable, str(ROOT / "tools/document_ops.py"), "-"],
                              input=self.ok("op", "--help", "--json").out, capture_output=True, check=True)
        self.assertEqual(made.stdout.decode(), (ROOT / "docs/ops.md").read_text(),
                         "write it anew: tessera op --help --json | tools/document_ops.py - > docs/ops.md")

    def test_unknown(self):
        self.refused("op", "atention", *REFERENCE, says="there is no op \"atention\", did you mean 'attention'?")


class Refused(OpTest):
    """One line that names the argument, status 1, and a file that was there before stays as it was."""

    def refuses(self, says, op, tensors, settings=(), outputs=()):
        arguments = self.arguments(op, tensors, settings, outputs)
        out = self.write("out.safetensors", b"before")
        self.refused(*arguments, says=says)
        self.assertEqual(out.read_bytes(), b"before")
        out.unlink()
        self.refused(*arguments, says=says)
        self.assertFalse(out.exists())

    def attention(self, says, settings=(), outputs=(), **tensors):
        self.refuses(says, "attention", {n: t for n, t in {**qkv(), **tensors}.items() if t}, settings, outputs)

    def test_files(self):
        write_safetensors(self.folder / "good.safetensors", qkv())
        good = (self.folder / "good.safetensors").read_bytes()
        out = self.folder / "none.safetensors"
        for name, content in {"cut": good[:-1], "header": good[:40], "short": good[:5], "empty": b"",
                              "long": struct.pack("<Q", 1 << 62) + good[8:], "text": b"these are no tensors"}.items():
            path = self.write(name + ".safetensors", content)
            self.refused("op", "attention", "--in", path, "--out", out, *REFERENCE, says=name + ".safetensors")
            self.assertFalse(out.exists())
        self.refused("op", "attention", "--in", self.folder / "missing", "--out", out, *REFERENCE, says="missing")
        self.refused("op", "attention", "--in", self.folder / "good.safetensors", "--out", self.folder / "no/such/out",
                     *REFERENCE, says="no/such/out")

    def test_tensors(self):
        self.attention("tensor 'K' is missing", K=None)
        self.attention("no input \"k\", did you mean 'K'?", k=f32(1))
        self.attention("Q is \"I64\", it must be F32, F16 or BF16", Q=i64(*range(160), shape=[1, 4, 5, 8]))
        self.attention("Q has 8 elements a head, K has 9", K=f32(1, 2, 7, 9))
        self.attention("K has 7 keys, V has 6", V=f32(1, 2, 6, 8))
        self.attention("K has 2 heads, V has 1", V=f32(1, 1, 7, 8))
        self.attention("Q has 4 heads, no multiple of K's 3", K=f32(1, 3, 7, 8), V=f32(1, 3, 7, 8))
        self.attention("Q has 1 sequences, K has 2", K=f32(2, 2, 7, 8), V=f32(2, 2, 7, 8))
        self.attention("V is (7, 8), Q is (1, 4, 5, 8)", V=f32(7, 8))
        self.attention("Q (1, 4, 0, 8) has no elements", Q=f32(1, 4, 0, 8))
        self.attention("K (1, 0, 7, 8) has no elements", K=f32(1, 0, 7, 8))
        self.attention("V (1, 2, 7, 0) has no elements", V=f32(1, 2, 7, 0))
        self.attention("K has 7 keys, V has 0", V=f32(1, 2, 0, 8))
        self.attention("heads of 513 elements", V=f32(1, 2, 7, 513))
        self.attention("q_num_heads is needed", Q=f32(1, 5, 32), K=f32(1, 7, 16), V=f32(1, 7, 16))
        self.attention("past_key and past_value come together", past_key=f32(1, 2, 3, 8))
        self.attention("past_value is (1, 2, 4, 8), it must be (1, 2, 3, 8)", past_key=f32(1, 2, 3, 8),
                       past_value=f32(1, 2, 4, 8))
        self.attention("alibi_slopes is (3), Q has 4 heads", alibi_slopes=f32(3))
        self.attention("sinks is (2), Q has 4 heads", sinks=f32(2))

    def test_attributes(self):
        self.attention("no attribute \"is_casual\", did you mean 'is_causal'?", ["is_casual=1"])
        self.attention("scale is \"nan\", which is no finite number", ["scale=nan"])
        self.attention("scale is \"inf\", which is no finite number", ["scale=inf"])
        self.attention("scale is \"1e39\", which is no finite number", ["scale=1e39"])
        self.attention("scale is \"0.5x\", which is no finite number", ["scale=0.5x"])
        self.attention("scale is \"\", which is no finite number", ["scale="])
        self.attention("attribute \"scale\" has no value", ["scale"])
        self.attention("attribute 'scale' is given twice", ["scale=1", "scale=1"])
        self.attention("softcap is \"-1\", it must be >= 0", ["softcap=-1"])
        self.attention("is_causal is \"2\", it must be 0 or 1", ["is_causal=2"])
        self.attention("is_causal is \"0.5\", which is no integer", ["is_causal=0.5"])
        self.attention("causal is \"right\", it must be none, top_left or bottom_right", ["causal=right"])
        self.attention("window_left is \"-2\", it must be >= -1", ["window_left=-2"])
        self.attention("softmax_precision is 11", ["softmax_precision=11"])
        self.attention("position 3 and Q's 5 rows leave the 7 keys of K", ["position=3"])
        self.attention("ring needs position", ["ring=1"])
        self.attention("K has 8 elements a head, kv_type Q8_0 takes multiples of 32", ["kv_type=Q8_0"])
        self.attention("no output \"weights\"", outputs=["weights"])
        self.attention("score_head 4 and score_heads 0 leave the 4 heads", ["score_head=4"], ["qk_matmul_output"])

    def test_masks(self):
        whole = "(1, 4, 5, 7), (batch, q_heads, q_len, kv_len)"
        for shape in ([4, 7], [5, 8], [3, 5, 7], [2, 1, 5, 7], [1, 1, 1, 5, 7]):
            said = ", ".join(map(str, shape))
            self.attention(f"attn_mask ({said}) does not broadcast to {whole}", attn_mask=f32(*shape))
        self.attention(f"bias (5, 6) does not broadcast to {whole}", bias=f32(5, 6))
        self.attention("attn_mask is \"I64\", it must be BOOL, U8, F32, F16 or BF16", attn_mask=i64(*range(7)))

    def test_lists(self):
        self.attention("nonpad_kv_seqlen[0] is 8, there are 7 keys", nonpad_kv_seqlen=i64(8))
        self.attention("nonpad_kv_seqlen[0] is -1", nonpad_kv_seqlen=i64(-1))
        self.attention("nonpad_kv_seqlen is (2), Q has 1 sequences", nonpad_kv_seqlen=i64(1, 2))
        self.attention("documents must rise from 0 to the 5 rows of Q", documents=i64(0, 3, 2, 5, 0, 1, 2, 7, shape=[2, 4]))
        self.attention("documents must rise from 0 to the 7 keys of K", documents=i64(0, 1, 2, 5, 0, 1, 2, 6, shape=[2, 4]))
        self.attention("documents of one row need as many keys as rows", documents=i64(0, 5))
        pool = {"K": f32(6, 2, 4, 8), "V": f32(6, 2, 4, 8)}
        self.attention("block_table[0, 1] is 6, K has 6 blocks", block_table=i64(0, 6, shape=[1, 2]), **pool)
        self.attention("block_table[0, 0] is -1, K has 6 blocks", block_table=i64(-1, 5, shape=[1, 2]), **pool)
        self.attention("block_table is (2), it must be (1, blocks)", block_table=i64(0, 1), **pool)
        rows, columns = i64(0, 2, 3), i64(0, 1, 1)
        self.attention("block_rows and block_columns come together", block_rows=rows)
        self.attention("block_rows is (3), it must be (6)", block_rows=rows, block_columns=columns)
        sizes = ["q_block=3", "k_block=4"]
        self.attention("q_block needs block_rows or sparsity", sizes)
        self.attention("block_rows[2] is 1, below the one before", sizes, block_rows=i64(0, 2, 1), block_columns=columns)
        self.attention("block_rows[1] is 4, block_columns has 3 entries", sizes, block_rows=i64(0, 4, 4), block_columns=columns)
        self.attention("block_columns[1] is 0, it must be above the one before", sizes, block_rows=rows,
                       block_columns=i64(1, 0, 1))
        self.attention("block_columns[2] is 2, there are 2 blocks of keys", sizes, block_rows=rows, block_columns=i64(0, 1, 2))
        self.attention("sparsity needs as many keys as rows", ["sparsity=longformer"])
        self.attention("sparse_random is of sparsity=bigbird", ["sparsity=longformer", "sparse_random=1"])
        self.attention("sparse_window needs sparsity", ["sparse_window=1"])
        self.attention("sparsity and block_rows are two ways", ["sparsity=bigbird"], block_rows=rows, block_columns=columns)
        self.attention("prefix_length needs causal", ["prefix_length=2"])
        self.attention("prefix_length and prefix_lengths are two ways", ["prefix_length=2", "is_causal=1"], prefix_lengths=i64(2))
        self.attention("prefix_lengths[0] is 4294967296, it must be 0 to", ["is_causal=1"], prefix_lengths=i64(1 << 32))
        self.attention("prefix_length is \"4294967296\", it must be >= 0 and <= 4294967295", ["is_causal=1", "prefix_length=4294967296"])
        self.attention("relative_bias is (5, 3), it must be (2 r + 1, 4)", relative_bias=f32(5, 3))
        self.attention("relative_bias is (4, 4), it must be (2 r + 1, 4)", relative_bias=f32(4, 4))
        self.attention("relative_bias has 3 buckets", ["relative=t5"], relative_bias=f32(3, 4))
        self.attention("max_distance is 8, it must be above the 8", ["relative=t5", "max_distance=8"], relative_bias=f32(32, 4))
        self.attention("relative=window needs window_width", ["relative=window"], relative_bias=f32(9, 4))
        self.attention("relative=window needs as many keys as rows", ["relative=window", "window_width=5"], relative_bias=f32(9, 4))
        self.attention("relative_bias cannot be combined with alibi_slopes", relative_bias=f32(5, 4), alibi_slopes=f32(4))
        self.attention("score=additive and score_vector come together", ["score=additive"])
        self.attention("score_vector is (4), it must be (4, 8)", ["score=additive"], score_vector=f32(4))
        self.attention("score_matrix is (4, 8, 9), it must be (4, 8, 8)", score_matrix=f32(4, 8, 9))
        self.attention("block_columns[1] is -1", sizes, block_rows=rows, block_columns=i64(0, -1, 1))
        self.attention("block_rows[0] is -1", sizes, block_rows=i64(-1, 2, 3), block_columns=columns)
        self.attention("block_rows is (2, 3), it must be (3)", sizes, block_rows=i64(*(0, 1, 2) * 2, shape=[2, 3]),
                       block_columns=columns)
        self.attention("block_columns is (1, 3), it must have 1 dimension", sizes, block_rows=rows,
                       block_columns=i64(0, 1, 1, shape=[1, 3]))
        self.attention("prefix_lengths[0] is -1", ["is_causal=1"], prefix_lengths=i64(-1))
        self.attention("prefix_lengths is (2), Q has 1 sequences", ["is_causal=1"], prefix_lengths=i64(1, 2))
        self.attention("top_k is \"-1\", it must be >= 0", ["top_k=-1"])
        five = {"K": f32(1, 2, 5, 8), "V": f32(1, 2, 5, 8)}
        self.attention("relative_bias is (8, 4), it must be (9, 4)", ["relative=window", "window_width=5"],
                       relative_bias=f32(8, 4), **five)
        self.attention("average_heads is of qk_matmul_output", ["average_heads=1"])
        self.attention("average_heads is of the weights", ["average_heads=1"], ["qk_matmul_output"])
        self.attention("documents cannot be combined with block_table", block_table=i64(0, 1, shape=[1, 2]),
                       documents=i64(0, 5), **pool)

    def linear(self, says, settings=(), outputs=(), rule="linear", **tensors):
        given = {"query": f32(2, 3, 20), "key": f32(2, 3, 10), "value": f32(2, 3, 6), **tensors}
        heads = [s for s in ("q_num_heads=4", "kv_num_heads=2") if s.split("=")[0] not in str(settings)]
        self.refuses(says, "linear_attention", {n: t for n, t in given.items() if t},
                     [f"update_rule={rule}", *heads, *settings], outputs)

    def test_linear_attention(self):
        self.linear("key is (2, 3), it must be (batch, len, heads*dim)", key=f32(2, 3))
        self.linear("value is (2, 4, 6), query is (2, 3, 20): batch and len must be equal", value=f32(2, 4, 6))
        self.linear("query has rows of 20, no multiple of q_num_heads 3", ["q_num_heads=3"])
        self.linear("query has 10 elements a head, key has 5", ["q_num_heads=2"])
        self.linear("q_num_heads is 4, no multiple of kv_num_heads 3", ["kv_num_heads=3"], key=f32(2, 3, 15))
        self.linear("query has heads of 513 elements, at most 512 are taken", query=f32(2, 3, 2052), key=f32(2, 3, 1026))
        self.linear("past_state is (2, 2, 3, 5), it must be (2, 2, 5, 3)", past_state=f32(2, 2, 3, 5))
        self.linear("update_rule gated needs decay", rule="gated")
        self.linear("update_rule linear takes no decay", decay=f32(2, 3, 2))
        self.linear("update_rule delta needs beta", rule="delta")
        self.linear("update_rule gated takes no beta", rule="gated", decay=f32(2, 3, 2), beta=f32(2, 3, 2))
        self.linear("decay is (2, 3, 5), it must be (2, 3, 10) or (2, 3, 2)", rule="gated", decay=f32(2, 3, 5))
        self.linear("beta is (2, 2, 1), it must be (2, 3, 2) or (2, 3, 1)", rule="delta", beta=f32(2, 2, 1))
        self.linear("feature_map is not for update_rule delta", ["feature_map=relu"], rule="delta", beta=f32(2, 3, 1))
        self.linear("normalise is not for update_rule delta", ["normalise=1"], rule="delta", beta=f32(2, 3, 1))
        self.linear("is_causal=0 is for update_rule linear, not gated", ["is_causal=0"], rule="gated", decay=f32(2, 3, 2))
        self.linear("past_normaliser needs normalise=1", past_normaliser=f32(2, 2, 5))
        self.linear("present_normaliser needs normalise=1", outputs=["present_normaliser"])
        self.refuses("q_num_heads is needed", "linear_attention",
                     {"query": f32(1, 1, 4), "key": f32(1, 1, 4), "value": f32(1, 1, 4)}, ["update_rule=linear"])

    def test_linformer(self):
        def refuses(says, settings=(), **tensors):
            given = {**qkv(keys=7), "E": f32(3, 7), **tensors}
            self.refuses(says, "linformer_attention", given, settings)

        refuses("E is (3, 6), it must be (3, 7): K has 7 keys", E=f32(3, 6))
        refuses("F is (4, 7), it must be (3, 7): K has 7 keys", F=f32(4, 7))
        refuses("E is (7), it must be (rank, 7): K has 7 keys", E=f32(7))
        refuses("E has a rank of 513, at most 512 are taken", E=f32(513, 7))
        refuses("K has 7 keys, V has 6", V=f32(1, 2, 6, 8))
        refuses("K has 2 heads, V has 1", V=f32(1, 1, 7, 8))
        refuses("Q has 8 elements a head, K has 9", K=f32(1, 2, 7, 9))
        refuses("Q has 4 heads, no multiple of K's 3", K=f32(1, 3, 7, 8), V=f32(1, 3, 7, 8))
        refuses("Q has 1 sequences, V has 2", V=f32(2, 2, 7, 8))
        refuses("K is (7, 16), Q is (1, 4, 5, 8): all of Q, K, V must have 3 dimensions, or 4", K=f32(7, 16))
        refuses("kv_num_heads is 3, K is (1, 2, 7, 8)", ["kv_num_heads=3"])
        refuses("Q is (1, 5, 32), q_num_heads must be there", Q=f32(1, 5, 32), K=f32(1, 7, 16), V=f32(1, 7, 16))

    def test_other_ops(self):
        self.refuses("sin_cache is (4, 3), cos_cache is (4, 4)", "rotary_embedding",
                     {"X": f32(1, 2, 3, 8), "cos_cache": f32(4, 4), "sin_cache": f32(4, 3)})
        self.refuses("position_ids[2] is 4, cos_cache has 4 rows", "rotary_embedding",
                     {"X": f32(1, 2, 3, 8), "cos_cache": f32(4, 4), "sin_cache": f32(4, 4),
                      "position_ids": i64(0, 1, 4, shape=[1, 3])})
        self.refuses("axis is 2, input has 2 dimensions", "softmax", {"input": f32(3, 4)}, ["axis=2"])
        self.refuses("scale is (3), X from axis 1 on is (4)", "rms_norm", {"X": f32(3, 4), "scale": f32(3)})
        self.refuses("B is (4), A is (3)", "add", {"A": f32(3), "B": f32(4)})
        self.refuses("X is (2, 5), W is (3, 4)", "matmul", {"X": f32(2, 5), "W": f32(3, 4)})
        self.refuses("W_down is (3, 4), it must be (n, 2): W has as many rows", "feed_forward",
                     {"X": f32(1, 5), "W": f32(2, 5), "W_down": f32(3, 4)})
        self.refuses("W3 needs W2", "mlp", {"X": f32(1, 4), "W1": f32(4, 4), "W3": f32(4, 4)})
        self.refuses("W2 is (5, 3), it must be (n, 4): W1 has as many rows", "mlp",
                     {"X": f32(1, 4), "W1": f32(4, 4), "W2": f32(5, 3)})
        self.refuses("residual is F32 (2, 4), it must be F32 (2, 3)", "matmul",
                     {"X": f32(2, 4), "W": f32(3, 4), "residual": f32(2, 4)})
        self.refuses("residual is F16 (2, 3), it must be F32 (2, 3)", "matmul",
                     {"X": f32(2, 4), "W": f32(3, 4), "residual": f16(2, 3)})
        self.refuses("W is (4), it must be (n, k) or (batch..., n, k)", "matmul", {"X": f32(2, 4), "W": f32(4)})
        dims = "W's batch dimensions must be X's, or the last a divisor of X's"
        for x, w in (((2, 4), (2, 3, 4)), ((4, 5, 4), (3, 3, 4)), ((2, 5, 4), (4, 3, 4)), ((2, 6, 5, 4), (6, 3, 4)),
                     ((2, 6, 5, 4), (1, 6, 3, 4))):
            self.refuses(f"X is {x}, W is {w}: {dims}", "matmul", {"X": f32(*x), "W": f32(*w)})
        rows = "with layout rows_first they must be (rows..., batch, k) and (batch, n, k)"
        for x, w in (((2, 4), (2, 3, 4)), ((2, 6, 4), (3, 3, 4)), ((5, 2, 2, 4), (2, 2, 3, 4))):
            self.refuses(f"X is {x}, W is {w}: {rows}", "matmul", {"X": f32(*x), "W": f32(*w)}, ["layout=rows_first"])
        self.refuses("layout is of a W of (batch, n, k), W has 2 dimensions", "matmul",
                     {"X": f32(2, 4), "W": f32(3, 4)}, ["layout=rows_first"])
        self.refuses("bias is (2, 3), it must be (3)", "matmul",
                     {"X": f32(2, 5, 4), "W": f32(2, 3, 4), "bias": f32(2, 3)})
        self.refuses("residual is F32 (2, 5, 4), it must be F32 (2, 5, 3)", "matmul",
                     {"X": f32(2, 5, 4), "W": f32(2, 3, 4), "residual": f32(2, 5, 4)})
        self.refuses("W_up is F32 (3, 4), W is F32 (2, 3, 4)", "matmul",
                     {"X": f32(2, 5, 4), "W": f32(2, 3, 4), "W_up": f32(3, 4)})
        self.refuses("rows of 4, which are no whole blocks of Q8_0", "matmul", {"X": f32(2, 4), "W": f32(3, 4)},
                     ["weight_type=Q8_0"])
        self.refuses("ids[1] is 5, the table has 5 rows", "embedding", {"table": f32(5, 4), "ids": i64(0, 5)})
        table = {"table": f32(5, 4), "ids": i64(0, 1, 2, 3, shape=[2, 2])}
        self.refuses("position needs positions", "embedding", table, ["position=1"])
        self.refuses("scale is \"nan\"", "embedding", table, ["scale=nan"])
        self.refuses("positions is (9, 3), it must be (context, 4)", "embedding", {**table, "positions": f32(9, 3)})
        self.refuses("ids is (2, 2): with positions", "embedding", {**table, "positions": f32(9, 4)})
        self.refuses("position is 7 and ids has 3 of a sequence, positions has 9 rows", "embedding",
                     {"table": f32(5, 4), "ids": i64(0, 1, 2), "positions": f32(9, 4)}, ["position=7"])
        cache = {"past_cache": f32(6, 2, 4, 8), "update": f32(1, 2, 3, 8)}
        self.refuses("position is 2 and there are 3 rows, past_cache holds 4 keys", "kv_append",
                     {**cache, "past_cache": f32(1, 2, 4, 8)}, ["position=2"])
        self.refuses("block_table[0, 1] is 6, there are 6 blocks", "kv_append",
                     {**cache, "block_table": i64(0, 6, shape=[1, 2])}, ["position=2"])
        self.refuses("which sequence 0 is written to as well", "kv_append",
                     {"past_cache": f32(6, 2, 4, 8), "update": f32(2, 2, 3, 8), "block_table": i64(1, 1, shape=[2, 1])})
        self.refuses("update is (1, 2, 3, 7), past_cache (6, 2, 4, 8) takes", "kv_append",
                     {**cache, "update": f32(1, 2, 3, 7)})

    def test_usage(self):
        self.refused("op", status=2, says="name of an op")
        self.refused("op", "softmax", "--shape", "input=3", status=2, says="--plan")


class NoKeys(OpTest):
    """Keys of length 0 are well-formed: every row is empty."""

    def check(self, device):
        none = {"Q": f32(2, 4, 3, 8), "K": f32(2, 2, 0, 8), "V": f32(2, 2, 0, 5)}
        for settings in ([], ["is_causal=1"], ["causal=bottom_right", "window_left=1"], ["precision=mixed"]):
            found = self.op("attention", none, settings, ["lse"], device)
            self.assertEqual(found["Y"], ("F32", [2, 4, 3, 5], bytes(2 * 4 * 3 * 5 * 4)))
            self.assertEqual(found["lse"][2], struct.pack("<f", -math.inf) * 24)
        sinks = f32(4)
        found = self.op("attention", {**none, "sinks": sinks}, outputs=["lse"], device=device)
        self.assertEqual(found["Y"][2], bytes(2 * 4 * 3 * 5 * 4))
        logits, lse = struct.unpack("<4f", sinks[2]), struct.unpack("<24f", found["lse"][2])
        for i, value in enumerate(lse):
            self.assertAlmostEqual(value, logits[i // 3 % 4], delta=1e-6)
        past = {"past_key": f32(2, 2, 6, 8), "past_value": f32(2, 2, 6, 5)}
        with_past = self.op("attention", {**none, **past}, device=device)
        given = self.op("attention", {**none, "K": past["past_key"], "V": past["past_value"]}, device=device)
        self.assertEqual(with_past["Y"], given["Y"])
        self.assertEqual(with_past["present_key"], past["past_key"])

    def test_reference(self):
        self.check(REFERENCE)

    def test_device(self):
        self.check(on_device())


class Plan(OpTest):
    def plan(self, *settings, n=65536, m=None, kind="F16", heads=1, dim=64, device=None):
        arguments = ["op", "attention", "--plan", "--json", *(device or on_device(large=True)),
                     "--shape", f"Q={kind}:1,{heads},{n},{dim}"]
        for name in "KV":
            arguments += ["--shape", f"{name}={kind}:1,{heads},{m or n},{dim}"]
        for setting in settings:
            arguments += ["--output" if "=" not in setting else "--set", setting]
        # Far below one matrix of scores, 17 GB.
        return self.ok(*arguments, memory=None).json

    def test_scratch(self):
        """Scratch is linear in the rows, with n = m = 65,536: never rows times keys."""
        for more in ((), ("lse",), ("is_causal=1",), ("precision=mixed",)):
            sizes = [self.plan(*more, n=n)["scratch_bytes"] for n in (16384, 32768, 65536)]
            self.assertLessEqual(sizes[2], 65536 * 4 * 4, more)  # a few words a row; a row of scores has 65,536
            self.assertLessEqual(sizes[1], 2 * sizes[0] + 65536, more)
            self.assertLessEqual(sizes[2], 2 * sizes[1] + 65536, more)
        tensors = 4 * 65536 * 64 * 2  # Q, K, V, Y; beside them the state's few words
        self.assertLessEqual(abs(self.plan(n=65536)["tensor_bytes"] - tensors), 64)

    def test_tiles(self):
        """Causality halves the tiles; a window's are n * w."""
        def tiles(*settings, n=65536):
            (kernel,) = self.plan(*settings, n=n)["kernels"]
            return kernel["tiles"], kernel["all_tiles"], kernel["tile"]

        whole, everything, (rows, keys) = tiles()
        self.assertEqual((whole, everything), (65536 / rows * 65536 / keys,) * 2)
        self.assertLess(tiles("is_causal=1")[0], 0.51 * everything)
        for n in (16384, 65536):
            for w in (256, 1024, 4096):
                found = tiles("is_causal=1", f"window_left={w - 1}", n=n)[0]
                row_tiles = n / rows
                self.assertLessEqual(found, row_tiles * ((w + rows) / keys + 1), (n, w))
                self.assertGreaterEqual(found, row_tiles * w / keys * (1 - w / n), (n, w))

    def test_report(self):
        plan = self.plan(n=1, m=4096, heads=8)
        self.assertEqual([k["name"] for k in plan["kernels"]][1:], ["attention_merge"])
        self.assertGreater(plan["scratch_bytes"], 0)
        self.assertEqual(plan["outputs"], [{"name": "Y", "type": "F16", "shape": [1, 8, 1, 64]}])
        refused = {r["tier"] for r in plan["refused"]}
        self.assertEqual(refused - {"attention_keys"}, {"attention_coopmat", "attention_coopmat2"})
        for refusal in plan["refused"]:
            self.assertGreater(len(refusal["tier"]) * len(refusal["reason"]), 0)
        self.refused("op", "attention", "--plan", "--shape", "Q=1,1,4,4", "--shape", "K=1,1,4,4", "--shape", "V=1,1,4",
                     *on_device(), says="V is (1, 1, 4)")
        self.refused("op", "softmax", "--plan", "--shape", "input=3", *REFERENCE, says="the reference has no kernels")

    def test_forms_of_products_that_were_refused(self):
        tiers = {"matmul_coopmat2", "matmul_coopmat", "matmul_dot"}
        shapes = {"matmul": ("X=20,64", "W=33,64"), "feed_forward": ("X=20,64", "W=96,64", "W_down=32,96")}
        for op, given in shapes.items():
            for precision in ("f32", "mixed"):
                plan = self.ok("op", op, "--plan", "--json", *(a for g in given for a in ("--shape", g)), "--set",
                               f"precision={precision}", *on_device()).json
                refused = [(r["tier"], r["reason"]) for r in plan["refused"]]
                self.assertEqual(len(set(refused)), len(refused))
                kernels = {k["name"] for k in plan["kernels"]}
                if kernels & tiers or "feed_forward_fused" not in {t for t, _ in refused} and op == "feed_forward":
                    continue
                self.assertLessEqual(tiers, {t for t, _ in refused}, (op, precision))


class Device(OpTest):
    """Every op but attention, on the device and the reference: |difference| <= 1e-5 + 1e-5 |reference|, which is
    above every op's own bound at these sizes (sums of up to 96 terms of size 1) and far below a wrong term."""

    def compare(self, op, tensors, settings=(), outputs=(), atol=1e-5, files=()):
        expected = self.op(op, tensors, settings, outputs, files=files)
        found = self.op(op, tensors, settings, outputs, device=on_device(), files=files)
        self.assertEqual(expected.keys(), found.keys())
        for name, (kind, shape, content) in expected.items():
            self.assertEqual((kind, shape), found[name][:2])
            code = {"F32": "f", "F16": "e"}[kind]
            values = [struct.unpack(f"<{len(c) // struct.calcsize(code)}{code}", c) for c in (content, found[name][2])]
            for i, (want, got) in enumerate(zip(*values)):
                self.assertTrue(want == got or abs(want - got) <= atol + 1e-5 * abs(want),
                                f"{op} {settings} {name}[{i}]: {got}, not {want}")
        return expected

    def test_matmul(self):
        for kind in ("stored", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
            for rows in (1, 3, 40):
                self.compare("matmul", {"X": f32(rows, 96), "W": f32(37, 96), "bias": f32(37)}, [f"weight_type={kind}"], atol=1e-4)
        for act in ("silu", "sigmoid"):
            self.compare("matmul", {"X": f32(2, 3, 64), "W": f32(33, 64), "W_up": f32(33, 64), "bias_up": f32(33)},
                         [f"act={act}"], atol=1e-4)

    def test_matmul_of_k_quants(self):
        for kind, size, scales in ((12, 144, (0, 2)), (13, 176, (0, 2)), (14, 210, (208,))):
            blocks = [bytearray(random.randbytes(size)) for _ in range(19 * 2)]
            for block in blocks:
                for at in scales:
                    struct.pack_into("<e", block, at, random.uniform(1e-4, 1e-3))
            weights = self.write("w.gguf", gguf(tensors=[("W", (512, 19), kind, 0)], data=b"".join(blocks)))
            for rows in (1, 20):
                self.compare("matmul", {"X": f32(rows, 512)}, atol=1e-4, files=[weights])

    def test_matmul_with_scale_and_residual(self):
        # 700 rows of 2 KiB are more than one binding where bindings are small.
        given = {"X": f32(3, 512), "W": f32(700, 512), "bias": f32(700), "residual": f32(3, 700)}
        found = self.compare("matmul", given, ["scale=-0.125", "act=relu"], atol=1e-4)["Y"]
        plain = self.op("matmul", {name: given[name] for name in ("X", "W")})["Y"]
        values = [struct.unpack(f"<{len(t[2]) // 4}f", t[2]) for t in (found, plain, given["bias"], given["residual"])]
        for i, (got, product, added) in enumerate(zip(values[0], values[1], values[3])):
            self.assertAlmostEqual(got, max(0, -0.125 * product + values[2][i % 700]) + added, delta=1e-4)
        half = {name: f16(2, n) for name, n in (("X", 96), ("residual", 33))}
        for kind in ("F32", "Q5_1"):  # below 8, where an ulp of f16 is 2^-8
            self.compare("matmul", {**half, "W": f32(33, 96)}, [f"weight_type={kind}", "scale=0.1"], atol=4e-3)

    def test_matmul_of_a_batch(self):
        def products(x, w, x_at, w_at, k, n):
            """Elements of Y, in order: row i of X by the matrix that w_at gives, of every row that x_at gives."""
            x, w = (struct.unpack(f"<{len(t[2]) // 4}f", t[2]) for t in (x, w))
            for row, matrix in zip(x_at, w_at):
                for column in range(n):
                    at = (matrix * n + column) * k
                    yield sum(a * b for a, b in zip(x[row * k:(row + 1) * k], w[at:at + k]))

        k, n = 32, 7
        for batch, rows, matrices, layout in (
                ([3], [5], [3], []), ([2, 3], [5], [2, 3], []), ([3], [1], [3], []), ([3], [40], [3], []),  # one each
                ([6], [5], [2], []), ([2, 6], [3], [2, 2], []), ([2, 3], [5], [2, 1], []), ([4], [3], [1], []),  # shared
                ([3], [5], [3], ["layout=rows_first"]), ([3], [2, 20], [3], ["layout=rows_first"]),
                ([1], [5], [1], ["layout=rows_first"]), ([2], [3], [2], ["layout=batch_first"])):
            first = layout == ["layout=rows_first"]
            x, w = f32(*(rows + batch if first else batch + rows), k), f32(*matrices, n, k)
            y = self.compare("matmul", {"X": x, "W": w}, layout)["Y"]
            self.assertEqual(y[1], x[1][:-1] + [n])
            of = math.prod(x[1][:-1])
            group = math.prod(batch) // math.prod(matrices)
            at = [i % batch[0] if first else i // rows[0] // group for i in range(of)]
            found = struct.unpack(f"<{of * n}f", y[2])
            for i, (got, want) in enumerate(zip(found, products(x, w, range(of), at, k, n))):
                self.assertAlmostEqual(got, want, delta=1e-5, msg=(batch, rows, matrices, layout, i))
            gate = {"X": x, "W": w, "W_up": f32(*w[1]), "bias": f32(n), "residual": f32(*y[1])}
            for kind in ("F16", "Q8_0", "Q4_1"):
                self.compare("matmul", gate, ["act=silu", "scale=0.25", f"weight_type={kind}", *layout], atol=1e-4)
        # Matrices of 81,920 bytes: more than one binding where bindings are small.
        self.compare("matmul", {"X": f32(33, 2, 320), "W": f32(33, 64, 320)}, atol=1e-4)
        mixed = {"X": f32(3, 20, 64), "W": f32(3, 33, 64)}
        self.compare("matmul", mixed, ["precision=mixed"], atol=0.05)

    def test_feed_forward(self):
        block = {"X": f32(2, 20, 64), "W": f32(96, 64), "bias": f32(96), "W_down": f32(37, 96), "bias_down": f32(37)}
        for kind in ("stored", "F16", "Q8_0", "Q4_0"):
            self.compare("feed_forward", block, ["act=gelu_tanh", f"weight_type={kind}"], atol=1e-3)
        self.compare("feed_forward", {**block, "W_up": f32(96, 64), "residual": f32(2, 20, 37)}, ["act=silu"], atol=1e-3)

    def test_mlp(self):
        network = {"X": f32(5, 7, 12), "W1": f32(32, 12), "bias1": f32(32), "W2": f32(16, 32), "W3": f32(3, 16), "bias3": f32(3)}
        self.compare("mlp", network, ["last_act=sigmoid"], atol=1e-3)
        self.compare("mlp", {"X": f32(1, 32), "W1": f32(8, 32)}, ["weight_type=Q8_0"], atol=1e-3)

    def test_rows(self):
        x = f32(3, 5, 24)
        for axis in (0, 1, 2):
            self.compare("softmax", {"input": x}, [f"axis={axis}"])
        self.compare("rms_norm", {"X": x, "scale": f32(24)}, ["epsilon=1e-6"])
        self.compare("layer_norm", {"X": x, "Scale": f32(5, 24), "B": f32(5, 24)}, ["axis=1"])
        for act in ("gelu_erf", "gelu_tanh", "silu", "relu", "relu2", "sigmoid"):
            self.compare("activation", {"X": x}, [f"act={act}"])
            self.compare("glu", {"gate": x, "up": f32(3, 5, 24)}, [f"act={act}"])
        self.compare("add", {"A": x, "B": f32(3, 5, 24)})
        self.compare("embedding", {"table": f32(9, 16), "ids": i64(8, 0, 3, 3, shape=[2, 2])})

    def test_embedding(self):
        def row(tensor, i):
            n = tensor[1][-1]
            return struct.unpack(f"<{n}f", tensor[2][4 * n * i:4 * n * (i + 1)])

        table, places = f32(9, 16), f32(12, 16)
        scaled = self.compare("embedding", {"table": table, "ids": i64(8, 0, 3)}, ["scale=2.5"])["Y"]
        ids = [8, 0, 3, 3]
        for shape, where in (([4], [5, 6, 7, 8]), ([1, 4], [5, 6, 7, 8]), ([4, 1], [5] * 4)):
            tensors = {"table": table, "ids": i64(*ids, shape=shape), "positions": places}
            found = self.compare("embedding", tensors, ["scale=-0.75", "position=5"])["Y"]
            self.assertEqual(found[1], [*shape, 16])
            for i, (token, at) in enumerate(zip(ids, where)):
                for got, a, b in zip(row(found, i), row(table, token), row(places, at)):
                    self.assertAlmostEqual(got, -0.75 * a + b, delta=1e-6)
        for got, a in zip(row(scaled, 2), row(table, 3)):
            self.assertAlmostEqual(got, 2.5 * a, delta=1e-6)
        self.compare("embedding", {"table": table, "ids": i64(1, 2), "positions": f32(2, 16)})

    def test_rotary(self):
        caches = {"cos_cache": f32(10, 4), "sin_cache": f32(10, 4)}
        ids = i64(*(random.randrange(10) for _ in range(6)), shape=[2, 3])
        for settings in ([], ["interleaved=1"]):
            self.compare("rotary_embedding", {"X": f32(2, 3, 3, 8), **caches, "position_ids": ids}, settings)
        self.compare("rotary_embedding", {"X": f32(2, 3, 3 * 12), **caches, "position_ids": ids},
                     ["num_heads=3", "rotary_embedding_dim=8"])

    def test_caches(self):
        def rows(tensor, shape):
            """Rows of the last dimension, by all others."""
            return {i: tensor[2][i * 4 * shape[-1]:(i + 1) * 4 * shape[-1]] for i in range(len(tensor[2]) // 4 // shape[-1])}

        past, update = f32(2, 3, 6, 32), f32(2, 3, 4, 32)
        present = self.compare("kv_append", {"past_cache": past, "update": update}, ["position=2"])["present_cache"]
        before, new, after = rows(past, past[1]), rows(update, update[1]), rows(present, past[1])
        for head in range(6):
            for key in range(6):
                want = new[head * 4 + key - 2] if key >= 2 else before[head * 6 + key]
                self.assertEqual(after[head * 6 + key], want, (head, key))
        circular = self.compare("kv_append", {"past_cache": past, "update": update}, ["position=11", "mode=circular"])
        after = rows(circular["present_cache"], past[1])
        for head in range(6):
            for i in range(4):
                self.assertEqual(after[head * 6 + (11 + i) % 6], new[head * 4 + i], (head, i))
        paged = {"past_cache": f32(7, 3, 4, 32), "update": f32(2, 4, 96), "block_table": i64(5, 0, 2, 6, shape=[2, 2])}
        for kind in ("stored", "F16", "BF16", "Q8_0"):
            step = {"Q8_0": 4 / 127 * 1.01}.get(kind, 1e-5)  # a rounding may fall to the other side
            self.compare("kv_append", paged, ["position=2", f"cache_type={kind}"], atol=step)

    def test_tensors_without_dimensions(self):
        """A bias and a mask of one number are of all keys."""
        plain = self.op("attention", qkv())["Y"]
        for name in ("attn_mask", "bias"):
            self.assertEqual(self.compare("attention", qkv() | {name: f32(values=[0.5])})["Y"][:2], plain[:2])

    def test_user_functions(self):
        """Where the tool was built with a compiler: the same as built-in forms on the reference."""
        if "--score" not in self.ok("op", "--help").text:
            self.skipTest("built without tessera_glsl")
        score = "float score(float s, uint b, uint h, uint q, uint k) { return s + few[k % 3]; }"
        mask = self.write("mask.glsl", b"// not itself\nbool mask(uint b, uint h, uint q, uint k) { return k != q; }\n")
        tensors, few = qkv(), [0.5, -0.25, 1]
        seen = "BOOL", [5, 7], bytes(k != q for q in range(5) for k in range(7))
        bias = f32(1, 7, values=[few[k % 3] for k in range(7)])
        expected = self.op("attention", tensors | {"bias": bias, "attn_mask": seen})["Y"]
        call = self.arguments("attention", tensors | {"user.few": f32(3, values=few)}, device=on_device())
        self.ok(*call, "--score", score, "--mask", mask)
        found = read_safetensors(self.folder / "out.safetensors")["Y"]
        self.assertEqual(expected[:2], found[:2])
        for want, got in zip(*(struct.unpack(f"<{len(c) // 4}f", c) for c in (expected[2], found[2]))):
            self.assertLess(abs(want - got), 1e-5)
        self.refused(*call, "--score", "float score(float s) {\n  return y;\n}", says="score_glsl, line 2: 'y'")
        self.refused(*call, "--mask", "#if (1)", says="mask_glsl, line 1: '#'")
        self.refused(*call, "--mask", "none.glsl", says="'none.glsl' is no function, and no file")
        self.refused(*call, "--mask", self.write("empty.glsl", b""), says="empty.glsl' is empty")
        self.refused(*call, "--score", "", says="'' is no function, and no file")
        self.refused(*call, "--score", self.write("zero.glsl", score.encode() + b"\0"), says="zero.glsl")

    def test_rope_append(self):
        tensors = {"QKV": f32(2, 3, (4 + 2) * 32 + 2 * 64), "cos_cache": f32(9, 16), "sin_cache": f32(9, 16)}
        contiguous = {"past_key": f32(2, 2, 8, 32), "past_value": f32(2, 2, 8, 64)}
        paged = {"past_key": f32(5, 2, 4, 32), "past_value": f32(5, 2, 4, 64), "block_table": i64(4, 1, 0, 2, shape=[2, 2])}
        for caches in (contiguous, paged):
            for settings in ([], ["interleaved=1"], ["rotary_embedding_dim=32", "cache_type=F16"]):
                atol = 4e-3 if settings and "F16" in settings[-1] else 1e-5
                self.compare("rope_append", {**tensors, **caches}, ["position=3", *settings], atol=atol)
        self.compare("rope_append", {**tensors, **contiguous}, ["position=6", "mode=circular"])


if __name__ == "__main__":
    main()
