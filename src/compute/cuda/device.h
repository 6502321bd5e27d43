// CudaDevice: guests' tensors on one card, where they lie in host memory (registered on first use, region_pin.h) or
// staged through the card's own memory. Memory that cannot be registered is staged through a pinned buffer.
//
// A card that fails (a launch, a kernel) fails this and all later operations with the same error; an operation for
// which there is no memory fails alone.
#pragma once

#include <memory>
#include <optional>

#include "compute/cuda/guest_kernels.h"
#include "compute/cuda/region_pin.h"
#include "compute/cuda/runtime.h"
#include "compute/device.h"

namespace driftwood::compute::cuda {

class CudaDevice final : public Device {
  public:
    // Precondition: available(). Measures the bus once, which takes some milliseconds.
    static Result<std::unique_ptr<CudaDevice>> create();

    std::string_view name() const override { return "cuda"; }
    const uint8_t* address(const memory::Region& region) const override;
    using Device::gemm;
    using Device::rows;
    Result<void> gemm(memory::Region& region, const Gemm& gemm, Path path) override;
    Result<void> rows(memory::Region& region, const Rows& rows, Path path) override;
    bool stages() const override { return true; }
    Choice choose(const Gemm& gemm) const override;
    Choice choose(const Rows& rows) const override;
    BusTraffic traffic() const override { return traffic_; }

    // gemm(), but returns as soon as the work is queued. The Region may be forked, remapped or ended at once: that
    // waits (memory::Pin). Memory that cannot be registered is waited for here.
    Result<void> start(memory::Region& region, const Gemm& gemm, Path path);
    double bus_gb_per_s() const { return bus_bytes_per_us_ * 1e-3; }

  private:
    // A matrix of an operation: rows of bytes in a Region, and where the card has them.
    struct Operand {
        uint64_t offset = 0, rows = 0, row_bytes = 0, pitch = 0;
        DeviceBytes* buffer = nullptr;  // for staging
        uint8_t* card = nullptr;
        uint64_t bytes() const { return rows * row_bytes; }
        uint64_t extent() const { return bytes() == 0 ? 0 : (rows - 1) * pitch + row_bytes; }
    };

    explicit CudaDevice(std::shared_ptr<const Stream> stream) : stream_(std::move(stream)) {}
    Result<void> measure_bus();
    Result<void> start(memory::Region& region, const Rows& rows, Path path);
    // What is done with an operation's own failure.
    Result<void> settled(Result<void> done);
    // Makes all operands reachable for kernels: in place, or by copies of those that are read. Whether in place.
    Result<bool> bring(memory::Region& region, std::span<Operand*> operands, std::span<Operand* const> read, Path path);
    Result<void> copy_in(const memory::Region& region, const Operand& operand, bool registered);
    Result<void> copy_out(memory::Region& region, const Operand& operand, bool registered);
    bool reach(memory::Region& region, std::span<Operand* const> operands);

    std::shared_ptr<const Stream> stream_;
    DeviceBytes a_, b_, c_;
    PinnedBytes bounce_;
    BusTraffic traffic_;
    double bus_bytes_per_us_ = 0.0;
    bool registered_ = false;  // the operands of the operation under way
    std::optional<Error> failure_;
};

}  // namespace driftwood::compute::cuda
