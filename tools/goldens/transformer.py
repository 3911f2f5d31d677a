#!/usr/bin/env python3
"""Writes tests/data/transformer/{pre,post}: tiny random encoder-decoders as folders that `tessera translate` takes, and
in each golden.json: logits, and the results of beam search, and attention.json: attention weights, that torch.nn's
layers give in double precision.

    pip install torch safetensors && python3 tools/goldens/transformer.py
"""

import functools
import json
import math
import pathlib

import torch
from safetensors.torch import save_file

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "transformer"
BOS, EOS = 1, 2
SOURCE = ["<blank>", "<s>", "</s>"] + list("abcdefghij") + ["\u0639", "\u00e9"]
TARGET = ["<blank>", "<s>", "</s>"] + list("0123456789") + ["\u00df"]
DIM, HEADS, FFN, LAYERS = 24, 3, 40, 2


class Model(torch.nn.Module):
    def __init__(self, config, tied, gain):
        super().__init__()
        self.config = config
        pre = config["norm"] == "pre"
        kwargs = dict(d_model=DIM, nhead=HEADS, dim_feedforward=FFN, dropout=0.0, activation="relu",
                      layer_norm_eps=config["layer_norm_eps"], batch_first=True, norm_first=pre)
        norm = (lambda: torch.nn.LayerNorm(DIM, eps=config["layer_norm_eps"])) if pre else (lambda: None)
        self.encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(**kwargs), LAYERS, norm(),
                                                   enable_nested_tensor=False)
        self.decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(**kwargs), LAYERS, norm())
        self.source = torch.nn.Embedding(len(SOURCE), DIM)
        self.target = torch.nn.Embedding(len(TARGET), DIM)
        self.projection = torch.nn.Linear(DIM, len(TARGET))
        generator = torch.Generator().manual_seed(config.pop("seed"))
        for name, p in self.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.data = noise * 0.2 + 1 if "norm" in name and "weight" in name else noise * gain
        self.projection.bias.data[:2] -= 9  # so that texts vary, and some end
        self.projection.bias.data[EOS] += 1
        if tied:
            self.projection.weight = self.target.weight
        self.tied = tied
        self.double().eval()

    def embed(self, table, ids):
        half, c = DIM // 2, self.config
        i = torch.arange(half, dtype=torch.float64)
        halves = c["position_layout"] == "sin_half_cos_half"
        frequency = torch.exp(-i * math.log(10000) / (half - 1 if halves else half))
        angle = (torch.arange(len(ids), dtype=torch.float64) + c["position_start"])[:, None] * frequency
        sin, cos = angle.sin(), angle.cos()
        positions = torch.cat([sin, cos], 1) if halves else torch.stack([sin, cos], 2).flatten(1)
        return table(torch.tensor(ids)) * (math.sqrt(DIM) if c["scale_embedding"] else 1) + positions

    def attention(self, source, target):
        """The weights of every layer's heads, (layers, heads, rows, keys), by what attends."""
        found = []

        def forward(module, *args, need_weights, **kwargs):
            out = plain(module, *args, need_weights=True, average_attn_weights=False, **kwargs)
            found.append(out[1][0].tolist())
            return out

        plain, torch.nn.MultiheadAttention.forward = torch.nn.MultiheadAttention.forward, forward
        torch.backends.mha.set_fastpath_enabled(False)
        self.encode.cache_clear()
        self.logits(source, target)
        torch.nn.MultiheadAttention.forward = plain
        torch.backends.mha.set_fastpath_enabled(True)
        decoder = found[LAYERS:]
        return {"encoder": found[:LAYERS], "decoder": decoder[::2], "cross": decoder[1::2]}

    @functools.cache
    def encode(self, source):
        return self.encoder(self.embed(self.source, source)[None])

    def logits(self, source, target):
        """Of every position of `target`, BOS first."""
        memory = self.encode(tuple(source))
        mask = torch.full((len(target), len(target)), -math.inf, dtype=torch.float64).triu(1)
        out = self.decoder(self.embed(self.target, target)[None], memory, tgt_mask=mask)
        return self.projection(out)[0]

    def search(self, source, beams, most, prefix=()):
        """As src/session/seq2seq_session.h says; recomputes everything at every step."""
        live, done = [((BOS,), 0.0)], []
        for token in prefix:
            ids, score = live[0]
            live = [(ids + (token,), score + self.logits(source, ids)[-1].log_softmax(0)[token].item())]
        while live and len(live[0][0]) <= most:
            extensions = []
            for b, (ids, score) in enumerate(live):
                for token, p in enumerate(self.logits(source, ids)[-1].log_softmax(0).tolist()):
                    extensions.append((-(score + p), b, token))
            extensions.sort()
            following = []
            for rank, (score, b, token) in enumerate(extensions[:2 * beams]):
                if len(following) == beams:
                    break
                if token != EOS:
                    following.append((live[b][0] + (token,), -score))
                elif rank < beams:
                    done.append((live[b][0], -score))
            live = following
            done.sort(key=lambda h: -h[1])
            if len(done) >= beams and live[0][1] <= done[beams - 1][1]:
                break
        found = [(ids, score, True) for ids, score in done] + [(ids, score, False) for ids, score in live]
        return [{"ids": list(ids[1:]), "score": score, "finished": finished} for ids, score, finished in found[:beams]]

    def tensors(self):
        out = {}

        def put(name, module):
            out[name + "/weight"], out[name + "/bias"] = module.weight, module.bias

        def norm(name, module):
            out[name + "/layer_norm/gamma"], out[name + "/layer_norm/beta"] = module.weight, module.bias

        def attention(name, module, cross):
            w, b = module.in_proj_weight, module.in_proj_bias
            parts = [(0, DIM), (DIM, 3 * DIM)] if cross else [(0, 3 * DIM)]
            for i, (begin, end) in enumerate(parts):
                out[f"{name}/linear_{i}/weight"], out[f"{name}/linear_{i}/bias"] = w[begin:end], b[begin:end]
            put(f"{name}/linear_{len(parts)}", module.out_proj)

        for side, stack in (("encoder", self.encoder), ("decoder", self.decoder)):
            for i, layer in enumerate(stack.layers):
                name = f"{side}/layer_{i}"
                attention(f"{name}/self_attention", layer.self_attn, False)
                norm(f"{name}/self_attention", layer.norm1)
                if side == "decoder":
                    attention(f"{name}/attention", layer.multihead_attn, True)
                    norm(f"{name}/attention", layer.norm2)
                norm(f"{name}/ffn", layer.norm2 if side == "encoder" else layer.norm3)
                put(f"{name}/ffn/linear_0", layer.linear1)
                put(f"{name}/ffn/linear_1", layer.linear2)
            if stack.norm is not None:
                norm(side, stack.norm)
        out["encoder/embeddings/weight"] = self.source.weight
        out["decoder/embeddings/weight"] = self.target.weight
        out["decoder/projection/bias"] = self.projection.bias
        if not self.tied:
            out["decoder/projection/weight"] = self.projection.weight
        return {name: t.detach().float().contiguous() for name, t in out.items()}


