#include "actor/operations.h"

#include <algorithm>
#include <array>
#include <bit>

#include "actor/limits.h"

namespace driftwood::actor {
namespace {

constexpr size_t kGemmWords = sizeof(driftwood_gemm_f32) / sizeof(uint32_t);

}  // namespace

bool within_gemm_limit(const driftwood_gemm_f32& g) {
    // Without columns there are still rows to walk through.
    const uint64_t cells = uint64_t{std::max(g.m, 1U)} * std::max(g.n, 1U);
    return std::max(g.k, 1U) <= kMaxGemmSteps / cells;
}

compute::GemmF32 to_gemm(const driftwood_gemm_f32& g) {
    return {.a_offset = g.a,
            .b_offset = g.b,
            .c_offset = g.c,
            .m = g.m,
            .n = g.n,
            .k = g.k,
            .lda = g.lda,
            .ldb = g.ldb,
            .ldc = g.ldc,
            .accumulate = g.accumulate != 0};
}

void encode(file::Encoder& out, const Operation& operation) {
    out.i64(operation.id);
    out.u8(static_cast<uint8_t>(operation.kind));
    out.u32(operation.out.offset);
    out.u32(operation.out.length);
    out.i64(operation.target);
    out.u64(operation.progress);
    for (const uint32_t word : std::bit_cast<std::array<uint32_t, kGemmWords>>(operation.gemm)) out.u32(word);
}

void encode(file::Encoder& out, const Completion& completion) {
    out.i64(completion.op);
    out.i64(completion.status);
    out.u32(completion.out.offset);
    out.u32(completion.out.length);
    out.str(completion.bytes);
}

Result<Operation> decode_operation(file::Decoder& in) {
    Operation operation;
    DW_ASSIGN(operation.id, in.i64());
    DW_ASSIGN(const uint8_t kind, in.u8());
    if (kind < 1 || kind > static_cast<uint8_t>(Operation::Kind::kGemm)) {
        return error(ErrorCode::kUnsupported, "[" + in.what() + "] operation " + std::to_string(operation.id) +
                                                  ": kind " + std::to_string(kind) + " is not known to this version");
    }
    operation.kind = static_cast<Operation::Kind>(kind);
    DW_ASSIGN(operation.out.offset, in.u32());
    DW_ASSIGN(operation.out.length, in.u32());
    DW_ASSIGN(operation.target, in.i64());
    DW_ASSIGN(operation.progress, in.u64());
    std::array<uint32_t, kGemmWords> words{};
    for (uint32_t& word : words) {
        DW_ASSIGN(word, in.u32());
    }
    operation.gemm = std::bit_cast<driftwood_gemm_f32>(words);
    return operation;
}

Result<Completion> decode_completion(file::Decoder& in) {
    Completion completion;
    DW_ASSIGN(completion.op, in.i64());
    DW_ASSIGN(completion.status, in.i64());
    DW_ASSIGN(completion.out.offset, in.u32());
    DW_ASSIGN(completion.out.length, in.u32());
    DW_ASSIGN(completion.bytes, in.str());
    return completion;
}

}  // namespace driftwood::actor
