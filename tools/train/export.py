#!/usr/bin/env python3
"""Write a trained checkpoint and its vocabulary as an F16 GGUF file."""

import argparse
from pathlib import Path

import gguf
import numpy as np
import sentencepiece as spm

from model import load_checkpoint

DESCRIPTION = (
    "A small Llama trained from scratch on public-domain books by Charlotte Bronte, "
    "Charles Darwin and William Shakespeare"
)


def add_hyperparameters(writer, config):
    """Write the llama.* keys."""
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.dim)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.ffn)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)


def add_vocabulary(writer, processor):
    """Write the tokenizer.ggml.* keys of a SentencePiece BPE vocabulary."""
    ids = range(processor.vocab_size())
    types = [
        gguf.TokenType.UNKNOWN if processor.is_unknown(index)
        else gguf.TokenType.CONTROL if processor.is_control(index)
        else gguf.TokenType.BYTE if processor.is_byte(index)
        else gguf.TokenType.NORMAL
        for index in ids
    ]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([processor.id_to_piece(index) for index in ids])
    writer.add_token_scores([processor.get_score(index) for index in ids])
    writer.add_token_types(types)
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_unk_token_id(processor.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt written by train.py")
    parser.add_argument("tokenizer", type=Path, help="tokenizer.model written by prepare.py")
    parser.add_argument("out", type=Path, help="GGUF file to write")
    parser.add_argument("--name", default="Tessera Tiny", help="general.name (default %(default)s)")
    parser.add_argument("--license", default="Apache-2.0", help="general.license (default %(default)s)")
    args = parser.parse_args()

    model, _ = load_checkpoint(args.checkpoint)
    writer = gguf.GGUFWriter(args.out, "llama")
    writer.add_name(args.name)
    writer.add_description(DESCRIPTION)
    writer.add_license(args.license)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_hyperparameters(writer, model.config)
    add_vocabulary(writer, spm.SentencePieceProcessor(model_file=str(args.tokenizer)))
    for name, parameter in model.named_parameters():
        data = parameter.detach().numpy()
        writer.add_tensor(name, data.astype(np.float16) if data.ndim == 2 else data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{args.out}: {sum(p.numel() for p in model.parameters())} parameters, {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
