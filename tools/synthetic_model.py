#!/usr/bin/env python3
"""Writes a decoder of the Llama architecture with random weights, for measuring: its text is noise, its work that of
a trained model of that size (as it stands, 124.67 million parameters). The same options give the same files.

    pip install gguf numpy
    tools/synthetic_model.py FOLDER --types F32,Q8_0       FOLDER/synthetic-f32.gguf, FOLDER/synthetic-q8_0.gguf
    tools/synthetic_model.py FOLDER --types all --tessera build/tessera
    tools/synthetic_model.py FOLDER --vocab 512 --dim 256 --layers 2 --heads 4 --kv-heads 2 --ffn 512

F32 is always written, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1 by `tessera convert` from it. Q4_K, Q5_K and Q6_K
are rounded here, by the plainest rule: they cost what files of these types cost, and are less exact.
"""

import argparse
import pathlib
import subprocess
import zlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

CONVERTED = ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"]
FILE_TYPES = {"F32": 0, "Q4_K": 14, "Q5_K": 16, "Q6_K": 18}
SPACE = "\u2581"


def random_values(seed, name, count, spread):
    """Uniform, of standard deviation `spread`; the generator's raw words, which no version of NumPy changes."""
    words = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw((count + 1) // 2).view("<u4")[:count]
    unit = (words >> 8).astype(np.float32) * np.float32(2**-23) - np.float32(1)  # exact, in [-1, 1)
    return unit * np.float32(spread * 3**0.5)


def tensors(o):
    """Name and shape (rows, columns) of each. Weights of variance 1/columns keep sums of unit variance."""
    kv = o.dim // o.heads * o.kv_heads
    yield "token_embd.weight", (o.vocab, o.dim)
    yield "output_norm.weight", (o.dim,)
    yield "output.weight", (o.vocab, o.dim)
    for block in range(o.layers):
        for name, shape in [
            ("attn_norm", (o.dim,)), ("attn_q", (o.dim, o.dim)), ("attn_k", (kv, o.dim)), ("attn_v", (kv, o.dim)),
            ("attn_output", (o.dim, o.dim)), ("ffn_norm", (o.dim,)), ("ffn_gate", (o.ffn, o.dim)),
            ("ffn_up", (o.ffn, o.dim)), ("ffn_down", (o.dim, o.ffn)),
        ]:
            yield f"blk.{block}.{name}.weight", shape


def values(o, name, shape):
    if len(shape) == 1:
        return 1 + random_values(o.seed, name, shape[0], 0.05)
    spread = 1 if name.startswith("token_embd") else shape[1] ** -0.5
    return random_values(o.seed, name, shape[0] * shape[1], spread).reshape(shape)


def vocabulary(size):
    """SentencePiece-style: bytes, ASCII, then words of up to three letters, each a merge of two earlier pieces."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    pairs = [a + b for a in letters for b in letters]
    triples = [pair + c for pair in pairs for c in letters]
    pieces = [("<unk>", gguf.TokenType.UNKNOWN), ("<s>", gguf.TokenType.CONTROL), ("</s>", gguf.TokenType.CONTROL)]
    pieces += [(f"<0x{byte:02X}>", gguf.TokenType.BYTE) for byte in range(256)]
    words = [SPACE, *map(chr, range(0x21, 0x7F)), *(SPACE + x for x in letters), *pairs]
    words += [SPACE + x for x in pairs] + triples + [SPACE + x for x in triples]
    pieces += [(word, gguf.TokenType.NORMAL) for word in words]
    if size > len(pieces):
        raise SystemExit(f"--vocab {size}: at most {len(pieces)}")
    return pieces[:size]


def start(path, o, type_name):
    """A file with metadata and without tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Synthetic")
    writer.add_description(f"Random weights, seed {o.seed}: text is noise")
    writer.add_file_type(FILE_TYPES[type_name])
    if type_name != "F32":
        writer.add_quantization_version(2)
    writer.add_context_length(o.context)
    writer.add_embedding_length(o.dim)
    writer.add_block_count(o.layers)
    writer.add_feed_forward_length(o.ffn)
    writer.add_head_count(o.heads)
    writer.add_head_count_kv(o.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(o.dim // o.heads)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(o.vocab)
    pieces = vocabulary(o.vocab)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _ in pieces])
    writer.add_token_scores([-float(index) for index in range(len(pieces))])
    writer.add_token_types([kind for _, kind in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    return writer


def rounded(x, scale):
    """x / scale to the nearest, 0 where the scale is 0."""
    return np.rint(np.divide(x, scale, out=np.zeros_like(x), where=scale != 0))


def half_bytes(x):
    return x.astype("<f2").view(np.uint8)


def with_minima(x, bits):
    """Q4_K and Q5_K: 8 sub-blocks of 32 a block, whose scales and minima have 6 bits."""
    x = x.reshape(-1, 8, 32)
    low = -np.minimum(x.min(-1), 0)
    step = (x.max(-1) + low) / (2**bits - 1)
    d = (step.max(-1, keepdims=True) / 63).astype(np.float16)
    dmin = (low.max(-1, keepdims=True) / 63).astype(np.float16)
    scale = np.clip(rounded(step, d.astype(np.float32)), 0, 63)
    minimum = np.clip(rounded(low, dmin.astype(np.float32)), 0, 63)
    each = lambda factor, whole: (factor.astype(np.float32) * whole)[..., None]
    shifted = x + each(dmin, minimum)
    q = np.clip(rounded(shifted, np.broadcast_to(each(d, scale), x.shape)), 0, 2**bits - 1).astype(np.uint8)
    s, m = scale.astype(np.uint8), minimum.astype(np.uint8)
    packed = [s[:, :4] | s[:, 4:] >> 4 << 6, m[:, :4] | m[:, 4:] >> 4 << 6, s[:, 4:] & 15 | (m[:, 4:] & 15) << 4]
    high = [np.packbits(q >> 4, axis=1, bitorder="little").reshape(-1, 32)] if bits == 5 else []
    nibbles = (q[:, 0::2] & 15 | (q[:, 1::2] & 15) << 4).reshape(-1, 128)
    return np.concatenate([half_bytes(d), half_bytes(dmin), *packed, *high, nibbles], axis=-1)


def signed_six(x):
    """Q6_K: 16 sub-blocks of 16 a block, whose scales have 8 bits."""
    x = x.reshape(-1, 16, 16)
    step = np.abs(x).max(-1) / 31
    d = (step.max(-1, keepdims=True) / 127).astype(np.float16)
    scale = np.clip(rounded(step, d.astype(np.float32)), 0, 127)
    steps = np.broadcast_to((d.astype(np.float32) * scale)[..., None], x.shape)
    q = (np.clip(rounded(x, steps), -32, 31) + 32).astype(np.uint8)
    parts = q.reshape(-1, 2, 4, 32)
    low = (parts[:, :, :2] & 15 | (parts[:, :, 2:] & 15) << 4).reshape(-1, 128)
    shifts = np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)
    high = np.bitwise_or.reduce(parts >> 4 << shifts, axis=2).reshape(-1, 64)
    return np.concatenate([low, high, scale.astype(np.int8).view(np.uint8), half_bytes(d)], axis=-1)


def quantised(x, kind):
    blocks = signed_six(x) if kind == T.Q6_K else with_minima(x, 4 if kind == T.Q4_K else 5)
    back = gguf.quants.dequantize(blocks.reshape(len(x), -1), kind)
    error = np.abs(back - x).max() / np.abs(x).max()
    assert error < 0.1, error  # says that the packing is right, no more
    return blocks.reshape(len(x), -1)


def write(path, o, type_name):
    kind = T[type_name]
    writer = start(path, o, type_name)
    for name, shape in tensors(o):
        if len(shape) == 1 or kind == T.F32:
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)))
        else:
            columns = gguf.quant_shape_to_byte_shape(shape, kind)
            writer.add_tensor_info(name, columns, np.dtype(np.uint8), int(np.prod(columns)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape in tensors(o):
        data = values(o, name, shape)
        writer.write_tensor_data(data if len(shape) == 1 or kind == T.F32 else quantised(data, kind))
    writer.close()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where the files go; made when missing")
    every = ["F32", *CONVERTED, "Q4_K", "Q5_K", "Q6_K"]
    parser.add_argument("--types", default="F32", help=f"some of {','.join(every)}, or all (%(default)s)")
    parser.add_argument("--tessera", default="build/tessera", help="the program that converts (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the weights (%(default)s)")
    for name, default, help in [
        ("vocab", 32000, "tokens"), ("dim", 768, "length of the embedding"), ("layers", 12, "blocks"),
        ("heads", 12, "attention heads"), ("kv-heads", 4, "heads of keys and values"),
        ("ffn", 2048, "width of the feed-forward"), ("context", 4096, "positions"),
    ]:
        parser.add_argument("--" + name, type=int, default=default, help=help + " (%(default)s)")
    o = parser.parse_args()
    o.types = every if o.types == "all" else o.types.upper().split(",")
    for name in o.types:
        if name not in every:
            parser.error(f"--types: {name} is none of {', '.join(every)}")
        if o.dim % gguf.GGML_QUANT_SIZES[T[name]][0] or o.ffn % gguf.GGML_QUANT_SIZES[T[name]][0]:
            parser.error(f"--dim {o.dim} and --ffn {o.ffn} must be multiples of {name}'s block")
    if o.dim % o.heads or o.heads % o.kv_heads:
        parser.error("--dim must be a multiple of --heads, and that of --kv-heads")
    return o


def main():
    o = arguments()
    o.folder.mkdir(parents=True, exist_ok=True)
    f32 = o.folder / "synthetic-f32.gguf"
    write(f32, o, "F32")
    for name in o.types:
        path = o.folder / f"synthetic-{name.lower()}.gguf"
        if name in CONVERTED:
            subprocess.run([o.tessera, "convert", f32, path, "--type", name], check=True, stdout=subprocess.DEVNULL)
        elif name != "F32":
            write(path, o, name)
    count = sum(int(np.prod(shape)) for _, shape in tensors(o))
    for path in sorted({f32, *(o.folder / f"synthetic-{name.lower()}.gguf" for name in o.types)}):
        print(f"{path}: {count / 1e6:.2f} M parameters, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
