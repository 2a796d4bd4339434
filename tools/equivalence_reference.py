#!/usr/bin/env python3
"""Prints the intervals of core/stats_test.cc for paired rates by Tango's score test, from its definition
alone: for a difference that is held fixed, the likelihood of the two discordant cells is maximised by
searching, the score statistic is the one seen less the one held, over its standard error under those
rates, and a limit is where the statistic is a normal quantile. No closed form is used.

With --size it draws tables whose rates differ by exactly the margin and prints how often either interval
(Tango's, and Newcombe's method 10) would call them equivalent: what two one-sided tests at 5 % may do in
5 % of all cases.

Made with Python 3.11.7, its standard library alone.
Usage: tools/equivalence_reference.py [--size]
"""
import math
import random
import sys
from statistics import NormalDist

CASES = [(1, 1, 7, 12, 0.95), (43, 0, 1, 0, 0.90), (0, 0, 0, 120, 0.90), (6, 0, 2, 112, 0.90),
         (36, 12, 2, 0, 0.90), (30, 17, 5, 948, 0.90), (5, 9, 0, 31, 0.90)]
MARGIN = 0.05


def log(x):
    return math.log(x) if x > 0 else -math.inf


def most_likely(first, second, n, d):
    """The share of pairs where the second alone succeeds, if first - second is d."""
    def likelihood(q):
        rest = 1 - 2 * q - d
        terms = [(first, q + d), (second, q), (n - first - second, rest)]
        return sum(k * log(p) for k, p in terms if k > 0)

    low, high = max(0.0, -d), (1 - d) / 2
    for _ in range(200):  # the logarithm of the likelihood is concave: thirds
        a, b = low + (high - low) / 3, high - (high - low) / 3
        if likelihood(a) < likelihood(b):
            low = a
        else:
            high = b
    return (low + high) / 2


def score(first, second, n, d):
    q = most_likely(first, second, n, d)
    variance = (2 * q + d - d * d) / n
    return ((first - second) / n - d) / math.sqrt(variance)


def tango(first, second, n, confidence):
    z = NormalDist().inv_cdf(0.5 + confidence / 2)

    def where(value, low, high):
        for _ in range(60):
            middle = (low + high) / 2
            if score(first, second, n, middle) > value:
                low = middle
            else:
                high = middle
        return middle

    seen = (first - second) / n
    return where(z, -1 + 1e-12, seen - 1e-12), where(-z, seen + 1e-12, 1 - 1e-12)


def newcombe(both, first, second, neither, confidence):
    z, n = NormalDist().inv_cdf(0.5 + confidence / 2), both + first + second + neither

    def wilson(k):
        half = z * math.sqrt(k * (n - k) / n + z * z / 4)
        return (k + z * z / 2 - half) / (n + z * z), (k + z * z / 2 + half) / (n + z * z)

    a, b = wilson(both + first), wilson(both + second)
    p, q = (both + first) / n, (both + second) / n
    cross = both * neither - first * second
    if cross > 0:
        cross = max(cross - n / 2, 0)
    scale = math.sqrt((both + first) * (second + neither) * (both + second) * (first + neither))
    phi = cross / scale if scale else 0

    def length(x, y):
        return math.sqrt(max(x * x - 2 * phi * x * y + y * y, 0))

    return p - q - length(p - a[0], b[1] - q), p - q + length(a[1] - p, q - b[0])


def print_sizes():
    random.seed(1)

    z = NormalDist().inv_cdf(0.95)

    def tango_says(cells):
        _, first, second, _ = cells
        scores = [score(first, second, sum(cells), d) for d in (-MARGIN, MARGIN)]
        return scores[0] > z and scores[1] < -z

    def newcombe_says(cells):
        low, high = newcombe(*cells, 0.9)
        return -MARGIN < low and high < MARGIN

    for n in (52, 120, 300):
        for second in (0, 0.01, 0.03):
            for agree in (0, 0.5):  # how many of the pairs that agree are successes
                rest = 1 - MARGIN - 2 * second
                shares = (rest * agree, MARGIN + second, second, rest * (1 - agree))
                called, known = [0, 0], {}
                for _ in range(2000):
                    drawn = random.choices(range(4), shares, k=n)
                    cells = tuple(drawn.count(i) for i in range(4))
                    if cells not in known:
                        known[cells] = (tango_says(cells), newcombe_says(cells))
                    called = [c + k for c, k in zip(called, known[cells])]
                print(f"n {n}, {second + MARGIN:.2f} against {second:.2f}, {agree} of the rest: "
                      f"Tango {called[0] / 2000:.3f}, Newcombe {called[1] / 2000:.3f}", flush=True)


if "--size" in sys.argv:
    print_sizes()
else:
    for both, first, second, neither, confidence in CASES:
        low, high = tango(first, second, both + first + second + neither, confidence)
        print(f"{{{{{both}, {first}, {second}, {neither}}}, {confidence}, {low:.9f}, {high:.9f}}},")
