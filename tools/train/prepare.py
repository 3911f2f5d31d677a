#!/usr/bin/env python3
"""Clean the training books, train the BPE vocabulary, and write token files.

Reads `bronte.txt`, `darwin.txt` and `tinyshakespeare.txt` from a folder and
writes to the output folder:

  tokenizer.model     SentencePiece BPE model with byte fallback
  NAME.train.bin      uint16 token ids, passages as <s> ... </s>
  NAME.val.bin        the same for the held-out part
  NAME.val.txt        the held-out text itself
  meta.json           sizes and settings
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import sentencepiece as spm

# Name: file, kind of text, and how often the text counts for the vocabulary.
CORPORA = {
    "bronte": ("bronte.txt", "prose", 3),
    "darwin": ("darwin.txt", "treatise", 2),
    "shakespeare": ("tinyshakespeare.txt", "verse", 1),
}

# Characters that must be pieces of their own although they are rare.
REQUIRED_CHARACTERS = "0123456789()!?&\u00e8\u00e0\u00ea\u00f4\u00e7\u00e2"

CHARACTER_MAP = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2014": "--",
        "\u2013": "-",
        "\u00a0": " ",
        "\u0153": "oe",
        "\u0152": "Oe",
        "_": None,
    }
)

# Front and back matter of the treatises: skipped up to the next introduction.
SKIP_FROM = {"CONTENTS.", "DETAILED CONTENTS.", "FOOTNOTES:", "INDEX."}
SKIP_UNTIL = {"INTRODUCTION."}

HEADING = re.compile(r"^(CHAPTER|VOLUME|PART)\b", re.IGNORECASE)
SEPARATOR = re.compile(r"^[\s*]+$")
# "{caption: p30.jpg}", "[Illustration: ...]", "[Footnote 1: ...]", "[Fig. 3 ...", "[A] note"
ARTEFACT = re.compile(r"^\s*(\{|\[(Illustration|Footnote|Fig\.|[A-Z]\]))")
# "[117]", "[A]" and "{sic}" inside a sentence.
REFERENCE = re.compile(r"\[(\d+|[A-Z])\]|\{sic\}")
# "(26.  Author, 'Title' (1874), p. 119.)": notes set inside the running text.
INLINE_NOTE = re.compile(r"\s*\(\d+\.\s[^()]*(?:\([^()]*\)[^()]*)*\)")


def split_blocks(text):
    """Yield the blank-line separated blocks of `text` as lists of lines."""
    block = []
    for line in text.split("\n"):
        if line.strip():
            block.append(line.rstrip())
        elif block:
            yield block
            block = []
    if block:
        yield block


def unwrap(lines):
    """Join the hard-wrapped lines of one paragraph, keeping indented verse as lines."""
    if len(lines) > 1 and all(line.startswith("  ") for line in lines):
        return "\n".join(re.sub(r"\s+", " ", line.strip()) for line in lines)
    joined = ""
    for line in lines:
        line = line.strip()
        if joined and not joined.endswith("-"):
            joined += " "
        joined += line
    return re.sub(r"\s+", " ", joined)


def looks_like_prose(paragraph):
    """Tell running sentences of a treatise from tables, lists and summaries."""
    if len(paragraph) < 160 or paragraph[-1] not in ".?!\"'":
        return False
    if paragraph.count("--") * 120 > len(paragraph):
        return False
    digits = sum(c.isdigit() for c in paragraph)
    return digits * 30 < len(paragraph)


def clean(text, kind):
    """Return the chapters of a book, each a list of clean paragraphs."""
    text = text.replace("\r", "").translate(CHARACTER_MAP)
    chapters, chapter, skipping = [], [], False

    for lines in split_blocks(text):
        if kind == "verse":
            chapter.append("\n".join(re.sub(r"\s+", " ", line).strip() for line in lines))
            continue
        first = lines[0].strip()
        if kind == "treatise":
            if first in SKIP_UNTIL:
                skipping = False
            if first in SKIP_FROM:
                skipping = True
            if skipping:
                continue
        if ARTEFACT.match(lines[0]) or SEPARATOR.match("".join(lines)):
            continue
        paragraph = unwrap(lines)
        heading = HEADING.match(paragraph) and len(paragraph) < 120
        if heading or not re.search(r"[a-z]", paragraph):
            if chapter:
                chapters.append(chapter)
                chapter = []
            continue
        paragraph = REFERENCE.sub("", INLINE_NOTE.sub("", paragraph)).strip()
        if kind == "treatise" and not looks_like_prose(paragraph):
            continue
        if paragraph:
            chapter.append(paragraph)
    if chapter:
        chapters.append(chapter)
    return chapters


def passages(chapters, target):
    """Group consecutive paragraphs of a chapter into passages of about `target` characters."""
    result = []
    for chapter in chapters:
        current, size = [], 0
        for paragraph in chapter:
            current.append(paragraph)
            size += len(paragraph) + 2
            if size >= target:
                result.append("\n\n".join(current))
                current, size = [], 0
        if current:
            result.append("\n\n".join(current))
    return result


def train_vocabulary(texts, prefix, vocab_size):
    """Train a SentencePiece BPE vocabulary on `texts` and return its processor."""
    lines = [line for text in texts for line in text.split("\n") if line]
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(prefix),
        model_type="bpe",
        vocab_size=vocab_size,
        byte_fallback=True,
        character_coverage=0.9999,
        required_chars=REQUIRED_CHARACTERS,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        split_digits=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        max_sentence_length=65536,
        num_threads=2,
        minloglevel=1,
    )
    return spm.SentencePieceProcessor(model_file=f"{prefix}.model")


def encode(processor, texts):
    """Encode passages as <s> ... </s>, concatenated."""
    ids = []
    for text in texts:
        ids.append(processor.bos_id())
        ids.extend(processor.encode(text))
        ids.append(processor.eos_id())
    return np.array(ids, dtype=np.uint16)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("corpora", type=Path, help="folder that holds the book text files")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--vocab-size", type=int, default=2048, help="pieces in the vocabulary (default %(default)s)")
    parser.add_argument("--passage-chars", type=int, default=1500, help="characters per passage (default %(default)s)")
    parser.add_argument("--holdout", type=float, default=0.02, help="fraction held out per book file (default %(default)s)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    train, held = {}, {}
    for name, (filename, kind, _) in CORPORA.items():
        text = (args.corpora / filename).read_text(encoding="utf-8")
        pieces = passages(clean(text, kind), args.passage_chars)
        # One contiguous run of passages from the middle of each file.
        count = max(1, round(len(pieces) * args.holdout))
        start = len(pieces) // 2
        held[name] = pieces[start : start + count]
        train[name] = pieces[:start] + pieces[start + count :]

    vocabulary_texts = [text for name, (_, _, weight) in CORPORA.items() for text in train[name] * weight]
    processor = train_vocabulary(vocabulary_texts, args.out / "tokenizer", args.vocab_size)

    meta = {"vocab_size": processor.vocab_size(), "passage_chars": args.passage_chars, "corpora": {}}
    for name in CORPORA:
        sizes = {}
        for split, texts in (("train", train[name]), ("val", held[name])):
            ids = encode(processor, texts)
            ids.tofile(args.out / f"{name}.{split}.bin")
            sizes[split] = {"passages": len(texts), "chars": sum(map(len, texts)), "tokens": len(ids)}
        (args.out / f"{name}.val.txt").write_text("\n\n".join(held[name]) + "\n", encoding="utf-8")
        meta["corpora"][name] = sizes
        print(name, json.dumps(sizes))
    (args.out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")


if __name__ == "__main__":
    main()
