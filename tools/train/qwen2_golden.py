#!/usr/bin/env python3
"""Make a small random Qwen2 GGUF and a golden file with what transformers computes for it.

The weights are random: the pair tests the arithmetic of the architecture
(query/key/value biases, half-rotated RoPE, grouped-query attention, an output
matrix of its own) and a byte-level BPE tokenizer, not language.
"""

import argparse
from pathlib import Path

import gguf
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM

import golden_json

END_OF_TEXT = "<|endoftext|>"
PROMPT = "The answer to that is in the sea"
GREEDY_TOKENS = 32
GENERATED_CHECKPOINTS = (0, 8, 24)

# The split pattern of the Qwen2 tokenizer.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# In order of priority; Ġ is the space and Ċ the line feed of the byte alphabet.
MERGES = """
Ġ t|Ġ a|h e|i n|r e|o n|Ġt he|e r|Ġ s|a t|Ġ w|Ġ o|e n|Ġ c|i t|i s|a n|o r|e s|Ġ b|e d|Ġ f|in g|Ġ p|o u|
Ġa n|a l|a r|Ġt o|Ġ m|Ġo f|Ġ in|Ġ d|Ġ h|Ġan d|i c|a s|l e|Ġt h|i on|o m|l l|en t|Ġ n|Ġ l|s t|Ġ re|v e|
r o|l y|Ġb e|Ġ g|Ġth at|Ġ is|Ġs e|T he|- -|Ġ Ġ|ĠĠ ĠĠ|Ċ Ċ|Ã ©|' s|Ġw as
""".replace("\n", "").split("|")


def byte_alphabet():
    """The 256 characters of GPT-2's byte-to-unicode table, printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + index) for index in range(len(others))]


def make_tokenizer():
    """Return (tokens in id order, merges, reference tokenizer)."""
    merges = [tuple(merge.split(" ")) for merge in MERGES]
    tokens = byte_alphabet() + [left + right for left, right in merges] + [END_OF_TEXT]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ValueError("two merges make the same token")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokens, merges, tokenizer


def make_model(vocab_size, seed):
    """A random Qwen2 whose biases and norm weights are all different from their defaults."""
    config = Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model = Qwen2ForCausalLM(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.5 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(1.5 * noise * parameter.shape[1] ** -0.5)
    return model


def write_gguf(path, model, tokens, merges):
    """Write the model and its tokenizer as a float32 GGUF file of architecture qwen2."""
    config = model.config
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("Random Qwen2 for tests")
    writer.add_description("Random weights; for tests of the arithmetic only")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)

    end = tokens.index(END_OF_TEXT)
    types = [gguf.TokenType.NORMAL] * len(tokens)
    types[end] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    writer.add_add_bos_token(False)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), parameter.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("gguf", type=Path, help="model file to write")
    parser.add_argument("json", type=Path, help="golden file to write")
    parser.add_argument("--seed", type=int, default=1, help="seed of the weights (default %(default)s)")
    args = parser.parse_args()

    torch.set_num_threads(1)
    tokens, merges, tokenizer = make_tokenizer()
    model = make_model(len(tokens), args.seed)
    write_gguf(args.gguf, model, tokens, merges)

    prompt_ids = tokenizer.encode(PROMPT).ids
    if len(prompt_ids) != 12:
        raise ValueError(f"the prompt has {len(prompt_ids)} tokens, not 12")
    with torch.no_grad():
        ids = list(prompt_ids)
        for _ in range(GREEDY_TOKENS):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        logits = model(torch.tensor([ids])).logits[0]
    last = len(prompt_ids) - 1
    margin = golden_json.smallest_margin(logits[last:-1])
    golden = {
        "model": args.gguf.name,
        "made_by": "tools/train/qwen2_golden.py with transformers Qwen2ForCausalLM, float32, eager attention",
        "prompt": PROMPT,
        "prompt_ids": prompt_ids,
        "greedy_ids": ids[len(prompt_ids) :],
        "smallest_margin": margin,
        "logits": golden_json.logit_rows(
            logits, [0, 5, *(last + count for count in GENERATED_CHECKPOINTS)], len(prompt_ids)
        ),
        "tokenizer_cases": [
            {"text": text, "ids": tokenizer.encode(text).ids} for text in golden_json.TOKENIZER_TEXTS
        ],
    }
    golden_json.write(args.json, golden)
    print(f"{args.gguf}: {args.gguf.stat().st_size} bytes; smallest greedy margin {margin:.4f}")


if __name__ == "__main__":
    main()
