/* Driftwood guest ABI, version 1: what a WebAssembly actor may ask of its runtime, and what the runtime calls in it.
 *
 * The one header that guests and runtime share. C99 and C++, no dependencies, wasm32. Every pointer is an offset into
 * the guest's memory 0; the runtime checks each range once and then uses those very bytes. Structs are little-endian,
 * fixed-width, 8-byte aligned and versioned by size: pass sizeof(the struct); fields beyond the size passed take their
 * default (0).
 *
 * Operations complete later. A call that may wait returns an operation id (> 0) at once, or a negative driftwood_errno.
 * It starts after the guest has returned from the export that issued it, and completes exactly once, by a call of the
 * guest's export driftwood_complete(op, status). No stack is held in between, which is why an actor can be frozen,
 * moved and thawed whenever it waits. Text and structs are read at the call; buffers to be filled must stay where they
 * are until the completion, and are written just before it is announced.
 *
 * What the guest exports:
 *   memory                                            its one linear memory
 *   void _initialize(void)                            optional: constructors, run once at birth, where only the calls
 *                                                     abi_version, log, now and random work (others: -EINVAL)
 *   void driftwood_start(void)                        the first turn of its life
 *   void driftwood_complete(int64_t op, int64_t status)   every later turn
 */
#ifndef DRIFTWOOD_GUEST_H
#define DRIFTWOOD_GUEST_H

#include <stddef.h>
#include <stdint.h>

/* `name` is an identifier, so that C99, which has no such thing, can make it an array type of a size that cannot be. */
#if defined(__cplusplus)
#define DRIFTWOOD_STATIC_ASSERT(condition, name) static_assert(condition, #name)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define DRIFTWOOD_STATIC_ASSERT(condition, name) _Static_assert(condition, #name)
#else
#define DRIFTWOOD_STATIC_ASSERT(condition, name) typedef char driftwood_assert_##name[(condition) ? 1 : -1]
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define DRIFTWOOD_ABI_VERSION 1

/* Errors are values: calls return -errno, completions carry it as their status. The numbers are Linux's where Linux has
 * the thing. */
enum driftwood_errno {
    DRIFTWOOD_EINTERRUPTED = 4, /* an external operation did not survive a thaw */
    DRIFTWOOD_EIO = 5,          /* the runtime failed; the log says how */
    DRIFTWOOD_E2BIG = 7,        /* buffer too small: status is -(needed << 16 | E2BIG), nothing consumed */
    DRIFTWOOD_EBADF = 9,        /* no such session, stream or operation */
    DRIFTWOOD_ENOMEM = 12,      /* the actor's own memory limit, or the KV pool, is exhausted */
    DRIFTWOOD_EFAULT = 14,      /* a pointer or range outside linear memory */
    DRIFTWOOD_EBUSY = 16,       /* the session or stream is in use by another operation */
    DRIFTWOOD_EINVAL = 22,      /* an argument makes no sense */
    DRIFTWOOD_ENOSPC = 28,      /* the model's context is full */
    DRIFTWOOD_ENOSYS = 38,      /* this runtime does not have the call or the option */
    DRIFTWOOD_EOVERFLOW = 75,   /* a size or count beyond a limit of the runtime */
    DRIFTWOOD_ECANCELED = 125,  /* cancelled by the guest */
    DRIFTWOOD_EFORKED = 200,    /* the child of a fork does not inherit this operation */
    DRIFTWOOD_ENOTFINITE = 201, /* the model's numbers became NaN or infinite */
};

/* What one guest may have. More is -EOVERFLOW; what arrives from outside is refused to the sender. A later runtime may
 * allow more, never less. */
#define DRIFTWOOD_MAX_LOG_BYTES 65536                /* of one line */
#define DRIFTWOOD_MAX_RANDOM_BYTES 1048576           /* of one call */
#define DRIFTWOOD_MAX_STRUCT_BYTES 4096              /* the size passed with a struct */
#define DRIFTWOOD_MAX_REPLY_BYTES 1048576            /* of one reply */
#define DRIFTWOOD_MAX_EFFECTS_PER_TURN 4096          /* replies and log lines together; further lines are dropped */
#define DRIFTWOOD_MAX_EFFECT_BYTES_PER_TURN 16777216 /* of them together */
#define DRIFTWOOD_MAX_MESSAGE_BYTES 1048576          /* of one message to the actor */
#define DRIFTWOOD_MAX_MAILBOX_MESSAGES 1024          /* not yet received */
#define DRIFTWOOD_MAX_OPERATIONS 1024                /* pending, or complete and not yet told */
#define DRIFTWOOD_MAX_STREAMS 1024                   /* not closed */
#define DRIFTWOOD_MAX_SESSIONS 64                    /* open */
#define DRIFTWOOD_MAX_APPEND_BYTES 1048576           /* the text of one session_append */
#define DRIFTWOOD_MAX_TOKENIZE_BYTES 65536           /* the text of one tokenize */
#define DRIFTWOOD_MAX_DETOKENIZE_TOKENS 16384        /* of one detokenize */
#define DRIFTWOOD_MAX_GEMM_STEPS 4294967296          /* m * n * k of one gemm, each counted as at least 1 */
#define DRIFTWOOD_MAX_ROW_VALUES 1073741824          /* cols of one rows */

