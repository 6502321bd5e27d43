// Linear layers split by outputs, as over several cards (docs/several-cards.md), here as parts on one: each part has
// its rows of both matrices, quantises its own outputs, and what it gathers of the others is quantised numbers and
// scales.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "bench/cuda_device_check.h"
#include "compute/cuda/kernels.h"
#include "compute/cuda/layout.h"
#include "compute/cuda/runtime.h"
#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

using cuda::DeviceBytes;
using cuda::TiledMatrix;

constexpr uint32_t kIn = 1024, kMiddle = 2048, kOut = 1024;
constexpr uint32_t kMostRows = 2048;  // kernels for many tokens read whole blocks of them

void must(cudaError_t code, const char* what) { cuda::check(what, code).value(); }

// Rows of activations in tiles, on the card.
struct OnCard {
    ActivationKind kind;
    uint32_t cols, tiles;
    DeviceBytes q, scale, large, fault;

    OnCard(ActivationKind k, uint32_t rows, uint32_t columns, cudaStream_t stream)
        : kind(k), cols(columns), tiles(cuda::tiles_of(kMostRows)) {
        for (const auto& [buffer, size] : {std::pair(&q, tiles * q_pitch()), std::pair(&scale, tiles * scale_pitch()),
                                           std::pair(&large, size_t{4}), std::pair(&fault, size_t{4} * rows)}) {
            buffer->hold(size).value();
            must(cudaMemsetAsync(buffer->as<void>(), buffer == &fault ? 0xFF : 0, size, stream), "clear");
        }
    }
    // Bytes of 16 rows.
    size_t q_pitch() const { return size_t{cuda::padded_groups(cols)} * cuda::kTileBytes; }
    size_t scale_pitch() const {
        const uint32_t group = kind == ActivationKind::kA32P ? 32 : 256;
        return size_t{cols / group} * cuda::kTileRows * sizeof(float);
    }
    cuda::Activations view() const { return {q.as<uint8_t>(), scale.as<float>(), large.as<uint32_t>()}; }
    void quantise(const float* x, uint32_t rows, cudaStream_t stream) {
        must(cuda::quantise(stream,
                            {.kind = kind,
                             .rows = rows,
                             .cols = cols,
                             .source = nullptr,
                             .out = view(),
                             .fault = fault.as<uint32_t>(),
                             .code = 1},
                            x),
             "quantise");
    }
    // What another card would send: its columns, from `col` on.
    void gather(const OnCard& part, uint32_t col, cudaStream_t stream) {
        const auto copy = [&](const DeviceBytes& to, size_t to_pitch, const DeviceBytes& from, size_t width) {
            must(cudaMemcpy2DAsync(to.as<uint8_t>() + col / part.cols * width, to_pitch, from.as<void>(), width, width,
                                   tiles, cudaMemcpyDeviceToDevice, stream),
                 "gather");
        };
        copy(q, q_pitch(), part.q, part.q_pitch());
        copy(scale, scale_pitch(), part.scale, part.scale_pitch());
    }
};

// Rows of a matrix, repacked by themselves.
struct Rows16 {
    DeviceBytes raw, tiles, scales;
    TiledMatrix matrix;

    Rows16(const MatrixView& whole, uint32_t first, uint32_t count, cudaStream_t stream) {
        const size_t bytes = row_bytes(whole.type, whole.cols);
        const size_t blocks = size_t{cuda::tiles_of(count)} * cuda::padded_groups(whole.cols);
        raw.hold(count * bytes).value();
        tiles.hold(blocks * cuda::tile_bytes(whole.type)).value();
        scales.hold(blocks * cuda::kTileRows * sizeof(uint16_t)).value();
        matrix = {.tiles = tiles.as<uint8_t>(),
                  .scales = scales.as<uint16_t>(),
                  .rows = count,
                  .cols = whole.cols,
                  .type = whole.type,
                  .kind = cuda::kind_of(whole.type)};
        must(cudaMemcpyAsync(raw.as<void>(), whole.bytes.data() + first * bytes, count * bytes, cudaMemcpyHostToDevice,
                             stream),
             "copy weights");
        must(cuda::repack(stream, raw.as<uint8_t>(), matrix, tiles.as<uint8_t>(), scales.as<uint16_t>()), "repack");
    }
    void multiply(const OnCard& x, uint32_t rows, float* y, cudaStream_t stream) const {
        cuda::Linear args;
        args.product[0] = {matrix, y};
        args.products = 1;
        args.tokens = rows;
        args.x = x.view();
        must(cuda::linear(stream, args), "multiply");
    }
};

