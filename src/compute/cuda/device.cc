#include "compute/cuda/device.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "compute/cuda/cuda.h"

namespace driftwood::compute::cuda {

namespace {

constexpr size_t kBusProbeBytes = size_t{16} << 20;
// Measured on an H200. Staging means three launches more, and no overlap between copying and computing. In place, each
// step along k waits for the bus.
constexpr double kStagingUs = 14.0;
constexpr double kStepUs = 4.0;
constexpr double kFlopsPerUs = 25e6;
constexpr uint64_t kFewBlocks = 16;  // of threads: below, a smaller tile keeps more of the card busy

uint64_t bytes_of(ElementType type) { return type == ElementType::kF32 ? sizeof(float) : sizeof(uint16_t); }
uint64_t tiles(uint32_t length, uint32_t tile) { return (uint64_t{length} + tile - 1) / tile; }
uint64_t blocks(const Gemm& g, uint32_t tile) { return tiles(g.m, tile) * tiles(g.n, tile); }

// In place, each tile's operands cross the bus again, so tiles are large; in the card's memory there are many of them.
uint32_t tile_of(const Gemm& g, Path path) {
    const uint64_t enough = path == Path::kInPlace ? kFewBlocks : uint64_t{6} * kFewBlocks;
    if (blocks(g, 128) >= enough) return 128;
    return path == Path::kInPlace || blocks(g, 64) >= enough ? 64 : 32;
}

struct Asked {
    uint64_t to_device, from_device;
    uint64_t all() const { return to_device + from_device; }
};
Asked asked(const Gemm& g, Path path) {
    const uint64_t a = uint64_t{g.m} * g.k * bytes_of(g.a_type), b = uint64_t{g.k} * g.n * bytes_of(g.b_type);
    const uint64_t c = uint64_t{g.m} * g.n * bytes_of(g.c_type);
    const uint32_t tile = tile_of(g, path);
    const uint64_t again_a = path == Path::kInPlace ? tiles(g.n, tile) : 1;
    const uint64_t again_b = path == Path::kInPlace ? tiles(g.m, tile) : 1;
    return {a * again_a + b * again_b + (g.accumulate ? c : 0), c};
}

std::string megabytes(uint64_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g MB", static_cast<double>(bytes) * 1e-6);
    return text;
}

}  // namespace

Result<std::unique_ptr<Device>> make_device() {
    DW_ASSIGN(auto device, CudaDevice::create());
    return std::unique_ptr<Device>(std::move(device));
}

Result<std::unique_ptr<CudaDevice>> CudaDevice::create() {
    DW_ASSIGN(Stream stream, Stream::create());
    std::unique_ptr<CudaDevice> device(new CudaDevice(std::make_shared<const Stream>(std::move(stream))));
    DW_TRY(device->measure_bus());
    return device;
}

// By a kernel that reads pinned memory, as in place and staging both do.
Result<void> CudaDevice::measure_bus() {
    PinnedBytes host;
    DW_TRY(host.hold(kBusProbeBytes));
    DW_TRY(a_.hold(kBusProbeBytes));
    std::memset(host.as<void>(), 1, kBusProbeBytes);
    DW_ASSIGN(const Event begin, Event::create());
    DW_ASSIGN(const Event end, Event::create());
    const CopyRows copy{host.as<uint8_t>(), a_.as<uint8_t>(), 1, kBusProbeBytes, kBusProbeBytes, kBusProbeBytes};
    for (int round = 0; round < 2; ++round) {  // the first one finds cold tables of pages
        DW_TRY(check("measure the bus", cudaEventRecord(begin.get(), stream_->get())));
        DW_TRY(check("measure the bus", copy_rows(stream_->get(), copy)));
        DW_TRY(check("measure the bus", cudaEventRecord(end.get(), stream_->get())));
        DW_TRY(stream_->wait());
    }
    DW_ASSIGN(const double us, microseconds(begin, end));
    bus_bytes_per_us_ = static_cast<double>(kBusProbeBytes) / std::max(us, 1.0);
    return {};
}

const uint8_t* CudaDevice::address(const memory::Region& region) const {
    // Registered memory is taken at its own address only; asked of the driver, where something is registered.
    const auto* pin = static_cast<const RegionPin*>(region.pin_of(stream_.get()));
    const auto [card, host] = pin == nullptr ? std::pair<const uint8_t*, const uint8_t*>() : pin->first();
    return card == nullptr ? region.base() : card - (host - region.base());
}

Choice CudaDevice::choose(const Gemm& g) const {
    const Asked in_place = asked(g, Path::kInPlace), staged = asked(g, Path::kStaged);
    const auto steps = static_cast<double>(tiles(g.k, gemm_depth(tile_of(g, Path::kInPlace))));
    const double compute_us = 2.0 * g.m * g.n * g.k / kFlopsPerUs;
    const double in_place_us = static_cast<double>(in_place.all()) / bus_bytes_per_us_ + kStepUs * steps + compute_us;
    const double staged_us = static_cast<double>(staged.all()) / bus_bytes_per_us_ + kStagingUs + compute_us;
    char text[240];
    std::snprintf(
        text, sizeof text,
        "in place about %.0f us (%s at %.1f GB/s, and %.0f waits for the bus of %.0f us), staged about %.0f us "
        "(%s, and %.0f us for copying first)",
        in_place_us, megabytes(in_place.all()).c_str(), bus_gb_per_s(), steps, kStepUs, staged_us,
        megabytes(staged.all()).c_str(), kStagingUs);
    return {in_place_us <= staged_us ? Path::kInPlace : Path::kStaged, text};
}

Choice CudaDevice::choose(const Rows& r) const {
    const bool again = (r.kind == RowKind::kSoftmax || r.kind == RowKind::kRmsNorm) && r.cols > kCachedRow;
    if (again) return {Path::kStaged, "a row that does not fit beside its threads is read more than once"};
    return {Path::kInPlace, "each byte crosses the bus once either way"};
}

bool CudaDevice::reach(memory::Region& region, std::span<Operand* const> operands) {
    auto* pin = static_cast<RegionPin*>(region.pin_of(stream_.get()));
    if (pin == nullptr) {
        pin = static_cast<RegionPin*>(&region.pin(stream_.get(), std::make_unique<RegionPin>(stream_)));
    }
    const size_t bytes = pin->bytes();
    const int64_t ns = pin->register_ns();
    const bool all = std::all_of(operands.begin(), operands.end(), [&](const Operand* operand) {
        return operand->extent() == 0 || pin->reach(region, operand->offset, operand->extent());
    });
    traffic_.registered += pin->bytes() - bytes;
    traffic_.register_ns += static_cast<uint64_t>(pin->register_ns() - ns);
    return all;
}

Result<void> CudaDevice::copy_in(const memory::Region& region, const Operand& operand, bool registered) {
    const uint8_t* from = region.base() + operand.offset;
    traffic_.to_device += operand.bytes();
    if (registered) {
        return check("copy a tensor in", copy_rows(stream_->get(), {from, operand.card, operand.rows, operand.row_bytes,
                                                                    operand.pitch, operand.row_bytes}));
    }
    traffic_.bounced += operand.bytes();
    DW_TRY(stream_->wait());  // for the buffer
    DW_TRY(bounce_.hold(operand.bytes()));
    for (uint64_t row = 0; row < operand.rows; ++row) {
        std::memcpy(bounce_.as<uint8_t>() + row * operand.row_bytes, from + row * operand.pitch, operand.row_bytes);
    }
    return check("copy a tensor in", cudaMemcpyAsync(operand.card, bounce_.as<void>(), operand.bytes(),
                                                     cudaMemcpyHostToDevice, stream_->get()));
}

Result<void> CudaDevice::copy_out(memory::Region& region, const Operand& operand, bool registered) {
    uint8_t* to = region.base() + operand.offset;
    traffic_.from_device += operand.bytes();
    if (registered) {
        return check("copy a result out", copy_rows(stream_->get(), {operand.card, to, operand.rows, operand.row_bytes,
                                                                     operand.row_bytes, operand.pitch}));
    }
    traffic_.bounced += operand.bytes();
    DW_TRY(stream_->wait());
    DW_TRY(bounce_.hold(operand.bytes()));
    DW_TRY(check("copy a result out", cudaMemcpyAsync(bounce_.as<void>(), operand.card, operand.bytes(),
                                                      cudaMemcpyDeviceToHost, stream_->get())));
    DW_TRY(stream_->wait());
    for (uint64_t row = 0; row < operand.rows; ++row) {
        std::memcpy(to + row * operand.pitch, bounce_.as<uint8_t>() + row * operand.row_bytes, operand.row_bytes);
    }
    return {};
}

Result<bool> CudaDevice::bring(memory::Region& region, std::span<Operand*> operands, std::span<Operand* const> read,
                               Path path) {
    registered_ = reach(region, operands);
    Result<void> room;
    for (const Operand* operand : operands) {
        if (path == Path::kStaged || !registered_) {
            if (room = operand->buffer->hold(operand->bytes()); !room.ok()) break;
        }
    }
    if (registered_ && (path == Path::kInPlace || !room.ok())) {  // what the card has no room for stays where it is
        for (Operand* operand : operands) operand->card = region.base() + operand->offset;
        return true;
    }
    DW_TRY(room);
    for (Operand* operand : operands) operand->card = operand->buffer->as<uint8_t>();
    for (const Operand* operand : read) DW_TRY(copy_in(region, *operand, registered_));
    return false;
}

Result<void> CudaDevice::settled(Result<void> done) {
    if (done.ok() || done.error().code == ErrorCode::kLimit) return done;
    failure_ = failed_card(done.error());
    return *failure_;
}

Result<void> CudaDevice::start(memory::Region& region, const Gemm& g, Path path) {
    DW_TRY(check_gemm(g, region.size()));
    if (failure_) return *failure_;
    if (g.m == 0 || g.n == 0) return {};
    const auto stored = [](uint64_t offset, ElementType type, Transpose transpose, uint32_t rows, uint32_t cols,
                           uint32_t stride, DeviceBytes& buffer) {
        if (transpose == Transpose::kYes) std::swap(rows, cols);
        return Operand{offset, rows, cols * bytes_of(type), stride * bytes_of(type), &buffer};
    };
    Operand a = stored(g.a_offset, g.a_type, g.a_transpose, g.m, g.k, g.lda, a_);
    Operand b = stored(g.b_offset, g.b_type, g.b_transpose, g.k, g.n, g.ldb, b_);
    Operand c = stored(g.c_offset, g.c_type, Transpose::kNo, g.m, g.n, g.ldc, c_);
    std::array<Operand*, 3> all = {&a, &b, &c};
    auto there = bring(region, all, std::span(all).first(g.accumulate ? 3 : 2), path);
    if (!there.ok()) return settled(std::move(there).error());
    const bool in_place = *there;
    const auto stride = [&](const Operand& x, ElementType type) {
        return static_cast<uint32_t>((in_place ? x.pitch : x.row_bytes) / bytes_of(type));
    };
    const GemmArgs args{.a = a.card,
                        .b = b.card,
                        .c = c.card,
                        .m = g.m,
                        .n = g.n,
                        .k = g.k,
                        .lda = stride(a, g.a_type),
                        .ldb = stride(b, g.b_type),
                        .ldc = stride(c, g.c_type),
                        .a_type = g.a_type,
                        .b_type = g.b_type,
                        .c_type = g.c_type,
                        .a_transpose = g.a_transpose,
                        .b_transpose = g.b_transpose,
                        .accumulate = g.accumulate};
    const Path taken = in_place ? Path::kInPlace : Path::kStaged;
    if (in_place) {
        const Asked bytes = asked(g, taken);
        traffic_.to_device += bytes.to_device;
        traffic_.from_device += bytes.from_device;
    }
    auto launched = check("multiply a guest's matrices", guest_gemm(stream_->get(), args, tile_of(g, taken)));
    if (launched.ok() && !in_place) launched = copy_out(region, c, registered_);
    return settled(std::move(launched));
}

Result<void> CudaDevice::start(memory::Region& region, const Rows& r, Path path) {
    DW_TRY(check_rows(r, region.size()));
    if (failure_) return *failure_;
    if (r.rows == 0 || r.cols == 0) return {};
    const uint64_t row_bytes = r.cols * sizeof(float);
    const bool two = has_second_operand(r.kind);
    Operand x{r.x_offset, r.rows, row_bytes, r.ldx * sizeof(float), &a_};
    Operand y{r.y_offset, two ? (r.ldy == 0 ? 1 : r.rows) : 0, row_bytes, r.ldy * sizeof(float), &b_};
    Operand out{r.out_offset, r.rows, row_bytes, r.ldout * sizeof(float), &c_};
    std::array<Operand*, 3> all = {&x, &y, &out};
    auto there = bring(region, all, std::span(all).first(two ? 2 : 1), path);
    if (!there.ok()) return settled(std::move(there).error());
    const bool in_place = *there;
    const RowsArgs args{.kind = r.kind,
                        .x = reinterpret_cast<const float*>(x.card),
                        .y = two ? reinterpret_cast<const float*>(y.card) : nullptr,
                        .out = reinterpret_cast<float*>(out.card),
                        .rows = r.rows,
                        .cols = r.cols,
                        .ldx = in_place ? r.ldx : r.cols,
                        .ldy = in_place || r.ldy == 0 ? r.ldy : r.cols,
                        .ldout = in_place ? r.ldout : r.cols,
                        .eps = r.eps};
    if (in_place) {
        traffic_.to_device += x.bytes() + y.bytes();
        traffic_.from_device += out.bytes();
    }
    auto launched = check("work on a guest's rows", guest_rows(stream_->get(), args));
    if (launched.ok() && !in_place) launched = copy_out(region, out, registered_);
    return settled(std::move(launched));
}

Result<void> CudaDevice::gemm(memory::Region& region, const Gemm& g, Path path) {
    const memory::Region::Hold hold = region.hold();
    DW_TRY(start(region, g, path));
    return settled(stream_->wait());
}

Result<void> CudaDevice::rows(memory::Region& region, const Rows& r, Path path) {
    const memory::Region::Hold hold = region.hold();
    DW_TRY(start(region, r, path));
    return settled(stream_->wait());
}

}  // namespace driftwood::compute::cuda
