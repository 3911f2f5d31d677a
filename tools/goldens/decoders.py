#!/usr/bin/env python3
"""Writes tests/data/models/*.gguf: tiny random decoders with the logits that transformers computes for them.

    pip install transformers torch gguf && python3 tools/goldens/decoders.py

Each file is a model as any other, and besides holds metadata `golden.tokens` and a tensor `golden.logits`
(positions, vocabulary), computed in double precision (but for RoPE's angles, which transformers keeps in f32).
"""

import pathlib

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "models"
POSITIONS = 24
SHAPE = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=32, max_position_embeddings=64, rms_norm_eps=1e-5, attn_implementation="eager")

LAYER = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    if name.startswith("model.layers."):
        layer, rest = name.removeprefix("model.layers.").split(".", 1)
        module, kind = rest.rsplit(".", 1)
        return f"blk.{layer}.{LAYER[module]}.{kind}"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight"}[name]


def adjacent_pairs(rows, heads):
    """Rows of q or k, head by head, from halves that turn together to neighbours that do."""
    half = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return half.swapaxes(1, 2).reshape(rows.shape)


def randomise(model):
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data = noise + (1 if "norm" in name else 0)


def write(name, arch, model, adjacent, metadata):
    randomise(model)
    config = model.config
    tokens = torch.randint(0, config.vocab_size, (1, POSITIONS), generator=torch.Generator().manual_seed(2))
    weights = {n: p.detach().numpy().copy() for n, p in model.named_parameters()}
    with torch.no_grad():
        logits = model.double().eval()(tokens).logits[0].float().numpy()

    writer = gguf.GGUFWriter(OUT / f"{name}.gguf", arch)
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    metadata(writer)
    for key, value in weights.items():
        if adjacent and ("q_proj" in key or "k_proj" in key):
            heads = config.num_attention_heads if "q_proj" in key else config.num_key_value_heads
            value = adjacent_pairs(value, heads)
        writer.add_tensor(gguf_name(key), np.ascontiguousarray(value, dtype=np.float32))
    writer.add_array("golden.tokens", tokens[0].tolist())
    writer.add_tensor("golden.logits", logits)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def head_dim(writer, dim):
    writer.add_key_length(dim)
    writer.add_value_length(dim)


def llama():
    """Llama 3.1: frequencies divided by factors, output tied to the embedding, heads wider than the embedding."""
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
    config = LlamaConfig(**SHAPE, head_dim=12, rope_parameters=rope, tie_word_embeddings=True)
    frequencies, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")

    def metadata(writer):
        head_dim(writer, 12)
        plain = 10000.0 ** (-np.arange(0, 12, 2) / 12)
        writer.add_tensor("rope_freqs.weight", (plain / frequencies.double().numpy()).astype(np.float32))

    write("llama", "llama", LlamaForCausalLM(config), True, metadata)


def mistral():
    """A sliding window, output of its own; heads narrower than the embedding."""
    config = MistralConfig(**SHAPE, head_dim=4, sliding_window=5, tie_word_embeddings=False,
                           rope_parameters={"rope_type": "default", "rope_theta": 1000.0})

    def metadata(writer):
        head_dim(writer, 4)
        writer.add_sliding_window(5)

    write("mistral", "llama", MistralForCausalLM(config), True, metadata)


def qwen2():
    """Biases of q, k and v; half-rotated pairs; YaRN."""
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
    config = Qwen2Config(**{**SHAPE, "hidden_size": 32}, rope_parameters=rope, tie_word_embeddings=False)

    def metadata(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(4.0)
        writer.add_rope_scaling_orig_ctx_len(16)

    write("qwen2", "qwen2", Qwen2ForCausalLM(config), False, metadata)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    llama()
    mistral()
    qwen2()