// Both layers in `parts` parts; the output's rows whole.
std::vector<float> run(const MatrixView& first, const MatrixView& second, const std::vector<float>& x, uint32_t rows,
                       uint32_t parts) {
    const auto made = cuda::Stream::create().value();
    cudaStream_t stream = made.get();
    const ActivationKind kind = cuda::kind_of(first.type);
    DeviceBytes input, middle, out;
    input.hold(x.size() * sizeof(float)).value();
    must(cudaMemcpyAsync(input.as<void>(), x.data(), x.size() * sizeof(float), cudaMemcpyHostToDevice, stream), "copy");
    OnCard from(kind, rows, kIn, stream), between(kind, rows, kMiddle, stream);
    from.quantise(input.as<float>(), rows, stream);
    const uint32_t own_middle = kMiddle / parts, own_out = kOut / parts;
    middle.hold(size_t{rows} * own_middle * sizeof(float)).value();
    out.hold(size_t{rows} * own_out * sizeof(float)).value();
    for (uint32_t p = 0; p < parts; ++p) {
        const Rows16 own(first, p * own_middle, own_middle, stream);
        own.multiply(from, rows, middle.as<float>(), stream);
        OnCard mine(kind, rows, own_middle, stream);
        mine.quantise(middle.as<float>(), rows, stream);
        between.gather(mine, p * own_middle, stream);
        made.wait().value();
    }
    std::vector<float> whole(size_t{rows} * kOut), part(size_t{rows} * own_out);
    for (uint32_t p = 0; p < parts; ++p) {
        const Rows16 own(second, p * own_out, own_out, stream);
        own.multiply(between, rows, out.as<float>(), stream);
        must(cudaMemcpyAsync(part.data(), out.as<void>(), part.size() * sizeof(float), cudaMemcpyDeviceToHost, stream),
             "copy");
        made.wait().value();
        for (uint32_t t = 0; t < rows; ++t) {
            std::memcpy(&whole[size_t{t} * kOut + p * own_out], &part[size_t{t} * own_out], own_out * sizeof(float));
        }
    }
    return whole;
}

}  // namespace

bool check_parts() {
    bool right = true;
    for (const WeightType type : {WeightType::kQ8_0, WeightType::kQ4_0}) {
        TestRandom random(31);
        const auto first = test_matrix(random, type, kMiddle, kIn), second = test_matrix(random, type, kOut, kMiddle);
        const MatrixView one{type, kMiddle, kIn, first}, two{type, kOut, kMiddle, second};
        uint64_t differ = 0, compared = 0;
        for (const uint32_t rows : {1U, 5U, 48U, 300U}) {
            std::vector<float> x(size_t{rows} * kIn);
            for (float& value : x) value = random.uniform();
            const std::vector<float> whole = run(one, two, x, rows, 1);
            for (const uint32_t parts : {2U, 4U}) {
                const std::vector<float> got = run(one, two, x, rows, parts);
                for (size_t i = 0; i < got.size(); ++i) {
                    differ += std::memcmp(&got[i], &whole[i], sizeof(float)) != 0 ? 1 : 0;
                }
                compared += got.size();
            }
            for (const float value : whole) right &= value == value && value != 0.0F;
        }
        right &= differ == 0;
        std::printf(
            "two layers of %s split by outputs, 2 and 4 parts, 1 to 300 tokens: %llu of %llu outputs differ from "
            "the whole\n",
            std::string(weight_type_name(type)).c_str(), static_cast<unsigned long long>(differ),
            static_cast<unsigned long long>(compared));
    }
    return right;
}

}  // namespace driftwood::compute
