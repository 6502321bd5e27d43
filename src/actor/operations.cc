#include "actor/operations.h"

#include <algorithm>
#include <array>
#include <bit>

#include "actor/limits.h"

namespace driftwood::actor {
namespace {

constexpr uint32_t kGemmFlags = DRIFTWOOD_GEMM_ACCUMULATE | DRIFTWOOD_GEMM_TRANSPOSE_A | DRIFTWOOD_GEMM_TRANSPOSE_B;
static_assert(static_cast<uint32_t>(compute::ElementType::kBf16) == DRIFTWOOD_BF16);
static_assert(static_cast<uint32_t>(compute::RowKind::kRmsNorm) == DRIFTWOOD_ROWS_RMS_NORM);
static_assert(compute::kMaxRowValues == DRIFTWOOD_MAX_ROW_VALUES);
static_assert(compute::kRowKinds == DRIFTWOOD_ROWS_RMS_NORM + 1);

// m * n * k without an overflow, and nothing counted as less than one: without columns there are still rows to walk
// through.
bool within_gemm_limit(const driftwood_gemm& g) {
    const uint64_t cells = uint64_t{std::max(g.m, 1U)} * std::max(g.n, 1U);
    return std::max(g.k, 1U) <= kMaxGemmSteps / cells;
}

int32_t errno_of(const Result<void>& checked) {
    if (checked.ok()) return 0;
    return checked.error().code == ErrorCode::kLimit ? -DRIFTWOOD_EFAULT : -DRIFTWOOD_EINVAL;
}

template <class Struct>
void encode_words(file::Encoder& out, const Struct& value) {
    for (const uint32_t word : std::bit_cast<std::array<uint32_t, sizeof(Struct) / sizeof(uint32_t)>>(value))
        out.u32(word);
}

template <class Struct>
Result<Struct> decode_words(file::Decoder& in) {
    std::array<uint32_t, sizeof(Struct) / sizeof(uint32_t)> words{};
    for (uint32_t& word : words) {
        DW_ASSIGN(word, in.u32());
    }
    return std::bit_cast<Struct>(words);
}

}  // namespace

int32_t check_tensor(const driftwood_gemm& g, uint64_t memory_bytes) {
    const uint32_t last_type = std::max({g.a_type, g.b_type, g.c_type});
    if (last_type > DRIFTWOOD_BF16 || (g.flags & ~kGemmFlags) != 0 || g.reserved != 0) return -DRIFTWOOD_ENOSYS;
    if (!within_gemm_limit(g)) return -DRIFTWOOD_EOVERFLOW;
    return errno_of(compute::check_gemm(to_device(g), memory_bytes));
}

int32_t check_tensor(const driftwood_rows& r, uint64_t memory_bytes) {
    if (r.kind >= compute::kRowKinds) return -DRIFTWOOD_ENOSYS;
    if (r.cols > compute::kMaxRowValues) return -DRIFTWOOD_EOVERFLOW;
    return errno_of(compute::check_rows(to_device(r), memory_bytes));
}

compute::Gemm to_device(const driftwood_gemm& g) {
    const auto transpose = [&g](uint32_t flag) {
        return (g.flags & flag) != 0 ? compute::Transpose::kYes : compute::Transpose::kNo;
    };
    return {.a_offset = g.a,
            .b_offset = g.b,
            .c_offset = g.c,
            .m = g.m,
            .n = g.n,
            .k = g.k,
            .lda = g.lda,
            .ldb = g.ldb,
            .ldc = g.ldc,
            .accumulate = (g.flags & DRIFTWOOD_GEMM_ACCUMULATE) != 0,
            .a_type = static_cast<compute::ElementType>(g.a_type),
            .b_type = static_cast<compute::ElementType>(g.b_type),
            .c_type = static_cast<compute::ElementType>(g.c_type),
            .a_transpose = transpose(DRIFTWOOD_GEMM_TRANSPOSE_A),
            .b_transpose = transpose(DRIFTWOOD_GEMM_TRANSPOSE_B)};
}

compute::Rows to_device(const driftwood_rows& r) {
    return {.kind = static_cast<compute::RowKind>(r.kind),
            .x_offset = r.x,
            .y_offset = r.y,
            .out_offset = r.out,
            .rows = r.rows,
            .cols = r.cols,
            .ldx = r.ldx,
            .ldy = r.ldy,
            .ldout = r.ldout,
            .eps = r.eps};
}

void encode(file::Encoder& out, const Operation& operation) {
    out.i64(operation.id);
    out.u8(static_cast<uint8_t>(operation.kind));
    out.u32(operation.out.offset);
    out.u32(operation.out.length);
    out.i64(operation.target);
    out.u64(operation.progress);
    if (operation.kind == Operation::Kind::kGemm) encode_words(out, operation.gemm);
    if (operation.kind == Operation::Kind::kRows) encode_words(out, operation.rows);
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
    if (kind < 1 || kind > static_cast<uint8_t>(Operation::Kind::kSleep)) {
        return error(ErrorCode::kUnsupported, "[" + in.what() + "] operation " + std::to_string(operation.id) +
                                                  ": kind " + std::to_string(kind) + " is not known to this version");
    }
    operation.kind = static_cast<Operation::Kind>(kind);
    DW_ASSIGN(operation.out.offset, in.u32());
    DW_ASSIGN(operation.out.length, in.u32());
    DW_ASSIGN(operation.target, in.i64());
    DW_ASSIGN(operation.progress, in.u64());
    if (operation.kind == Operation::Kind::kGemm) {
        DW_ASSIGN(operation.gemm, decode_words<driftwood_gemm>(in));
    } else if (operation.kind == Operation::Kind::kRows) {
        DW_ASSIGN(operation.rows, decode_words<driftwood_rows>(in));
    }
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
