"""Random Unicode through Excise's `tokenize` and transformers' CLIPTokenizer: ids must be equal.

Texts are drawn from every plane (unassigned and private code points too), with weight on what breaks
tokenizers: combining marks, emoji joined by zero-width joiners, bidirectional controls, all kinds of
space, case pairs that change length, Hangul, digits of other scripts, special tokens in the text, and
CLIP's own tokens. Prints each difference and exits 1 if there is one. Ill-formed UTF-8, which a
Python string cannot hold, is sent as bytes: it must give what the same bytes give with every
malformed part replaced by U+FFFD.

Both sides carry tables of Unicode, of different versions (ICU's here; two different ones in
transformers' library), so that first every code point is tried alone: those on which the tables
disagree are listed, and not drawn.

    bazel build -c opt //models:tokenize
    python tools/compare_tokenizer.py --tokenizer=DIR_WITH_vocab.json_AND_merges.txt --n=100000

For developers; needs transformers (made with 5.23.0).
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = pathlib.Path(__file__).resolve().parent.parent

RANGES = {
    "ascii": [(0x20, 0x7E)],
    "latin": [(0xA0, 0x24F), (0x1E00, 0x1EFF)],
    "greek_cyrillic": [(0x370, 0x52F)],
    "semitic": [(0x590, 0x7FF)],
    "indic": [(0x900, 0xDFF)],
    "asian": [(0x3040, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1100, 0x11FF)],
    "marks": [(0x300, 0x36F), (0x1AB0, 0x1AFF), (0x20D0, 0x20FF), (0xFE00, 0xFE0F)],
    "format": [(0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0xFEFF, 0xFEFF), (0xAD, 0xAD)],
    "space": [(0x9, 0x9), (0xB, 0xD), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680),
              (0x180E, 0x180E), (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F),
              (0x205F, 0x205F), (0x3000, 0x3000)],
    "control": [(0x1, 0x9), (0xB, 0x1F), (0x7F, 0x9F)],
    "numbers": [(0x660, 0x669), (0x966, 0x96F), (0xB2, 0xB9), (0x2150, 0x218B), (0x2460, 0x249B),
                (0x1D7CE, 0x1D7FF), (0x10107, 0x10133)],
    "case": [(0x130, 0x131), (0x1C4, 0x1CC), (0xDF, 0xDF), (0x1E9E, 0x1E9E), (0x3A3, 0x3C3),
             (0x10A0, 0x10FF), (0x13A0, 0x13FF), (0x1C80, 0x1CBF), (0x2C00, 0x2CFF), (0xA640, 0xA69F),
             (0x10400, 0x1044F), (0x118A0, 0x118DF), (0x1E900, 0x1E943), (0x212A, 0x212B)],
    "compatibility": [(0xFB00, 0xFB4F), (0xFF01, 0xFFEE), (0xF900, 0xFAFF), (0x2F800, 0x2FA1D)],
    "emoji": [(0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF)],
    "any": [(0x1, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)],
    "supplementary": [(0x10000, 0x1FFFF), (0x20000, 0x323AF), (0xE0000, 0xE01EF), (0xF0000, 0x10FFFF)],
}
SNIPPETS = [
    "<|startoftext|>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|endoftext|", "'s", "'t", "'re", "'ve",
    "'m", "'ll", "'d", "'S", "\u2019s", "!!!", "...", "  ", "&amp;", "\u00e9", "e\u0301", "\u1100\u1161",
    "\U0001F469\u200d\U0001F680", "\U0001F44D\U0001F3FD", "\u2764\ufe0f", "A\u030a", "\u212b", "\u0130",
]  # fmt: skip


def code_point(rng, kind, disputed):
    while True:
        low, high = rng.choice(RANGES[kind])
        value = rng.randint(low, high)
        if value not in disputed:
            return chr(value)


def draw(rng, words, disputed):
    pieces = []
    kinds = rng.sample(sorted(RANGES), rng.randint(1, 4))
    for _ in range(rng.randint(0, 24)):
        choice = rng.random()
        if choice < 0.1:
            pieces.append(rng.choice(SNIPPETS))
        elif choice < 0.25:
            pieces.append(rng.choice(words) + rng.choice(["", " "]))
        else:
            pieces.append(code_point(rng, rng.choice(kinds), disputed))
    return "".join(pieces).replace("\n", " ")  # a line is a text


def ill_formed(rng, text):
    """Bytes with cut sequences, stray continuations, overlong forms and surrogates."""
    data = bytearray(text.encode())
    for _ in range(rng.randint(1, 4)):
        bad = rng.choice(
            [b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc0\xaf", b"\xed\xa0\x80", b"\xff"]
        )
        at = rng.randint(0, len(data))
        data[at:at] = bad
    return bytes(data).replace(b"\n", b" ")


def ours(args, lines):
    command = [str(args.tokenize), f"--model={args.tokenizer}"]
    with tempfile.TemporaryFile() as stdin:
        stdin.write(b"".join(line + b"\n" for line in lines))
        stdin.seek(0)
        out = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, check=True).stdout
    ids = [json.loads(line) for line in out.decode().splitlines()]
    if len(ids) != len(lines):
        raise SystemExit(f"{len(lines)} lines went in, {len(ids)} came out")
    return ids


def theirs(tokenizer, texts):
    ids = []
    for start in range(0, len(texts), 1000):
        ids += tokenizer(texts[start : start + 1000])["input_ids"]
    return ids


def disputed_code_points(args, tokenizer):
    """Where the two sides' tables of Unicode differ: as a letter or number, by case and
    composition (between letters), or by the order of combining marks (after one of class 240)."""
    # Beyond these, no version of Unicode has assigned anything but private use.
    values = [*range(1, 0xD800), *range(0xF900, 0x34000), *range(0xE0000, 0xE0200)]
    values.remove(0xA)
    disputed = set()
    for start in range(0, len(values), 100000):
        part = values[start : start + 100000]
        for pattern in ("a{}b", "a\u0345{}"):
            texts = [pattern.format(chr(value)) for value in part]
            pairs = zip(part, ours(args, [t.encode() for t in texts]), theirs(tokenizer, texts))
            disputed.update(value for value, a, b in pairs if a != b)
    return disputed


def ranges(values):
    words, ordered = [], sorted(values)
    for i, value in enumerate(ordered):
        if i == 0 or value != ordered[i - 1] + 1:
            words.append([value, value])
        words[-1][1] = value
    return ", ".join(f"{a:X}" if a == b else f"{a:X}-{b:X}" for a, b in words)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--tokenize", type=pathlib.Path, default=ROOT / "bazel-bin/models/tokenize")
    parser.add_argument("--n", type=int, default=100000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=10)
    args = parser.parse_args()
    import transformers

    tokenizer = transformers.CLIPTokenizer(
        str(args.tokenizer / "vocab.json"), str(args.tokenizer / "merges.txt")
    )
    rng = random.Random(args.seed)
    vocabulary = json.loads((args.tokenizer / "vocab.json").read_text())
    words = [word.removesuffix("</w>") for word in vocabulary if word.isascii()]
    disputed = disputed_code_points(args, tokenizer)
    print(f"{len(disputed)} code points on which tables of Unicode disagree: {ranges(disputed)}")
    texts = [draw(rng, words, disputed) for _ in range(args.n)]
    found = ours(args, [text.encode() for text in texts])
    expected = theirs(tokenizer, texts)
    wrong = [i for i in range(len(texts)) if found[i] != expected[i]]
    for i in wrong[: args.show]:
        print(f"{texts[i]!r} ({' '.join(f'{ord(c):X}' for c in texts[i])})")
        print(f"  Excise       {found[i]}\n  transformers {expected[i]}")

    broken = [ill_formed(rng, text) for text in texts[: args.n // 20]]
    mended = [data.decode(errors="replace").encode() for data in broken]
    odd = [i for i, (a, b) in enumerate(zip(ours(args, broken), ours(args, mended))) if a != b]
    for i in odd[: args.show]:
        print(f"ill-formed {broken[i]!r}")
    print(
        f"{len(texts)} texts, {sum(map(len, expected))} tokens: {len(wrong)} differ from "
        f"transformers {transformers.__version__}; {len(broken)} ill-formed texts: {len(odd)} differ "
        f"from the same with U+FFFD (seed {args.seed})."
    )
    sys.exit(1 if wrong or odd else 0)


if __name__ == "__main__":
    main()