enum driftwood_log_level {
    DRIFTWOOD_LOG_DEBUG = 0,
    DRIFTWOOD_LOG_INFO = 1,
    DRIFTWOOD_LOG_WARN = 2,
    DRIFTWOOD_LOG_ERROR = 3,
};

/* How generate picks tokens. All zeros: greedy, until the model ends its turn or the context is full. */
typedef struct driftwood_generate_options {
    float temperature;   /* 0: greedy (ties go to the lower token id) */
    float top_p;         /* 0 or 1: off */
    uint32_t top_k;      /* 0: off */
    uint32_t max_tokens; /* 0: no limit of its own */
    uint64_t seed;       /* of the sampler's counter-based generator; used as given */
} driftwood_generate_options;
DRIFTWOOD_STATIC_ASSERT(sizeof(driftwood_generate_options) == 24, generate_options_size);
DRIFTWOOD_STATIC_ASSERT(offsetof(driftwood_generate_options, seed) == 16, generate_options_seed);

/* What the actor's model is. */
typedef struct driftwood_model_info {
    uint32_t vocab;   /* tokens are 0 to vocab - 1, logits are f32[vocab] */
    uint32_t context; /* tokens that a session has room for */
} driftwood_model_info;
DRIFTWOOD_STATIC_ASSERT(sizeof(driftwood_model_info) == 8, model_info_size);

/* The numbers of a tensor. */
enum driftwood_element_type {
    DRIFTWOOD_F32 = 0,  /* IEEE binary32 */
    DRIFTWOOD_F16 = 1,  /* IEEE binary16 */
    DRIFTWOOD_BF16 = 2, /* the upper half of a binary32 */
};

enum driftwood_gemm_flag {
    DRIFTWOOD_GEMM_ACCUMULATE = 1,  /* adds the old C, once, at the end */
    DRIFTWOOD_GEMM_TRANSPOSE_A = 2, /* A is stored as [k, m] */
    DRIFTWOOD_GEMM_TRANSPOSE_B = 4, /* B is stored as [n, k] */
};

/* C [m, n] = A [m, k] B [k, n], row-major in the guest's own memory. C overlaps neither A nor B. Sums are f32, in order
 * of k, rounded once to C's type. */
typedef struct driftwood_gemm {
    uint32_t a, b, c; /* offsets of the matrices, multiples of their elements' size */
    uint32_t m, n, k;
    uint32_t lda, ldb, ldc;          /* elements from one stored row to the next */
    uint32_t a_type, b_type, c_type; /* driftwood_element_type */
    uint32_t flags;                  /* of driftwood_gemm_flag */
    uint32_t reserved;               /* 0 */
} driftwood_gemm;
DRIFTWOOD_STATIC_ASSERT(sizeof(driftwood_gemm) == 56, gemm_size);
DRIFTWOOD_STATIC_ASSERT(offsetof(driftwood_gemm, lda) == 24, gemm_lda);
DRIFTWOOD_STATIC_ASSERT(offsetof(driftwood_gemm, flags) == 48, gemm_flags);

enum driftwood_row_kind {
    DRIFTWOOD_ROWS_ADD = 0,           /* x + y */
    DRIFTWOOD_ROWS_MULTIPLY = 1,      /* x y */
    DRIFTWOOD_ROWS_SILU = 2,          /* silu(x) = x / (1 + exp(-x)) */
    DRIFTWOOD_ROWS_SILU_MULTIPLY = 3, /* silu(x) y */
    DRIFTWOOD_ROWS_SOFTMAX = 4,       /* of each row */
    DRIFTWOOD_ROWS_RMS_NORM = 5,      /* of each row; y is the weight */
};

/* out [rows, cols] = an operation over x, and y where it has one; f32. `out` may be x or y itself (the same offset and
 * leading dimension), and overlaps them in no other way. */
