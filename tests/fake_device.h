// A device that is none: LibTorch's PrivateUse1 with its storage in host memory and every operator
// computed by the CPU. It finds on any machine what only a GPU would find otherwise:
//  - an operator that gets a tensor of the device and one of the CPU throws, as on CUDA (tensors
//    without dimensions excepted);
//  - a device tensor's address is no address: who reads it through data_ptr() ends by a signal.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace excise {

// The device, which is there once this library is linked.
inline at::Device FakeDevice() { return {at::kPrivateUse1, 0}; }

// Operators that the CPU computed for the device so far.
int64_t FakeDeviceOperations();

}  // namespace excise
