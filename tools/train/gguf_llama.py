"""Read a "llama" GGUF with its vocabulary and run it in PyTorch, for checks and samples.

Written apart from model.py on purpose: the forward pass starts from what the
file holds, so that it checks the exporter and the training code as well.
"""

import gguf
import torch

SPACE = "\u2581"


class Vocabulary:
    """The SentencePiece-style tokenizer that a GGUF file stores."""

    def __init__(self, reader):
        def value(key):
            return reader.get_field(f"tokenizer.ggml.{key}").contents()

        self.pieces = value("tokens")
        self.types = value("token_type")
        self.bos, self.eos = value("bos_token_id"), value("eos_token_id")
        self.space_prefix = value("add_space_prefix")
        scores = value("scores")
        self.ids, self.scores, self.bytes = {}, {}, {}
        for index, (piece, kind) in enumerate(zip(self.pieces, self.types)):
            if kind == gguf.TokenType.NORMAL:
                self.ids[piece] = index
                self.scores[piece] = scores[index]
            elif kind == gguf.TokenType.BYTE:
                self.bytes[int(piece[1:-1], 16)] = index

    def encode(self, text):
        """Token ids of a text, without BOS: merge the best-scored neighbours until none is left."""
        if not text:
            return []
        symbols = list((" " + text if self.space_prefix else text).replace(" ", SPACE))
        while True:
            pairs = [
                (self.scores[left + right], -index)
                for index, (left, right) in enumerate(zip(symbols, symbols[1:]))
                if left + right in self.scores
            ]
            if not pairs:
                break
            index = -max(pairs)[1]
            symbols[index : index + 2] = [symbols[index] + symbols[index + 1]]
        ids = []
        for symbol in symbols:
            if symbol in self.ids:
                ids.append(self.ids[symbol])
            else:
                ids.extend(self.bytes[byte] for byte in symbol.encode("utf-8"))
        return ids

    def decode(self, ids):
        """Text of token ids; control tokens give nothing."""
        data = b""
        for index in ids:
            piece, kind = self.pieces[index], self.types[index]
            if kind == gguf.TokenType.BYTE:
                data += bytes([int(piece[1:-1], 16)])
            elif kind == gguf.TokenType.NORMAL:
                data += piece.replace(SPACE, " ").encode("utf-8")
        text = data.decode("utf-8", errors="replace")
        return text[1:] if self.space_prefix and text.startswith(" ") else text


class GgufLlama:
    """The model of a GGUF file, computed in the given floating-point type."""

    def __init__(self, path, dtype=torch.float64):
        reader = gguf.GGUFReader(path)

        def value(key):
            return reader.get_field(f"llama.{key}").contents()

        self.vocabulary = Vocabulary(reader)
        self.layers = value("block_count")
        self.heads = value("attention.head_count")
        self.kv_heads = value("attention.head_count_kv")
        self.epsilon = value("attention.layer_norm_rms_epsilon")
        self.rope_base = value("rope.freq_base")
        self.rope_dims = value("rope.dimension_count")
        self.context = value("context_length")
        self.dtype = dtype
        self.weights = {t.name: torch.tensor(t.data).to(dtype) for t in reader.tensors}

    def norm(self, x, name):
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon)
        return x * scale * self.weights[f"{name}.weight"]

    def project(self, x, name):
        return x @ self.weights[f"{name}.weight"].T

    def rotate(self, x):
        """RoPE on x[position, head, head_dim]: each adjacent pair is a complex number."""
        positions = torch.arange(x.shape[0], dtype=torch.float64)
        exponents = torch.arange(0, self.rope_dims, 2, dtype=torch.float64) / self.rope_dims
        angles = torch.outer(positions, self.rope_base**-exponents)
        turns = torch.polar(torch.ones_like(angles), angles)[:, None, :]
        pairs = torch.view_as_complex(x.to(torch.float64).reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turns).flatten(-2).to(self.dtype)

    def attention(self, x, prefix):
        length = x.shape[0]
        q = self.rotate(self.project(x, f"{prefix}.attn_q").view(length, self.heads, -1))
        k = self.rotate(self.project(x, f"{prefix}.attn_k").view(length, self.kv_heads, -1))
        v = self.project(x, f"{prefix}.attn_v").view(length, self.kv_heads, -1)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        return self.project(torch.einsum("hqk,khd->qhd", weights, v).flatten(1), f"{prefix}.attn_output")

    def logits(self, ids):
        """Logits [position, vocabulary] of a list of token ids."""
        x = self.weights["token_embd.weight"][torch.tensor(ids)]
        for layer in range(self.layers):
            prefix = f"blk.{layer}"
            x = x + self.attention(self.norm(x, f"{prefix}.attn_norm"), prefix)
            h = self.norm(x, f"{prefix}.ffn_norm")
            gate = self.project(h, f"{prefix}.ffn_gate")
            x = x + self.project(gate * gate.sigmoid() * self.project(h, f"{prefix}.ffn_up"), f"{prefix}.ffn_down")
        x = self.norm(x, "output_norm")
        return self.project(x, "output" if "output.weight" in self.weights else "token_embd")