typedef struct driftwood_rows {
    uint32_t kind;      /* driftwood_row_kind */
    uint32_t x, y, out; /* offsets, multiples of 4 */
    uint32_t rows, cols;
    uint32_t ldx, ldy, ldout; /* in elements; ldy 0: one row of y for all rows (a bias, a weight) */
    float eps;                /* of RMS_NORM */
} driftwood_rows;
DRIFTWOOD_STATIC_ASSERT(sizeof(driftwood_rows) == 40, rows_size);
DRIFTWOOD_STATIC_ASSERT(offsetof(driftwood_rows, eps) == 36, rows_eps);

#ifdef __wasm__
#define DRIFTWOOD_IMPORT(name) __attribute__((import_module("driftwood"), import_name(#name)))
#define DRIFTWOOD_EXPORT(name) __attribute__((export_name(#name)))

/* ---- Calls that never wait --------------------------------------------------------------------------------------- */

/* The ABI version of the runtime (>= 1). */
DRIFTWOOD_IMPORT(abi_version) int32_t driftwood_abi_version(void);
/* A line for the actor's log. 0, or -EFAULT, -EINVAL (level), -EOVERFLOW (DRIFTWOOD_MAX_LOG_BYTES). */
DRIFTWOOD_IMPORT(log) int32_t driftwood_log(int32_t level, const char* text, uint32_t length);
/* Nanoseconds since 1970; the same during one turn, never smaller than before. */
DRIFTWOOD_IMPORT(now) int64_t driftwood_now(void);
/* Fills `out` from the actor's own random state, which is frozen with it. 0, or -EFAULT, -EOVERFLOW (more than
 * 1 MiB). */
DRIFTWOOD_IMPORT(random) int32_t driftwood_random(void* out, uint32_t length);
/* Sends bytes to whoever talks to this actor; `last` != 0 ends the answer to the current message. An effect: it happens
 * after the turn has returned. 0, or -EFAULT, -EOVERFLOW (longer than 1 MiB; more than 4,096 or 16 MiB in one turn,
 * log lines included). */
DRIFTWOOD_IMPORT(reply) int32_t driftwood_reply(const void* data, uint32_t length, uint32_t last);

/* ---- Mailbox ----------------------------------------------------------------------------------------------------- */

/* Waits for the next message. Status: its length in bytes, written to `out`. */
DRIFTWOOD_IMPORT(receive) int64_t driftwood_receive(void* out, uint32_t capacity);
/* Cancels an operation: it completes with -ECANCELED. 0, or -EBADF when there is no such operation any more. */
DRIFTWOOD_IMPORT(cancel) int32_t driftwood_cancel(int64_t op);

/* Completes when this many ns have passed since now(); before, if cancelled. The deadline stays the same through a
 * freeze. Status: 0. An operation, or -EINVAL (negative), -EOVERFLOW (beyond 2^62 ns since 1970). */
DRIFTWOOD_IMPORT(sleep) int64_t driftwood_sleep(int64_t ns);

/* ---- The model's words: these never wait ------------------------------------------------------------------------- */

/* Fills `info`: as many of its bytes as `info_size` says, zeros behind what this runtime knows. 0, or -EFAULT, -EINVAL
 * (size 0), -EOVERFLOW. Another model may be there after a thaw: ask when you need to know. */
DRIFTWOOD_IMPORT(model_info) int32_t driftwood_model_info_get(driftwood_model_info* info, uint32_t info_size);
/* The tokens of a text, which never becomes a special token. Their number; or -(needed << 16 | E2BIG), and nothing is
 * written; or -EFAULT, -EINVAL (not UTF-8), -ENOSYS (the vocabulary has no tokens for it), -EOVERFLOW (text longer than
 * 64 KiB). */
DRIFTWOOD_IMPORT(tokenize)
int64_t driftwood_tokenize(const char* text, uint32_t text_length, uint32_t* out, uint32_t capacity);
/* The bytes of tokens one after the other: not UTF-8 where they begin or end inside a character; none for special ones.
 * Their number; or -(needed << 16 | E2BIG), and nothing is written; or -EFAULT, -EINVAL (no such token), -EOVERFLOW
 * (more than 16,384 tokens). */
DRIFTWOOD_IMPORT(detokenize)
int64_t driftwood_detokenize(const uint32_t* tokens, uint32_t count, void* out, uint32_t capacity);
/* 1 for a token with which the model ends its turn, 0 for any other, -EINVAL (no such token). */
DRIFTWOOD_IMPORT(token_ends_turn) int32_t driftwood_token_ends_turn(uint32_t token);

/* ---- Conversations with the model -------------------------------------------------------------------------------- */

