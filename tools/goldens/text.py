#!/usr/bin/env python3
"""Trains tiny vocabularies with the reference libraries and writes what these make of awkward texts.

    pip install sentencepiece tokenizers
    tools/goldens/text.py [--model test_model.model] [OUT_DIR]

OUT_DIR (tests/data/text) gets one JSON file a vocabulary: {"vocab": ..., "cases": [...]}. Bytes that need not be
UTF-8 are in hexadecimal. A case is {"text" or "hex" or "repeat": [text, count], "ids" or "count" and "fnv" of the
ids, "decoded" where the library decodes to text}. With --model (SentencePiece's own test model) there is one more
file, of cases for that model, without its vocabulary.
"""
import argparse
import collections
import io
import json
import pathlib
import struct
import tempfile

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

CORPUS = """The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore, doesn't she?
I've been told that he's there; they'll say you're sure, we'd say I'm not. It'll cost 12345.67 dollars in 2024.
Once upon a time there was a small ship on the wide sea, and the sea was wide, and the ship was small.
In the beginning the programmer made the loop and the array; and the array was without bounds.
for (int i = 0; i < 100; ++i) {\n    total += values[i] * weights[i];\n}\n\n\treturn total;
The weather in the mountains is better than the weather in the valley, and the other brother would rather stay.
Un petit garçon mange une pêche près de la fenêtre; déjà vu, naïve, façade, œuvre, été, Noël.
Der Fuchs läuft über die Straße und die Bäume blühen schön; größer, süß, außen, Mädchen.
El niño comió piñas mañana por la mañana. ¿Qué pasó? ¡Nada!
Быстрая лиса прыгает через ленивую собаку. Нещо на български, ещё немного слов.
我想在苹果公司工作，今天天气很好。吾輩は猫である。名前はまだ無い。すもももももももものうち。
안녕하세요 세계. 오늘은 날씨가 좋습니다. नमस्ते दुनिया। สวัสดีชาวโลก កាន់តែពិសេស
Emoji 🚀 (normal) 😶‍🌫️ (joined) ✅ 👩‍👩‍👧‍👦 🇩🇪 and more 🚀🚀 text!!! ??? ... --- === ``` \"\"\"
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
"""

TEXTS = [
    "", " ", "  ", "   ", "\t", "\n", "\n\n", "\n\n\n", "\t\n", "\r\n", "\r\n\r\n  x", " \n \n\n \t", "x  ", "  x  y   z ",
    "Hello world", " Hello world", "Hello, World!  ", "    Hello\n    Hello", "\n =", "' era", "a\u00a0b\u3000c\u2003d",
    "I've I'VE i'Ll you'RE it's IT'S we'd 'm 'tis don't", "can''t 's's'd", "\u2019s it\u2019s", "'\u017fa 'S",
    "3", "33", "333", "3333", "33333", "1234567890", "3.14 3..3 3...3 1,000,000", "\u0663\u0664 \u00bd \u2167 \u00b2\u00b3",
    "ied 4 ½ months", "Führer Straße STRASSE İstanbul ıI", "cafe\u0301 e\u0301\u0323 e\u0323\u0301 \u0301\u0301 a\u0300", "Cửa Việt C\u01b0\u0309a",
    "\u1100\u1161\u11a8 각 ㄱ \uac00\u11a8", "नमस्ते दुनिया", "កាន់តែពិសេស", "สวัสดีชาวโลก", "нещо на Български ЕЩЁ",
    "我想在apple工作1314151天～", "すももももももも カタカナ ﾊﾝｶｸ ｶﾞ", "ＡＢＣ １２３ ﬁ ﷺ ™ ① ㍿", "👩‍👩‍👧‍👦 🇩🇪 😶‍🌫️ ✅ 🚀🚀",
    "\ufeffbom", "zero\u200bwidth\u200djoin\u00adsoft", "\u180e\u180ex", "\u0085x\u2028y\u2029z", "a\x0bb\x0cc\x1cd\x1f", "nul\x00in\x00side", "\x7f\x01\x02",
    "\ufffd \ufffd\ufffd", "\U0010ffff \U000e0001 \ue000", "▁ ▁▁x _▁_", "Ġhello Ċ <0x41> <0x0A>", "<unk> <s> </s> [CLS] [UNK]",
    "!!!!!! ------======= ''''''```````\"\"\"\"......??????", "a/b\\c//d /\n/ ;\r\n", "$x+y<=z^~|w|", "foo_bar fooBar FooBAR FOObar HTTPServer xmlHTTP",
    "w048 7tuijk dsdfhu", "the\tquick\t\tbrown  \t fox", "tab\there\n\n\n  indented\n\n", "the the the thethethe", "Zzyzx qwrtp \u01c5\u01c8 \u02b0\u02b1",
    "unaffable running jumped weather-beaten", "x" * 99, "x" * 100, "x" * 101, "y" * 250,
]
BAD_BYTES = ["ff", "61ff62", "e4bd", "20e4bd20", "c0af", "eda080", "f4908080", "f09f9a", "80808041", "48c3", "c3a9c3", "e3818120ff20e38182"]
# Runs that a quadratic algorithm would feel; also long enough to cross the limits of a regular expression.
RUNS = [("a", 100000), (" ", 100000), ("\n", 60000), ("ab ", 30000), ("!", 100000), ("7", 100000), ("猫", 40000),
        ("e\u0301", 30000), ("\u0301\u0323", 30000), ("A", 100000), ("the sea ", 10000), ("🚀", 20000), (" \t", 50000), ("'", 70000)]


