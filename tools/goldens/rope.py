#!/usr/bin/env python3
"""Writes tests/data/rope.json: RoPE frequencies and magnitudes of transformers' own scaling functions.

    pip install transformers torch && python3 tools/goldens/rope.py

A case holds the fields of RopeConfig (src/models/rope.h) and what transformers makes of the same settings. Llama 3's
scaling comes as GGUF files have it: a divisor for each pair of the unscaled frequencies.
"""

import json
import math
import pathlib

from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data" / "rope.json"


def transformers_rope(kind, dims, base, context, **parameters):
    config = LlamaConfig(head_dim=dims, max_position_embeddings=context,
                         rope_parameters={"rope_type": kind, "rope_theta": base, **parameters})
    frequencies, magnitude = ROPE_INIT_FUNCTIONS[kind](config, "cpu")
    return frequencies.double().tolist(), magnitude


def plain(dims, base):
    return [base ** (-2 * i / dims) for i in range(dims // 2)]


def linear(name, dims, base, factor):
    frequencies, magnitude = transformers_rope("linear", dims, base, 2048, factor=factor)
    return {"name": name, "dims": dims, "base": base, "scaling": "linear", "factor": factor,
            "frequencies": frequencies, "magnitude": magnitude}


def yarn(name, dims, base, factor, original, **parameters):
    frequencies, magnitude = transformers_rope("yarn", dims, base, int(original * factor), factor=factor,
                                               original_max_position_embeddings=original, **parameters)
    case = {"name": name, "dims": dims, "base": base, "scaling": "yarn", "factor": factor, "original_context": original,
            "frequencies": frequencies, "magnitude": magnitude}
    if "attention_factor" in parameters:  # transformers gives the whole magnitude, GGUF what multiplies yarn's own
        case["attn_factor"] = parameters["attention_factor"] / (1 + 0.1 * math.log(factor))
    for key in ("beta_fast", "beta_slow"):
        if key in parameters:
            case[key] = parameters[key]
    return case


def llama3(name, dims, base, factor, original):
    frequencies, magnitude = transformers_rope("llama3", dims, base, int(original * factor), factor=factor,
                                               low_freq_factor=1.0, high_freq_factor=4.0,
                                               original_max_position_embeddings=original)
    return {"name": name, "dims": dims, "base": base, "scaling": "none", "frequencies": frequencies,
            "freq_factors": [p / f for p, f in zip(plain(dims, base), frequencies)], "magnitude": magnitude}


def main():
    cases = [
        {"name": "none", "dims": 64, "base": 10000.0, "scaling": "none", "frequencies": plain(64, 10000.0),
         "magnitude": 1.0},
        linear("linear", 64, 10000.0, 4.0),
        linear("linear_odd", 80, 500000.0, 2.5),
        yarn("yarn", 128, 10000.0, 4.0, 4096),
        yarn("yarn_long", 64, 1000000.0, 32.0, 2048),
        yarn("yarn_betas", 96, 10000.0, 8.0, 1024, beta_fast=16.0, beta_slow=2.0),
        yarn("yarn_attention_factor", 64, 10000.0, 4.0, 4096, attention_factor=0.8),
        llama3("llama3", 128, 500000.0, 8.0, 8192),
        llama3("llama3_32", 64, 500000.0, 32.0, 8192),
    ]
    OUT.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
