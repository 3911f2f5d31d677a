"""A small Llama in PyTorch, with RoPE on adjacent pairs as GGUF "llama" expects."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    """Shape of the model."""

    vocab_size: int = 2048
    dim: int = 192
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    ffn: int = 512
    context: int = 512
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self):
        return self.dim // self.heads


def rope_tables(config):
    """Return cos and sin of the rotation angles, [context, head_dim / 2] each."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float64) / config.head_dim
    angles = torch.outer(torch.arange(config.context, dtype=torch.float64), config.rope_theta**-half)
    return angles.cos().float(), angles.sin().float()


def rotate_adjacent(x, cos, sin):
    """Rotate the pairs (x0, x1), (x2, x3), ... of x[batch, position, head, head_dim]."""
    even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    """One transformer layer: grouped-query attention and a SwiGLU network."""

    def __init__(self, config, dropout):
        super().__init__()
        kv_dim = config.kv_heads * config.head_dim
        self.config = config
        self.attn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.attn_q = nn.Linear(config.dim, config.dim, bias=False)
        self.attn_k = nn.Linear(config.dim, kv_dim, bias=False)
        self.attn_v = nn.Linear(config.dim, kv_dim, bias=False)
        self.attn_output = nn.Linear(config.dim, config.dim, bias=False)
        self.ffn_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        self.ffn_gate = nn.Linear(config.dim, config.ffn, bias=False)
        self.ffn_up = nn.Linear(config.dim, config.ffn, bias=False)
        self.ffn_down = nn.Linear(config.ffn, config.dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def attention(self, x, cos, sin):
        c = self.config
        q = self.attn_q(x).unflatten(-1, (c.heads, c.head_dim))
        k = self.attn_k(x).unflatten(-1, (c.kv_heads, c.head_dim))
        v = self.attn_v(x).unflatten(-1, (c.kv_heads, c.head_dim))
        q, k = rotate_adjacent(q, cos, sin), rotate_adjacent(k, cos, sin)
        group = c.heads // c.kv_heads
        k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True)
        return self.attn_output(y.transpose(1, 2).flatten(2))

    def forward(self, x, cos, sin):
        x = x + self.dropout(self.attention(self.attn_norm(x), cos, sin))
        h = self.ffn_norm(x)
        return x + self.dropout(self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h)))


class Llama(nn.Module):
    """Decoder with a tied embedding."""

    def __init__(self, config, dropout=0.0):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.vocab_size, config.dim)
        self.dropout = nn.Dropout(dropout)
        self.blk = nn.ModuleList(Block(config, dropout) for _ in range(config.layers))
        self.output_norm = nn.RMSNorm(config.dim, eps=config.norm_eps)
        cos, sin = rope_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.initialise()

    def initialise(self):
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            std = 0.02 if name == "token_embd.weight" else parameter.shape[1] ** -0.5
            if name.endswith(("attn_output.weight", "ffn_down.weight")):
                std *= (2 * self.config.layers) ** -0.5
            nn.init.normal_(parameter, std=std)

    def forward(self, ids):
        """Return logits [batch, position, vocabulary] of token ids [batch, position]."""
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        x = self.dropout(self.token_embd(ids))
        for block in self.blk:
            x = block(x, cos, sin)
        return F.linear(self.output_norm(x), self.token_embd.weight)


def load_checkpoint(path):
    """Load a checkpoint written by train.py; return (model in eval mode, checkpoint)."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = Llama(Config(**checkpoint["config"]))
    model.load_state_dict(checkpoint["model"])
    return model.eval(), checkpoint
