"""Writes tests/fixtures/sld.json: noise predictions of several steps, and what Safe Latent
Diffusion (arXiv 2211.05105) makes of them, element by element as the equations say.

  python tools/sld_reference.py tests/fixtures

`predictions` is [step][stream][picture][element], streams: empty prompt, prompt, safety concept.
Each case has its parameters, with warm-up in steps, and `combined`, [step][picture][element].
Differences of the last two streams go from 1e-5 to 1 in size and have both signs, so that every
case has elements on both sides of its threshold, and with and without clipping; the script checks
that.

Made with numpy 2.4.6, in double precision.
"""

import json
import pathlib
import sys

import numpy as np

STEPS, PICTURES, ELEMENTS, GUIDANCE = 6, 2, 8, 7.5

# s_S, delta, lambda, s_m, beta_m. The published warm-ups of 15, 10, 7 and 0 of 50 steps are 2, 1, 1
# and 0 of 6.
CASES = {
    "weak": (20, 2, 0.0, 0.0, 0.0),
    "medium": (1000, 1, 0.01, 0.3, 0.4),
    "strong": (2000, 1, 0.025, 0.5, 0.7),
    "max": (5000, 0, 1.0, 0.5, 0.7),
    "long_warmup": (3, 4, 0.1, 0.9, 0.2),
}


def element(empty, prompt, concept, scale, delta, threshold, momentum, beta, seen):
    """One element of one picture, all steps."""
    nu, combined = 0.0, []
    for i in range(STEPS):
        phi = scale * (prompt[i] - concept[i])
        if prompt[i] - concept[i] < threshold:
            mu = abs(phi) if abs(phi) < 1 else 1.0
            seen.add("clipped" if mu == 1 else "unclipped")
        else:
            mu = 0.0
            seen.add("let be")
        gamma = mu * (concept[i] - empty[i]) + momentum * nu
        nu = beta * nu + (1 - beta) * gamma
        text = prompt[i] - empty[i]
        combined.append(empty[i] + GUIDANCE * (text - gamma if i >= delta else text))
    return combined


def main():
    rng = np.random.default_rng(2211)
    shape = (STEPS, PICTURES, ELEMENTS)
    empty, prompt = rng.normal(size=shape), rng.normal(size=shape)
    size = 10.0 ** rng.uniform(-5, 0, size=shape)
    concept = prompt - size * rng.choice([-1, 1], size=shape)
    predictions = np.round(np.stack([empty, prompt, concept], axis=1), 7)
    empty, prompt, concept = (predictions[:, i] for i in range(3))
    cases = []
    for name, parameters in CASES.items():
        seen, combined = set(), np.empty(shape)
        for p in range(PICTURES):
            for e in range(ELEMENTS):
                combined[:, p, e] = element(empty[:, p, e], prompt[:, p, e], concept[:, p, e],
                                            *parameters, seen)
        wanted = {"clipped", "unclipped", "let be"} - ({"let be"} if name == "max" else set())
        assert wanted <= seen, (name, seen)
        keys = ("scale", "delta", "threshold", "momentum", "beta")
        cases.append({"name": name, **dict(zip(keys, parameters)), "combined": combined.tolist()})
    out = {"guidance": GUIDANCE, "predictions": predictions.tolist(), "cases": cases}
    path = pathlib.Path(sys.argv[1]) / "sld.json"
    path.write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
