#!/usr/bin/env python3
"""Write the golden file of a llama GGUF: greedy ids and logits in float64."""

import argparse
from pathlib import Path

import torch

import golden_json
from gguf_llama import GgufLlama

GENERATED_CHECKPOINTS = (0, 8, 24)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf", type=Path, help="model file to read")
    parser.add_argument("json", type=Path, help="golden file to write")
    parser.add_argument("--prompt", default="Once upon a time", help="text to continue (default %(default)r)")
    parser.add_argument("--tokens", type=int, default=48, help="greedy tokens (default %(default)s)")
    args = parser.parse_args()

    torch.set_num_threads(1)
    model = GgufLlama(args.gguf, dtype=torch.float64)
    vocabulary = model.vocabulary
    prompt_ids = [vocabulary.bos, *vocabulary.encode(args.prompt)]
    ids = list(prompt_ids)
    for _ in range(args.tokens):
        ids.append(int(model.logits(ids)[-1].argmax()))
    logits = model.logits(ids)
    last = len(prompt_ids) - 1
    margin = golden_json.smallest_margin(logits[last:-1])
    golden = {
        "model": args.gguf.name,
        "made_by": "tools/train/golden.py with PyTorch, float64 over the stored weights",
        "prompt": args.prompt,
        "prompt_ids": prompt_ids,
        "greedy_ids": ids[len(prompt_ids) :],
        "smallest_margin": margin,
        "logits": golden_json.logit_rows(
            logits, [last + count for count in GENERATED_CHECKPOINTS], len(prompt_ids)
        ),
        "tokenizer_cases": [
            {"text": text, "ids": vocabulary.encode(text)} for text in golden_json.TOKENIZER_TEXTS
        ],
    }
    golden_json.write(args.json, golden)
    print(vocabulary.decode(ids))
    print(f"smallest greedy margin {margin:.4f}")


if __name__ == "__main__":
    main()