def write(name, config, tied, gain):
    config = {"model_type": "transformer", "name": name, "encoder_layers": LAYERS, "decoder_layers": LAYERS, "d_model": DIM,
              "heads": HEADS, "ffn_dim": FFN, "activation": "relu", "positions": "sinusoidal",
              "source_vocabulary": "source.txt", "target_vocabulary": "target.txt", "bos_id": BOS, "eos_id": EOS,
              **config}
    model = Model(config, tied, gain)
    for p in model.parameters():  # what the file holds
        p.data = p.data.float().double()
    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "source.txt").write_text("\n".join(SOURCE) + "\n")
    (folder / "target.txt").write_text("\n".join(TARGET) + "\n")
    save_file(model.tensors(), folder / "weights.safetensors")

    generator = torch.Generator().manual_seed(5)
    cases = []
    with torch.no_grad():
        for length in (1, 2, 5, 9, 12):
            source = torch.randint(3, len(SOURCE), (length,), generator=generator).tolist()
            forced = torch.randint(3, len(TARGET), (7,), generator=generator).tolist()
            target = [BOS] + forced
            cases.append({"source": source, "text": "".join(SOURCE[i] for i in source),
                          "target": target, "logits": model.logits(source, target).flatten().tolist(),
                          "greedy": model.search(source, 1, 14), "beam_4": model.search(source, 4, 14),
                          "prefix": forced[:2], "prefix_greedy": model.search(source, 1, 14, forced[:2]),
                          "prefix_beam_4": model.search(source, 4, 14, forced[:2])})
    (folder / "golden.json").write_text(json.dumps({"max_tokens": 14, "cases": cases}) + "\n")
    case = cases[2]
    with torch.no_grad():
        attention = model.attention(case["source"], case["target"])
    (folder / "attention.json").write_text(json.dumps(
        {"text": case["text"], "target": "".join(TARGET[i] for i in case["target"][1:]), **attention}) + "\n")
    for case in cases:
        for kind in ("greedy", "beam_4", "prefix_greedy", "prefix_beam_4"):
            print(name, case["text"], kind, [("".join(TARGET[i] for i in h["ids"]), round(h["score"], 3), h["finished"])
                                             for h in case[kind]])


if __name__ == "__main__":
    torch.set_num_threads(1)
    write("pre", {"norm": "pre", "layer_norm_eps": 1e-5, "position_layout": "sin_half_cos_half", "position_start": 1,
                  "scale_embedding": True, "seed": 3}, tied=False, gain=0.35)
    write("post", {"norm": "post", "layer_norm_eps": 1e-6, "position_layout": "interleaved", "position_start": 0,
                   "scale_embedding": False, "seed": 4}, tied=True, gain=0.35)