def fnv(ids):
    """FNV-1a over the ids' little-endian bytes."""
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}I", *ids):
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def cases_of(encode, decode=None, bad_bytes=False, runs=RUNS, texts=TEXTS):
    cases = []
    for text in texts:
        ids = encode(text)
        case = {"text": text, "ids": ids}
        if decode:
            case["decoded"] = decode(ids)
        cases.append(case)
    for bad in BAD_BYTES if bad_bytes else []:
        cases.append({"hex": bad, "ids": encode(bytes.fromhex(bad))})
    for text, count in runs:
        ids = encode(text * count)
        cases.append({"repeat": [text, count], "count": len(ids), "fnv": fnv(ids)})
    return cases


def write(path, content):
    """One line a case; the vocabulary's lists on one line each."""
    out = io.StringIO()
    out.write("{")
    if "vocab" in content:
        out.write('"vocab": {\n')
        out.write(",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in content["vocab"].items()))
        out.write("\n},\n")
    out.write('"cases": [\n')
    out.write(",\n".join(json.dumps(case) for case in content["cases"]))
    out.write("\n]}\n")
    path.write_text(out.getvalue())
    print(path, len(out.getvalue()), "bytes,", len(content["cases"]), "cases")


# ---- SentencePiece ----

def protobuf(data):
    """(field, value) of a message; values are integers or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(key & 7) or varint()
            value = data[at:at + size]
            at += size
        yield key >> 3, value


def sentencepiece_vocab(model, proto):
    pieces = [dict(protobuf(value)) for field, value in protobuf(proto) if field == 1]
    trainer = dict(protobuf(next(value for field, value in protobuf(proto) if field == 2)))
    normalizer = dict(protobuf(next(value for field, value in protobuf(proto) if field == 3)))
    return {
        "model": model,
        "tokens": [piece[1].decode() for piece in pieces],
        "scores": [struct.unpack("<f", piece.get(2, bytes(4)))[0] for piece in pieces],
        "types": [piece.get(3, 1) for piece in pieces],
        "unk": trainer.get(40, 0), "bos": trainer.get(41, 1), "eos": trainer.get(42, 2),
        "add_space_prefix": bool(normalizer.get(3, 1)),
        "remove_extra_whitespaces": bool(normalizer.get(4, 1)),
        "charsmap": normalizer.get(2, b"").hex(),
    }


# A small character map: full-width letters, a ligature, composition, a long expansion, deletion, blanks.
RULES = [("\uff21", "A"), ("\uff22", "B"), ("\uff11", "1"), ("\ufb01", "fi"), ("e\u0301", "\u00e9"), ("\ufdfa", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647"),
         ("\u200b", " "), ("\t", " "), ("\n", " "), ("\r", " "), ("\u3000", " "), ("\u00a0", " "), ("\u00ad", ""), ("\x01", ""),
         ("\u2019", "'"), ("\u30ab\u3099", "\u30ac"), ("\uff76\uff9e", "\u30ac"), ("\uff76", "\u30ab")]


def sentencepiece_golden(out_dir, name, model, rules=None, **options):
    with tempfile.TemporaryDirectory() as work:
        corpus = pathlib.Path(work, "corpus.txt")
        corpus.write_text(CORPUS * 4)
        if rules:
            table = pathlib.Path(work, "rules.tsv")
            hexed = lambda s: " ".join(f"{ord(c):X}" for c in s)
            table.write_text("".join(f"{hexed(a)}\t{hexed(b)}\n" for a, b in rules))
            options["normalization_rule_tsv"] = str(table)
        proto = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_writer=proto, minloglevel=2, num_threads=1, hard_vocab_limit=False, **options)
    proto = proto.getvalue()
    processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    write(out_dir / f"{name}.json", {
        "vocab": sentencepiece_vocab(model, proto),
        "cases": cases_of(processor.encode, processor.decode, bad_bytes=True)})


# ---- byte-level BPE and WordPiece ----

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s|%s"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
MARKS = r"[\p{P}\$\+<=>\^~\|]+"

FAMILIES = {  # name of the pre-tokenizer: stages, normaliser, whole words first
    "gpt-2": ([GPT2], None, False),
    "llama-bpe": ([CL100K % r"\p{N}{1,3}"], None, True),
    "qwen2": ([CL100K % r"\p{N}"], normalizers.NFC(), False),
    "smollm": ([r"\p{N}", GPT2], None, False),
    "gpt-4o": ([O200K % (ENDINGS, ENDINGS, r"\p{N}{1,3}")], None, False),
    "tekken": ([O200K % ("", "", r"\p{N}")], None, True),
    "default": ([MARKS, GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], None, False),
}


def byte_bpe_golden(out_dir, pre):
    stages, normalizer, whole_words = FAMILIES[pre]
    tokenizer = Tokenizer(models.BPE(ignore_merges=whole_words))
    if normalizer:
        tokenizer.normalizer = normalizer
    splits = [pre_tokenizers.Split(Regex(stage), "isolated") for stage in stages]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=460, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False, special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator(CORPUS.splitlines(keepends=True) * 4, trainer)
    tokenizer.encode_special_tokens = True
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    write(out_dir / f"byte_bpe_{pre}.json", {
        "vocab": {
            "model": "gpt2", "pre": pre, "tokens": tokens,
            "types": [3 if token == "<|endoftext|>" else 1 for token in tokens],
            "merges": [m if isinstance(m, str) else " ".join(m) for m in model["merges"]], "eos": 0},
        "cases": cases_of(lambda text: tokenizer.encode(text, add_special_tokens=False).ids)})


def wordpiece_tokens(normalizer, pre_tokenizer):
    """Characters, then whole words, beginnings and endings that occur twice (the library's trainer gives another
    vocabulary every time)."""
    text = normalizer.normalize_str(CORPUS)
    words = collections.Counter(word for word, _ in pre_tokenizer.pre_tokenize_str(text))
    chars = sorted({c for word in words for c in word})
    parts = collections.Counter()
    for word, count in words.items():
        parts[word] += count
        for size in (2, 3, 4):
            if size < len(word):
                parts[word[:size]] += count
                parts["##" + word[-size:]] += count
    common = sorted(part for part, count in parts.items() if count > 1 and len(part.removeprefix("##")) > 1)
    return chars + ["##" + c for c in chars] + common


def wordpiece_golden(out_dir, name, lowercase, marks_beginnings):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokens = special + wordpiece_tokens(tokenizer.normalizer, tokenizer.pre_tokenizer)
    tokenizer.model = models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]",
                                       max_input_chars_per_word=100)
    tokenizer.add_special_tokens(special)
    tokenizer.encode_special_tokens = True
    if marks_beginnings:
        tokens = [t if t in special else t[2:] if t.startswith("##") and len(t) > 2 else "\u2581" + t for t in tokens]
    # What is unassigned depends on the version of Unicode, so U+10FFFF is no fair question.
    texts = [text for text in TEXTS if "\U0010ffff" not in text]
    write(out_dir / f"{name}.json", {
        "vocab": {"model": "bert", "tokens": tokens, "types": [2 if t == "[UNK]" else 3 if t in special else 1 for t in tokens],
                  "pad": 0, "unk": 1, "cls": 2, "sep": 3, "lowercase": lowercase},
        "cases": cases_of(lambda text: tokenizer.encode(text, add_special_tokens=False).ids, texts=texts)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="SentencePiece's test_model.model")
    parser.add_argument("out", nargs="?", default="tests/data/text")
    args = parser.parse_args()
    out_dir = pathlib.Path(args.out)
    out_dir.mkdir(parents=True, exist_ok=True)
    sentencepiece_golden(out_dir, "spm_bpe_bytes", "llama", model_type="bpe", vocab_size=700, byte_fallback=True,
                         normalization_rule_name="identity", remove_extra_whitespaces=False,
                         character_coverage=0.98)
    sentencepiece_golden(out_dir, "spm_bpe_unknown", "llama", RULES, model_type="bpe", vocab_size=500)
    sentencepiece_golden(out_dir, "unigram", "t5", RULES, model_type="unigram", vocab_size=400)
    sentencepiece_golden(out_dir, "unigram_bytes", "t5", model_type="unigram", vocab_size=600, byte_fallback=True,
                         normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
                         character_coverage=0.98)
    for pre in FAMILIES:
        byte_bpe_golden(out_dir, pre)
    wordpiece_golden(out_dir, "wordpiece_uncased", True, True)
    wordpiece_golden(out_dir, "wordpiece_cased", False, False)
    if args.model:
        processor = sentencepiece.SentencePieceProcessor(model_file=args.model)
        write(out_dir / "sentencepiece_test_model.json",
              {"cases": cases_of(processor.encode, processor.decode, bad_bytes=True)})


if __name__ == "__main__":
    main()
