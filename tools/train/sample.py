#!/usr/bin/env python3
"""Continue a prompt with a GGUF model and print the text."""

import argparse
from pathlib import Path

import torch

from gguf_llama import GgufLlama


def choose(logits, temperature, top_p, generator):
    """Pick a token: the best one at temperature 0, else one of the top-p nucleus."""
    if temperature == 0:
        return int(logits.argmax())
    probabilities, order = (logits / temperature).softmax(-1).sort(descending=True)
    # Keep the smallest set whose probability reaches top_p.
    probabilities[probabilities.cumsum(0) - probabilities >= top_p] = 0
    return int(order[probabilities.multinomial(1, generator=generator)])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("gguf", type=Path, help="model file")
    parser.add_argument("prompt", nargs="?", default="Once upon a time", help="text to continue")
    parser.add_argument("--tokens", type=int, default=200, help="most tokens to add")
    parser.add_argument("--temperature", type=float, default=0.8, help="0 takes the best token each time")
    parser.add_argument("--top-p", type=float, default=0.95, help="probability of the nucleus")
    parser.add_argument("--seed", type=int, default=1, help="seed of the choices")
    args = parser.parse_args()

    torch.set_num_threads(1)
    model = GgufLlama(args.gguf, dtype=torch.float32)
    vocabulary = model.vocabulary
    generator = torch.Generator().manual_seed(args.seed)
    ids = [vocabulary.bos, *vocabulary.encode(args.prompt)]
    for _ in range(min(args.tokens, model.context - len(ids))):
        token = choose(model.logits(ids)[-1], args.temperature, args.top_p, generator)
        if token == vocabulary.eos:
            break
        ids.append(token)
    print(vocabulary.decode(ids))


if __name__ == "__main__":
    main()
