/* The C interface of deps/: Rust libraries behind plain functions. Wasmtime has its own header, wasmtime.h, beside this one.
 *
 * Errors.    A function that can fail returns a dwd_status; 0 is success. On any other value no output is valid and
 *            `error`, where it is a parameter and not NULL, holds a message (UTF-8, no terminating zero) to be freed by
 *            the caller. A Rust panic is caught and returned as DWD_PANIC: hostile input never ends the process.
 * Ownership. Input spans are borrowed for the length of the call; NULL is allowed where the length is 0. A dwd_buf
 *            output is written without looking at what it held, belongs to the caller, and is freed with dwd_buf_free.
 *            A handle belongs to the caller and is freed once with its own _free, which accepts NULL.
 * Threads.   No function keeps global state that a caller could see. A const handle may be used by any number of threads
 *            at once, another by one at a time; _free by the last user.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dwd_status {
    DWD_OK = 0,
    DWD_INVALID = 1, /* the input is malformed, or an argument is NULL that must not be */
    DWD_REFUSED = 2, /* the input is well formed, but asks for what we do not do; the message names it */
    DWD_PANIC = 3,   /* a bug in a library, caught; the message says where */
} dwd_status;

/* Bytes owned by whoever holds the struct. Do not change the fields; move it by copying and forgetting the source. */
typedef struct dwd_buf {
    uint8_t* data;
    size_t len;
    size_t cap;
} dwd_buf;

/* Frees and empties. NULL and an empty (zeroed) buffer are fine. */
void dwd_buf_free(dwd_buf* buf);

/* Panics with the message, for the test that a panic comes back as DWD_PANIC. */
int32_t dwd_test_panic(const uint8_t* message, size_t len, dwd_buf* error);

/* ---- BLAKE3 (https://github.com/BLAKE3-team/BLAKE3): 32-byte digests, unkeyed. These fail only on a NULL. ---- */

typedef struct dwd_blake3_hasher dwd_blake3_hasher;

int32_t dwd_blake3(const uint8_t* data, size_t len, uint8_t out[32]);
int32_t dwd_blake3_new(dwd_blake3_hasher** out, dwd_buf* error);
int32_t dwd_blake3_update(dwd_blake3_hasher* hasher, const uint8_t* data, size_t len);
/* The digest of all bytes so far; the hasher may be updated further. */
int32_t dwd_blake3_finish(const dwd_blake3_hasher* hasher, uint8_t out[32]);
void dwd_blake3_free(dwd_blake3_hasher* hasher);

#ifdef __cplusplus
}
#endif
