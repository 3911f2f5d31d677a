"""The layout of the golden files, shared by the scripts that write them.

  model            file name of the GGUF the numbers belong to
  made_by          script and library that computed them
  prompt           text of the prompt
  prompt_ids       its token ids, with BOS where the model adds one
  greedy_ids       ids chosen greedily after the prompt
  smallest_margin  smallest gap between the best and second logit on that path
  logits           list of {position, generated, values}: the logits of the whole
                   vocabulary that follow the token at index `position` of
                   prompt_ids + greedy_ids; `generated` is the number of greedy
                   tokens the model has seen by then
  tokenizer_cases  list of {text, ids}, without BOS
"""

import json

TOKENIZER_TEXTS = [
    "Once upon a time",
    " leading space",
    "two  spaces and\ttab",
    'She said, "I don\'t know--it\'s 1847!"',
    "line one\nline two\n\nnew paragraph",
    "Pere Silas, Père Silas, naïve",
    "日本 \U0001f600",
    "",
]


def significant(values, digits=6):
    """Round numbers to a count of significant digits."""
    return [float(f"{value:.{digits}g}") for value in values]


def smallest_margin(logits):
    """Smallest difference of the two largest logits over the rows of a 2-D tensor."""
    top = logits.topk(2, dim=-1).values
    return float((top[:, 0] - top[:, 1]).min())


def logit_rows(logits, positions, prompt_length):
    """Rows of the golden file for the logits[position, vocabulary] at some positions."""
    return [
        {
            "position": position,
            "generated": max(0, position + 1 - prompt_length),
            "values": significant(logits[position].tolist()),
        }
        for position in positions
    ]


def write(path, golden):
    """Write a golden file with one key per line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in golden.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
