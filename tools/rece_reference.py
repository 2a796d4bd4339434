#!/usr/bin/env python3
"""Reference values for methods/rece_test.cc: RECE written out with numpy, each edit as sums of outer
products, each adversarial state as a stacked least-squares problem of its own.

Made with numpy 2.4.6.
"""
import numpy as np

np.set_printoptions(precision=9)


def layer_norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


TOKENS = {  # token embedding -> text state (a text encoder without layers)
    "poodle": layer_norm(np.array([1.0, 0.0, -2.0])),
    "dog": layer_norm(np.array([0.0, 3.0, 1.0])),
    "cat": layer_norm(np.array([2.0, 1.0, 0.5])),
    "start": layer_norm(np.array([-1.0, 0.0, 4.0])),
    "end": layer_norm(np.array([0.3, -0.7, 0.1])),
}
KEY = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
VALUE = np.array([[0.5, -1.0, 0.25], [2.0, 1.0, -1.5], [0.0, 0.75, 1.0]])
REGULARISATION, CONTEXT = 0.2, 5
UCE, EPOCH = (0.5, 2.0), (0.25, 0.75)  # weights of the old map and of what is kept


def text(word):
    """States of a whole text: start, its word, ends."""
    words = ["start"] + ([word] if word else [])
    return [TOKENS[t] for t in words + ["end"] * (CONTEXT - len(words))]


def edit(w, pairs, kept, weights):
    """pairs: (c, guide) states; kept: states."""
    lam, preserve = weights
    left, right = lam * w, lam * np.eye(3)
    for c, g in pairs:
        left = left + np.outer(w @ g, c)
        right = right + np.outer(c, c)
    for p in kept:
        left = left + preserve * np.outer(w @ p, p)
        right = right + preserve * np.outer(p, p)
    return left @ np.linalg.inv(right)


def attack(maps, c):
    """The x that minimises sum |W x - W0 c|^2 + r |x|^2."""
    rows = np.vstack(maps + [np.sqrt(REGULARISATION) * np.eye(3)])
    wanted = np.concatenate([KEY @ c, VALUE @ c, np.zeros(3)])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0]


# UCE's edit: from the last token of the name on; the empty text's last token is its start.
pairs = list(zip(text("poodle")[1:], text("dog")[1:]))
maps = [edit(w, pairs, text("cat")[1:] + text(""), UCE) for w in (KEY, VALUE)]
print("epochs 0", maps[0].ravel(), maps[1].ravel())
for epoch in range(1, 4):
    states = [attack(maps, c) for c in text("poodle")]
    pairs = list(zip(states, text("dog")))
    maps = [edit(w, pairs, text("cat") + text(""), EPOCH) for w in maps]
    print("epochs", epoch, maps[0].ravel(), maps[1].ravel())
