// Rule 7 on the card for any shape: a warp per row and head walks the chunks in order. Integer sums are exact, so lanes
// share them as they like; the float operations of a chunk and of the merge are the reference's.
#include "compute/cuda/kernels.h"
#include "compute/cuda/math.cuh"

namespace driftwood::compute::cuda {

namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWarps = kThreads / 32;
constexpr uint32_t kMaxDimsPerLane = kMaxHeadDim / 32;

// The score of one key, without the query's scale. k points at the key's first pair of dimensions.
__device__ float score(const int16_t* q, const int16_t* k, float scale, uint32_t head_dim) {
    uint32_t high = 0;
    uint32_t low = 0;
    for (uint32_t pair = 0; pair < head_dim / 2; ++pair) {
        for (uint32_t i = 0; i < 2; ++i) {
            const int32_t a = q[2 * pair + i];
            const int32_t b = k[static_cast<size_t>(pair) * 64 + i];
            high += static_cast<uint32_t>(a >> 8) * static_cast<uint32_t>(b);
            low += static_cast<uint32_t>(a & 255) * static_cast<uint32_t>(b);
        }
    }
    const auto a = static_cast<float>(static_cast<int32_t>(high));
    const auto b = static_cast<float>(static_cast<int32_t>(low));
    return __fmul_rn(__fmaf_rn(256.0F, a, b), scale);
}

__global__ void attention_kernel(Attention args) {
    __shared__ int32_t weights[kWarps][kBlockTokens];
    const Sequences& s = args.sequences;
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t index = blockIdx.x * kWarps + threadIdx.x / 32;
    if (index >= s.rows * s.heads) return;
    int32_t* weight = weights[threadIdx.x / 32];
    const uint32_t row = index / s.heads;
    const uint32_t kv_head = index % s.heads / (s.heads / s.kv_heads);
    const uint32_t visible = s.position[row] + 1;
    const int16_t* q = args.q16 + static_cast<size_t>(index) * s.head_dim;
    const float cq = args.cq[index];
    const size_t head_bytes = size_t{4} * kBlockTokens * s.head_dim + size_t{2} * kBlockTokens * sizeof(float);

    float running_max = kFirstMax;
    float sum = 0.0F;
    float out[kMaxDimsPerLane] = {};
    for (uint32_t first = 0; first < visible; first += kBlockTokens) {
        const uint8_t* head = s.blocks[s.table[row] + first / kBlockTokens] +
                              (static_cast<size_t>(s.layer) * s.kv_heads + kv_head) * head_bytes;
        const auto* k = reinterpret_cast<const int16_t*>(head);
        const int16_t* v = k + static_cast<size_t>(kBlockTokens) * s.head_dim;
        const auto* scales = reinterpret_cast<const float*>(v + static_cast<size_t>(kBlockTokens) * s.head_dim);
        float u[2];
        bool seen[2];
        for (uint32_t i = 0; i < 2; ++i) {
            const uint32_t key = i * 32 + lane;
            seen[i] = first + key < visible;
            u[i] = seen[i] ? score(q, k + static_cast<size_t>(i) * s.head_dim * 32 + lane * 2, scales[key], s.head_dim)
                           : 0.0F;
        }
        // Key 0 is always seen; the others' scores join where they are.
        const float first_score = __shfl_sync(kAllLanes, u[0], 0);
        const float most = warp_max(fmaxf(seen[0] ? u[0] : first_score, seen[1] ? u[1] : first_score));
        const float c = __fmul_rn(most, cq);
        const float n = round_float(c);
        const float m = __fsub_rn(c, n) >= kTiny ? __fadd_rn(n, 1.0F) : n;
        float w[2];
        int32_t l = 0;
        for (uint32_t i = 0; i < 2; ++i) {
            const float x = __fmaf_rn(u[i], cq, -m);
            const float p = exp2_attention(x > kScoreFloor ? x : kScoreFloor);
            l += seen[i] ? round_int(__fmul_rn(p, kWeightScale)) : 0;
            w[i] = seen[i] ? __fmul_rn(p, scales[kBlockTokens + i * 32 + lane]) : 0.0F;
        }
        l = warp_sum(l);
        const float a = warp_max(fmaxf(w[0], w[1]));
        if (!(fabsf(c) < kRoundLimit) || magnitude_bits(a) >= kInfinityBits) {
            if (lane == 0) atomicMin(args.fault + row, args.code);
            return;
        }
        const bool g_zero = !(a >= kTiny);
        const int32_t g_exponent = static_cast<int32_t>(__float_as_uint(a) >> 23) - 139;
        const float inv = g_zero ? 0.0F : power_of_two(-g_exponent);
        for (uint32_t i = 0; i < 2; ++i) weight[i * 32 + lane] = round_int(__fmul_rn(w[i], inv));
        __syncwarp();

        const float new_max = fmaxf(running_max, m);
        const float al = power_of_two(static_cast<int32_t>(__fsub_rn(running_max, new_max)));
        const auto be_exponent = static_cast<int32_t>(__fsub_rn(m, new_max));
        sum = __fmaf_rn(static_cast<float>(l), power_of_two(be_exponent), __fmul_rn(sum, al));
        const float unit = g_zero ? 0.0F : power_of_two(g_exponent + be_exponent);
        const uint32_t count = min(kBlockTokens, visible - first);
#pragma unroll
        for (uint32_t i = 0; i < kMaxDimsPerLane; ++i) {
            const uint32_t d = i * 32 + lane;
            if (d >= s.head_dim) break;
            uint32_t total = 0;
            for (uint32_t key = 0; key < count; ++key) {
                const int32_t value = v[(static_cast<size_t>(key / 2) * s.head_dim + d) * 2 + key % 2];
                total += static_cast<uint32_t>(weight[key]) * static_cast<uint32_t>(value);
            }
            out[i] = __fmaf_rn(static_cast<float>(static_cast<int32_t>(total)), unit, __fmul_rn(out[i], al));
        }
        __syncwarp();
        running_max = new_max;
    }
    const float factor = __fdiv_rn(kWeightScale, sum);
#pragma unroll
    for (uint32_t i = 0; i < kMaxDimsPerLane; ++i) {
        const uint32_t d = i * 32 + lane;
        if (d < s.head_dim) args.out[static_cast<size_t>(index) * s.head_dim + d] = __fmul_rn(out[i], factor);
    }
}

}  // namespace

cudaError_t attention(cudaStream_t stream, const Attention& args) {
    const uint32_t warps = args.sequences.rows * args.sequences.heads;
    attention_kernel<<<(warps + kWarps - 1) / kWarps, kThreads, 0, stream>>>(args);
    return cudaGetLastError();
}

}  // namespace driftwood::compute::cuda