/* Opens an empty session with the actor's model: a handle (> 0), or -EOVERFLOW (too many open). */
DRIFTWOOD_IMPORT(session_open) int64_t driftwood_session_open(void);
DRIFTWOOD_IMPORT(session_close) int32_t driftwood_session_close(int64_t session);
/* Appends a message ("system", "user", "assistant") as the model's chat template writes it; text never becomes a
 * special token. Returns the number of tokens appended, or -EFAULT, -EBADF, -EBUSY (generating), -EINVAL (role,
 * not UTF-8), -ENOSYS (template), -ENOSPC, -EOVERFLOW (text longer than 1 MiB). Prefill happens with the next generate,
 * or with prefill. */
DRIFTWOOD_IMPORT(session_append)
int64_t driftwood_session_append(int64_t session, const char* role, uint32_t role_length, const char* text,
                                 uint32_t text_length);
/* Tokens of the session so far, those not yet prefilled included. */
DRIFTWOOD_IMPORT(session_tokens) int64_t driftwood_session_tokens(int64_t session);
/* A new session that shares everything so far and costs no copy. Not while generating. A handle, or an error. */
DRIFTWOOD_IMPORT(session_fork) int64_t driftwood_session_fork(int64_t session);
/* Forgets everything after the first `messages` messages. */
DRIFTWOOD_IMPORT(session_rewind) int32_t driftwood_session_rewind(int64_t session, uint32_t messages);
/* Forgets everything after the first `tokens` tokens. An answer that is cut is open again; any other message that is
 * cut becomes raw tokens. */
DRIFTWOOD_IMPORT(session_rewind_tokens) int32_t driftwood_session_rewind_tokens(int64_t session, uint32_t tokens);
/* Computes what has been appended. Status: tokens computed. */
DRIFTWOOD_IMPORT(prefill) int64_t driftwood_prefill(int64_t session);
/* Opens a stream: the model begins its answer. A stream handle (> 0), or an error. One stream per session at a time. */
DRIFTWOOD_IMPORT(generate)
int64_t driftwood_generate(int64_t session, const driftwood_generate_options* options, uint32_t options_size);
/* Waits for the next bytes of the answer (UTF-8, whole characters, ready tokens together). Status: bytes written to
 * `out`; 0: the answer has ended. */
DRIFTWOOD_IMPORT(next) int64_t driftwood_next(int64_t stream, void* out, uint32_t capacity);
/* Ends the stream, finished or not; what the model said stays in the session, what was not fetched is not told. */
DRIFTWOOD_IMPORT(stream_close) int32_t driftwood_stream_close(int64_t stream);

/* ---- The second level: the guest picks the tokens ---------------------------------------------------------------- */

/* The model's turn to speak, and the guest will pick the tokens: closes an open answer, appends what the template
 * writes before one. Tokens appended, or an error as of session_append. */
DRIFTWOOD_IMPORT(session_answer) int64_t driftwood_session_answer(int64_t session);
/* Appends `count` tokens (perhaps none), computes what has not been computed, and writes the logits of the last token,
 * f32[vocab], to `logits`, while no turn runs. Tokens go on with an open answer, up to one that ends the turn; others
 * are raw, and a session with raw tokens cannot change its model. At the call: -EBADF, -EBUSY, -EFAULT, -EINVAL (no
 * such token; nothing to compute; `logits` no multiple of 4), -ENOSPC, -(needed << 16 | E2BIG) (capacity, in floats),
 * and then nothing is appended. Status: vocab; or -ENOMEM, -ENOTFINITE, -ECANCELED, and the tokens stay appended. */
DRIFTWOOD_IMPORT(decode)
int64_t driftwood_decode(int64_t session, const uint32_t* tokens, uint32_t count, float* logits, uint32_t capacity);

/* ---- Tensors in place -------------------------------------------------------------------------------------------- */

/* The device works on the guest's own bytes before the completion, while no turn runs. Checked at the call, before a
 * byte is touched: -EFAULT (a matrix outside memory), -EINVAL (alignment, leading dimension, overlap), -ENOSYS (a type,
 * kind or flag that this runtime does not know), -EOVERFLOW (DRIFTWOOD_MAX_GEMM_STEPS, _ROW_VALUES). Status: 0. */
DRIFTWOOD_IMPORT(gemm) int64_t driftwood_gemm_run(const driftwood_gemm* gemm, uint32_t gemm_size);
DRIFTWOOD_IMPORT(rows) int64_t driftwood_rows_run(const driftwood_rows* rows, uint32_t rows_size);

#endif /* __wasm__ */

#ifdef __cplusplus
}
#endif
#endif /* DRIFTWOOD_GUEST_H */
