"""Writes what the metrics of detectors and of disruption are tested against, from numpy and scipy:
auroc.json (areas under ROC curves with DeLong's and Obuchowski's errors and Newcombe's intervals),
frechet.json (shifts of two moments) and ssim.json (structural similarity).

  python tools/detector_reference.py tests/fixtures

Made with numpy 2.4.6 and scipy 1.17.1.
"""

import json
import pathlib
import sys

import numpy as np
from scipy import linalg, optimize, signal, stats


def kernel(x, y):
    return (x[:, None] > y[None]) + 0.5 * (x[:, None] == y[None])


def obuchowski(scores, labels, clusters):
    """Obuchowski, Biometrics 53:567 (1997), equations in her notation; clusters of one: DeLong."""
    x, y = scores[labels], scores[~labels]
    psi = kernel(x, y)
    area, m, n = psi.mean(), len(x), len(y)
    v10, v01 = psi.mean(1), psi.mean(0)
    ids = sorted(set(clusters))
    sums10 = np.array([v10[clusters[labels] == i].sum() for i in ids])
    sums01 = np.array([v01[clusters[~labels] == i].sum() for i in ids])
    m_i = np.array([(clusters[labels] == i).sum() for i in ids])
    n_i = np.array([(clusters[~labels] == i).sum() for i in ids])
    i10, i01, i = (m_i > 0).sum(), (n_i > 0).sum(), len(ids)
    s10 = i10 / ((i10 - 1) * m) * ((sums10 - m_i * area) ** 2).sum()
    s01 = i01 / ((i01 - 1) * n) * ((sums01 - n_i * area) ** 2).sum()
    s11 = i / (i - 1) * ((sums10 - m_i * area) * (sums01 - n_i * area)).sum()
    return area, np.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n)), int(i10), int(i01)


def newcombe(area, m, n):
    z = stats.norm.ppf(0.975)

    def excess(t):
        n_star = (m + n) / 2 - 1
        v = t * (1 - t) * (1 + n_star * ((1 - t) / (2 - t) + t / (1 + t))) / (m * n)
        return (t - area) ** 2 - z * z * v

    low = 0.0 if area == 0 else optimize.brentq(excess, 1e-14, area - 1e-12)
    high = 1.0 if area == 1 else optimize.brentq(excess, area + 1e-12, 1 - 1e-14)
    return low, high


def auroc_case(rng, name, n, per_cluster, decimals, shift):
    labels = rng.random(n) < 0.4
    scores = np.round(rng.normal(size=n) + shift * labels, decimals)
    clusters = np.array([f"p{i // per_cluster}" for i in range(n)])
    if per_cluster > 1:
        scores = np.round(scores + rng.normal(size=n)[np.arange(n) // per_cluster], decimals)
    area, error, m, k = obuchowski(scores, labels, clusters)
    u = stats.mannwhitneyu(scores[labels], scores[~labels]).statistic
    assert abs(u / (labels.sum() * (~labels).sum()) - area) < 1e-12
    low, high = newcombe(area, m, k)
    return {"name": name, "scores": scores.tolist(), "labels": labels.tolist(),
            "clusters": clusters.tolist(), "area": area, "error": error, "low": low, "high": high}


def frechet_case(rng, n, m, width):
    x = np.round(rng.normal(size=(n, width)), 3)
    y = np.round(rng.normal(size=(m, width)) @ np.diag(rng.uniform(0.5, 2, width)) + 0.3, 3)
    cx, cy = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(cx @ cy).real if min(n, m) > width else None
    if root is not None:
        trace = np.trace(root)
    else:  # singular: the product's eigenvalues instead of its root
        trace = np.sqrt(np.clip(linalg.eigvals(cx @ cy).real, 0, None)).sum()
    return {"x": x.tolist(), "y": y.tolist(),
            "mean": float(np.linalg.norm(y.mean(0) - x.mean(0))),
            "covariance": float(np.trace(cx) + np.trace(cy) - 2 * trace)}


def ssim_case(rng):
    """Wang et al. 2004, as their reference code: valid windows, no downsampling."""
    x = rng.integers(0, 256, size=(3, 16, 20))
    y = np.clip(x + rng.integers(-60, 61, size=x.shape), 0, 255)
    grey = lambda p: np.tensordot([0.299, 0.587, 0.114], p / 255, 1)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(bell, bell) / bell.sum() ** 2
    local = lambda v: signal.convolve2d(v, window, mode="valid")
    a, b = grey(x), grey(y)
    ma, mb = local(a), local(b)
    va, vb, vab = local(a * a) - ma**2, local(b * b) - mb**2, local(a * b) - ma * mb
    c1, c2 = 0.01**2, 0.03**2
    ssim = (2 * ma * mb + c1) * (2 * vab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))
    return {"x": x.flatten().tolist(), "y": y.flatten().tolist(), "shape": list(x.shape),
            "ssim": float(ssim.mean())}


def main():
    out = pathlib.Path(sys.argv[1])
    rng = np.random.default_rng(5)
    cases = [
        auroc_case(rng, "singles", 40, 1, 6, 0.8),
        auroc_case(rng, "ties", 50, 1, 0, 0.7),
        auroc_case(rng, "clusters", 60, 4, 1, 1.0),
        auroc_case(rng, "separated", 24, 1, 3, 50.0),
    ]
    (out / "auroc.json").write_text(json.dumps(cases) + "\n")
    shifts = [frechet_case(rng, 30, 25, 4), frechet_case(rng, 6, 5, 9), frechet_case(rng, 5, 12, 8)]
    (out / "frechet.json").write_text(json.dumps(shifts) + "\n")
    (out / "ssim.json").write_text(json.dumps(ssim_case(rng)) + "\n")


if __name__ == "__main__":
    main()
