// GuestHost: what an actor's guest asks for, one virtual function per call of include/driftwood/guest.h. The caller
// (wasm/) has checked every range against linear memory and read every struct; the implementer (actor/) owns meaning:
// operations, sessions, mailbox. Return values are those of guest.h: >= 0, or a negative driftwood_errno.
//
// Called on the thread that runs the turn, between Instance::start()/complete() and their return. Spans point into
// linear memory and die with the call; ranges that are filled later are kept as (offset, length) and checked again
// then.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "driftwood/guest.h"

namespace driftwood::wasm {

// A range of linear memory that was inside it when the guest named it; memory never shrinks, so it still is.
struct GuestRange {
    uint32_t offset = 0;
    uint32_t length = 0;
};

// `count` values of T in linear memory, of any alignment, for as long as the call lasts.
template <class T>
struct GuestArray {
    uint8_t* at = nullptr;
    uint32_t count = 0;

    T get(uint32_t i) const {
        T value;
        std::memcpy(&value, at + size_t{i} * sizeof(T), sizeof(T));
        return value;
    }
    void set(uint32_t i, T value) const { std::memcpy(at + size_t{i} * sizeof(T), &value, sizeof(T)); }
};

// As a GuestRange, of floats: filled later.
struct GuestFloats {
    uint32_t offset = 0;
    uint32_t count = 0;
};

class GuestHost {
  public:
    virtual ~GuestHost() = default;

    // `fd` 1 and 2: WASI stdout and stderr, in pieces as the guest writes them (not lines); level log: one line.
    virtual void log(int32_t level, std::string_view line) = 0;
    virtual void wasi_write(int fd, std::string_view bytes) = 0;
    virtual int64_t now_ns() = 0;
    virtual void random(std::span<uint8_t> out) = 0;
    virtual int32_t reply(std::span<const uint8_t> bytes, bool last) = 0;

    virtual int64_t receive(GuestRange out) = 0;
    virtual int32_t cancel(int64_t op) = 0;
    virtual int64_t sleep(int64_t ns) = 0;

    virtual driftwood_model_info model_info() = 0;
    virtual int64_t tokenize(std::string_view text, GuestArray<uint32_t> out) = 0;
    virtual int64_t detokenize(GuestArray<uint32_t> tokens, std::span<uint8_t> out) = 0;
    virtual int32_t token_ends_turn(uint32_t token) = 0;

    virtual int64_t session_open() = 0;
    virtual int32_t session_close(int64_t session) = 0;
    virtual int64_t session_append(int64_t session, std::string_view role, std::string_view text) = 0;
    virtual int64_t session_tokens(int64_t session) = 0;
    virtual int64_t session_fork(int64_t session) = 0;
    virtual int32_t session_rewind(int64_t session, uint32_t messages) = 0;
    virtual int32_t session_rewind_tokens(int64_t session, uint32_t tokens) = 0;
    virtual int64_t prefill(int64_t session) = 0;
    virtual int64_t generate(int64_t session, const driftwood_generate_options& options) = 0;
    virtual int64_t next(int64_t stream, GuestRange out) = 0;
    virtual int32_t stream_close(int64_t stream) = 0;
    virtual int64_t session_answer(int64_t session) = 0;
    virtual int64_t decode(int64_t session, GuestArray<uint32_t> tokens, GuestFloats logits) = 0;

    // Both as the guest wrote them: the implementer checks types and extents, against the size of linear memory.
    virtual int64_t gemm(const driftwood_gemm& gemm) = 0;
    virtual int64_t rows(const driftwood_rows& rows) = 0;
};

}  // namespace driftwood::wasm
