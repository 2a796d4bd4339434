#!/usr/bin/env python3
"""Reference values for methods/uce_test.cc: the paper's formula, written out with numpy."""
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
W0 = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]])
LAMBDA, ERASE, PRESERVE, CONTEXT = 0.5, 1.5, 2.0, 5


def uce(pairs, kept):
    """pairs: (c, guide) states; kept: states."""
    left = LAMBDA * W0
    right = LAMBDA * np.eye(3)
    for c, g in pairs:
        left = left + ERASE * np.outer(W0 @ g, c)
        right = right + ERASE * np.outer(c, c)
    for p in kept:
        left = left + PRESERVE * np.outer(W0 @ p, p)
        right = right + PRESERVE * np.outer(p, p)
    return left @ np.linalg.inv(right)


t = TOKENS
print("last_token", uce([(t["poodle"], t["dog"])], [t["cat"]]).ravel())
# All tokens: start, word, end, end, end: from the word on. The empty prompt: start and four ends.
ends = [t["end"]] * (CONTEXT - 2)
pairs = list(zip([t["poodle"]] + ends, [t["dog"]] + ends))
kept = [t["cat"]] + ends + [t["start"]] + [t["end"]] * (CONTEXT - 1)
print("all_tokens", uce(pairs, kept).ravel())
