// Resizing of 8-bit pictures as Pillow does it, bit for bit: what published networks were measured
// with.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace excise {

enum class Resampling { kBilinear, kBicubic };  // antialiased; bicubic with a = -0.5

// uint8 (batch, channels, h, w) -> (batch, channels, height, width), in two passes, each rounded to
// 8 bits, with weights in 22-bit fixed point (src/libImaging/Resample.c). Columns come first, but
// rows where h - height is positive and more than 2 (w - width): Pillow 13.0.0 does so (found by
// trying sizes; earlier versions always begin with the columns).
at::Tensor ResizePictures(const at::Tensor& images, int64_t height, int64_t width,
                          Resampling resampling);

// The middle `size` x `size` of the picture whose shorter side was resized to `shorter`, as
// torchvision's Resize and CenterCrop have it: the longer side is rounded down, and half a pixel
// goes to the even number. shorter >= size.
at::Tensor ResizeAndCut(const at::Tensor& images, int64_t shorter, int64_t size,
                        Resampling resampling);

}  // namespace excise
