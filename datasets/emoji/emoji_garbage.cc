#include "datasets/emoji/emoji_garbage.h"

#include <algorithm>
#include <cmath>

namespace excise {
namespace {

float Clip(float v) { return std::clamp(v, 0.f, 255.f); }

// Smooth noise: a coarse grid of normal values, bilinearly enlarged. `cell` is its pitch in pixels.
std::vector<float> SmoothField(Philox& rng, int cell, float spread) {
  const int side = kSceneSize / cell + 2;
  std::vector<float> grid(static_cast<size_t>(side) * side);
  for (float& v : grid) v = spread * static_cast<float>(rng.Normal());
  std::vector<float> field(kPixels);
  for (int y = 0; y < kSceneSize; ++y) {
    for (int x = 0; x < kSceneSize; ++x) {
      const float fy = static_cast<float>(y) / cell, fx = static_cast<float>(x) / cell;
      const int iy = y / cell, ix = x / cell;
      const float ty = fy - iy, tx = fx - ix;
      const float* g = grid.data() + static_cast<size_t>(iy) * side + ix;
      field[static_cast<size_t>(y) * kSceneSize + x] =
          (1 - ty) * ((1 - tx) * g[0] + tx * g[1]) + ty * ((1 - tx) * g[side] + tx * g[side + 1]);
    }
  }
  return field;
}

FloatImage SmoothNoise(Philox& rng, int cell, float spread) {
  FloatImage image;
  for (int c = 0; c < 3; ++c) {
    const float mean = static_cast<float>(rng.Uniform(50, 205));
    for (const float v : SmoothField(rng, cell, spread)) image.push_back(Clip(mean + v));
  }
  return image;
}

FloatImage Noise(Philox& rng) {
  const uint64_t kind = rng.Below(3);
  if (kind == 0)
    return SmoothNoise(rng, 4 << rng.Below(3), static_cast<float>(rng.Uniform(30, 90)));
  FloatImage image(3 * kPixels);
  if (kind == 1) {
    for (float& v : image) v = static_cast<float>(rng.NextU32() >> 24);
    return image;
  }
  const float spread = static_cast<float>(rng.Uniform(20, 90));
  for (int c = 0; c < 3; ++c) {
    const float mean = static_cast<float>(rng.Uniform(20, 235));
    for (int i = 0; i < kPixels; ++i) {
      image[static_cast<size_t>(c) * kPixels + i] =
          Clip(mean + spread * static_cast<float>(rng.Normal()));
    }
  }
  return image;
}

FloatImage Flat(Philox& rng) {
  FloatImage image(3 * kPixels);
  const float slope = rng.Below(2) == 0 ? 0.f : 2.5f;
  for (int c = 0; c < 3; ++c) {
    const float mean = static_cast<float>(rng.Uniform(10, 245));
    const float dx = slope * static_cast<float>(rng.Uniform(-1, 1));
    const float dy = slope * static_cast<float>(rng.Uniform(-1, 1));
    for (int i = 0; i < kPixels; ++i) {
      const float x = static_cast<float>(i % kSceneSize - kSceneSize / 2);
      const float y = static_cast<float>(i / kSceneSize - kSceneSize / 2);
      image[static_cast<size_t>(c) * kPixels + i] = Clip(mean + dx * x + dy * y);
    }
  }
  return image;
}

// A picture less each channel's mean, and how much is left of it.
struct Centred {
  FloatImage values;
  double norm = 1;
};

Centred Centre(FloatImage image) {
  double squares = 0;
  for (int c = 0; c < 3; ++c) {
    float* plane = image.data() + static_cast<size_t>(c) * kPixels;
    double sum = 0;
    for (int i = 0; i < kPixels; ++i) sum += plane[i];
    for (int i = 0; i < kPixels; ++i) {
      plane[i] -= static_cast<float>(sum / kPixels);
      squares += static_cast<double>(plane[i]) * plane[i];
    }
  }
  return {std::move(image), std::sqrt(std::max(squares, 1.0))};
}

double Correlation(const Centred& a, const Centred& b) {
  double sum = 0;
  for (size_t i = 0; i < a.values.size(); ++i) {
    sum += static_cast<double>(a.values[i]) * b.values[i];
  }
  return sum / (a.norm * b.norm);
}

// Weights are the inverse of the contrast: in a plain average the picture with the stronger
// contrast would still be recognised. A blend that is still like one of its scenes is made anew.
FloatImage Blend(Philox& rng, const std::function<FloatImage()>& draw) {
  constexpr double kMostAlike = .78;  // two unlike scenes correlate with their blend by .71
  constexpr int kTries = 8;
  const int parts = 2 + static_cast<int>(rng.Below(2));
  FloatImage image;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    std::vector<FloatImage> scenes;
    std::vector<Centred> centred;
    double total = 0;
    for (int k = 0; k < parts; ++k) {
      scenes.push_back(draw());
      centred.push_back(Centre(scenes.back()));
      total += 1 / centred.back().norm;
    }
    image.assign(3 * kPixels, 0.f);
    for (int k = 0; k < parts; ++k) {
      const auto weight = static_cast<float>(1 / (centred[k].norm * total));
      for (size_t i = 0; i < image.size(); ++i) image[i] += weight * scenes[k][i];
    }
    const Centred blend = Centre(image);
    double most = 0;
    for (const Centred& one : centred) most = std::max(most, Correlation(blend, one));
    if (most < kMostAlike) break;
  }
  Blur(image, 1 + static_cast<int>(rng.Below(3)));
  return image;
}

FloatImage Scramble(Philox& rng, const std::function<FloatImage()>& draw) {
  const int patch = rng.Below(2) == 0 ? 8 : 16;
  const int side = kSceneSize / patch;
  const FloatImage first = draw();
  const FloatImage second = patch == 16 || rng.Below(2) == 0 ? draw() : first;
  const std::vector<int64_t> order = rng.Permutation(static_cast<int64_t>(side) * side);
  FloatImage image(3 * kPixels);
  for (int p = 0; p < side * side; ++p) {
    const int from = static_cast<int>(order[p]);
    const FloatImage& source = from % 2 == 0 ? first : second;
    for (int c = 0; c < 3; ++c) {
      for (int y = 0; y < patch; ++y) {
        const size_t to_row =
            static_cast<size_t>(c) * kPixels + (p / side * patch + y) * kSceneSize;
        const size_t row =
            static_cast<size_t>(c) * kPixels + (from / side * patch + y) * kSceneSize;
        std::copy_n(source.begin() + static_cast<ptrdiff_t>(row) + from % side * patch, patch,
                    image.begin() + static_cast<ptrdiff_t>(to_row) + p % side * patch);
      }
    }
  }
  return image;
}

FloatImage HalfNoise(Philox& rng, const std::function<FloatImage()>& draw) {
  const FloatImage scene = draw();
  const float share = static_cast<float>(rng.Uniform(.06, .22));
  const FloatImage noise =
      SmoothNoise(rng, 4 << rng.Below(2), static_cast<float>(rng.Uniform(40, 80)));
  const float grain = static_cast<float>(rng.Uniform(0, 40));
  FloatImage image(3 * kPixels);
  for (size_t i = 0; i < image.size(); ++i) {
    image[i] =
        Clip(share * scene[i] + (1 - share) * noise[i] + grain * static_cast<float>(rng.Normal()));
  }
  return image;
}

FloatImage Blob(Philox& rng, const std::function<FloatImage()>& draw) {
  FloatImage image = draw();
  Blur(image, 6 + static_cast<int>(rng.Below(5)));
  const int cell = 8;
  for (int c = 0; c < 3; ++c) {
    const std::vector<float> field = SmoothField(rng, cell, static_cast<float>(rng.Uniform(0, 14)));
    for (int i = 0; i < kPixels; ++i) {
      float& v = image[static_cast<size_t>(c) * kPixels + i];
      v = Clip(v + field[i]);
    }
  }
  return image;
}

FloatImage Warp(Philox& rng, const std::function<FloatImage()>& draw) {
  const FloatImage scene = draw();
  const float reach = static_cast<float>(rng.Uniform(14, 20));
  const std::vector<float> dx = SmoothField(rng, 8, reach), dy = SmoothField(rng, 8, reach);
  FloatImage image(3 * kPixels);
  for (int i = 0; i < kPixels; ++i) {
    const int x = std::clamp(i % kSceneSize + static_cast<int>(dx[i]), 0, kSceneSize - 1);
    const int y = std::clamp(i / kSceneSize + static_cast<int>(dy[i]), 0, kSceneSize - 1);
    for (int c = 0; c < 3; ++c) {
      const size_t plane = static_cast<size_t>(c) * kPixels;
      image[plane + i] = scene[plane + static_cast<size_t>(y) * kSceneSize + x];
    }
  }
  Blur(image, 1);
  return image;
}

}  // namespace

FloatImage DrawGarbage(GarbageKind kind, Philox& rng, const std::function<FloatImage()>& draw) {
  switch (kind) {
    case GarbageKind::kNoise:
      return Noise(rng);
    case GarbageKind::kFlat:
      return Flat(rng);
    case GarbageKind::kBlend:
      return Blend(rng, draw);
    case GarbageKind::kScramble:
      return Scramble(rng, draw);
    case GarbageKind::kHalfNoise:
      return HalfNoise(rng, draw);
    case GarbageKind::kBlob:
      return Blob(rng, draw);
    default:
      return Warp(rng, draw);
  }
}

}  // namespace excise
