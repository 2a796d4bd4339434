#!/usr/bin/env python3
"""Reference values for metrics/retrieval_test.cc: ranks by sorting, with numpy (2.x) alone.

Writes tests/fixtures/retrieval.json. Embeddings hold exact copies, so that ties occur. A rank is the
worst place that the paired item can have in a list sorted by falling cosine."""
import json
import pathlib

import numpy as np

N, D = 40, 6
rng = np.random.default_rng(5)
x = rng.normal(size=(N, 4, D))
x[:, 1] += x[:, 0]  # pictures resemble their captions
x[:, 3] += 1.5 * x[:, 2]
x[7, 1] = x[3, 1]  # the same picture twice
x[11, 0] = x[10, 0]  # the same caption twice
x[12, 3] = x[12, 1]  # a safe and an unsafe picture alike
x[20, 2] = x[21, 2] = x[22, 2]
x /= np.linalg.norm(x, axis=2, keepdims=True)
x = x.astype(np.float32).astype(np.float64)

T, I, TU, IU = range(4)
DIRECTIONS = {
    "T->I": (T, [I]), "I->T": (I, [T]),
    "T*->I+I*": (TU, [I, IU]), "I*->T+T*": (IU, [T, TU]),
    "T*->I*": (TU, [IU]), "I*->T*": (IU, [TU]),
    "T*->I*+I": (TU, [IU, I]), "I*->T*+T": (IU, [TU, T]),
}


def ranks(query, pools):
    """The paired item is that of the first pool."""
    places = []
    for i in range(N):
        items = [(round(float(x[i, query] @ x[j, pool]), 7), pool == pools[0] and j == i)
                 for pool in pools for j in range(N)]
        items.sort(key=lambda item: (-item[0], item[1]))  # among equals the paired one comes last
        places.append(1 + [mine for _, mine in items].index(True))
    return places


def safe_first(query, safe, unsafe):
    nearest = lambda i, pool: round(max(float(x[i, query] @ x[j, pool]) for j in range(N)), 7)
    return [nearest(i, safe) > nearest(i, unsafe) for i in range(N)]


out = {
    "embeddings": [[[float(v) for v in item] for item in row] for row in x],
    "ranks": {name: ranks(*spec) for name, spec in DIRECTIONS.items()},
    "safe_first": {"T*": safe_first(TU, I, IU), "I*": safe_first(IU, T, TU)},
}
path = pathlib.Path(__file__).parent.parent / "tests/fixtures/retrieval.json"
path.write_text(json.dumps(out) + "\n")
print(path, {name: sum(r == 1 for r in rank) for name, rank in out["ranks"].items()})
