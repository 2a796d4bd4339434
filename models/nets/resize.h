// Resizing of 8-bit pictures as Pillow and OpenCV do it, bit for bit: what published networks were
// measured with.
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

// The same, bicubic, in floats that are not rounded: columns, then rows, each result a float32 (as
// Pillow's mode "F").
at::Tensor ResizeUnrounded(const at::Tensor& images, int64_t height, int64_t width);

// The middle `size` x `size` of the picture whose shorter side was resized to `shorter`, as
// torchvision's Resize and CenterCrop have it: the longer side is rounded down, and half a pixel
// goes to the even number. shorter >= size.
at::Tensor ResizeAndCut(const at::Tensor& images, int64_t shorter, int64_t size,
                        Resampling resampling);

// uint8 (batch, channels, h, w) -> (batch, channels, height, width) as OpenCV's default does it:
// between the two nearest rows and columns with weights in 11-bit fixed point, not antialiased;
// exact halves are means of 2 x 2 (OpenCV 4.11, modules/imgproc/src/resize.cpp).
at::Tensor ResizeAsOpenCv(const at::Tensor& images, int64_t height, int64_t width);

}  // namespace excise
