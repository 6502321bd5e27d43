// For tests: a GuestHost that writes down what it is asked, and guests in the text format.
#pragma once

#include <wasmtime.h>

#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "wasm/instance.h"

namespace driftwood::wasm {

// Remembers every call as a line; answers with `answer`.
class TestHost : public GuestHost {
  public:
    std::vector<std::string> calls;
    std::string output;  // WASI stdout and stderr
    int64_t answer = 7;
    int64_t now = 1'000'000'000;
    uint8_t random_byte = 0xa5;

    void log(int32_t level, std::string_view line) override { note("log", level, line); }
    void wasi_write(int fd, std::string_view bytes) override {
        note("wasi_write", fd, bytes);
        output += bytes;
    }
    int64_t now_ns() override { return now; }
    void random(std::span<uint8_t> out) override {
        note("random", out.size());
        std::fill(out.begin(), out.end(), random_byte);
    }
    int32_t reply(std::span<const uint8_t> bytes, bool last) override {
        note("reply", std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), last);
        return static_cast<int32_t>(answer);
    }
    int64_t receive(GuestRange out) override { return note("receive", out.offset, out.length); }
    int32_t cancel(int64_t op) override { return static_cast<int32_t>(note("cancel", op)); }
    int64_t sleep(int64_t ns) override { return note("sleep", ns); }
    driftwood_model_info model_info() override { return {.vocab = 320, .context = 512}; }
    int64_t tokenize(std::string_view line, GuestArray<uint32_t> out) override {
        return note("tokenize", line, out.count);
    }
    int64_t detokenize(GuestArray<uint32_t> tokens, std::span<uint8_t> out) override {
        return note("detokenize", listed(tokens), out.size());
    }
    int32_t token_ends_turn(uint32_t token) override { return static_cast<int32_t>(note("token_ends_turn", token)); }
    int64_t session_open() override { return note("session_open"); }
    int32_t session_close(int64_t session) override { return static_cast<int32_t>(note("session_close", session)); }
    int64_t session_append(int64_t session, std::string_view role, std::string_view text) override {
        return note("session_append", session, role, text);
    }
    int64_t session_tokens(int64_t session) override { return note("session_tokens", session); }
    int64_t session_fork(int64_t session) override { return note("session_fork", session); }
    int32_t session_rewind(int64_t session, uint32_t messages) override {
        return static_cast<int32_t>(note("session_rewind", session, messages));
    }
    int32_t session_rewind_tokens(int64_t session, uint32_t tokens) override {
        return static_cast<int32_t>(note("session_rewind_tokens", session, tokens));
    }
    int64_t session_answer(int64_t session) override { return note("session_answer", session); }
    int64_t decode(int64_t session, GuestArray<uint32_t> tokens, GuestFloats logits) override {
        return note("decode", session, listed(tokens), logits.offset, logits.count);
    }
    int64_t prefill(int64_t session) override { return note("prefill", session); }
    int64_t generate(int64_t session, const driftwood_generate_options& o) override {
        return note("generate", session, o.temperature, o.top_p, o.top_k, o.max_tokens, o.seed);
    }
    int64_t next(int64_t stream, GuestRange out) override { return note("next", stream, out.offset, out.length); }
    int32_t stream_close(int64_t stream) override { return static_cast<int32_t>(note("stream_close", stream)); }
    int64_t gemm(const driftwood_gemm& g) override {
        return note("gemm", g.a, g.b, g.c, g.m, g.n, g.k, g.lda, g.ldb, g.ldc, g.a_type, g.b_type, g.c_type, g.flags,
                    g.reserved);
    }
    int64_t rows(const driftwood_rows& r) override {
        return note("rows", r.kind, r.x, r.y, r.out, r.rows, r.cols, r.ldx, r.ldy, r.ldout, r.eps);
    }

  private:
    static std::string listed(GuestArray<uint32_t> words) {
        std::string all = "[";
        for (uint32_t i = 0; i < words.count; ++i) all += (i == 0 ? "" : " ") + std::to_string(words.get(i));
        return all + "]";
    }
    static std::string text(std::string_view value) { return std::string(value); }
    static std::string text(const char* value) { return value; }
    template <class T>
    requires std::is_arithmetic_v<T>
    static std::string text(T value) { return std::to_string(value); }
    template <class... Args>
    int64_t note(std::string_view name, const Args&... args) {
        std::string line(name);
        ((line += " " + text(args)), ...);
        calls.push_back(std::move(line));
        return answer;
    }
};

inline std::vector<uint8_t> from_wat(std::string_view wat) {
    wasm_byte_vec_t bytes;
    if (wasmtime_error_t* failure = wasmtime_wat2wasm(wat.data(), wat.size(), &bytes); failure != nullptr) {
        wasm_name_t message;
        wasmtime_error_message(failure, &message);
        check_failed("wat2wasm", std::string(message.data, message.size) + "\n" + std::string(wat));
    }
    std::vector<uint8_t> out(bytes.data, bytes.data + bytes.size);
    wasm_byte_vec_delete(&bytes);
    return out;
}

// A module with the exports that every guest must have, and `body` beside them.
inline std::string guest_wat(std::string_view body, std::string_view memory = "(memory (export \"memory\") 1 16)") {
    return "(module " + std::string(body) + std::string(memory) +
           " (func (export \"driftwood_start\")) (func (export \"driftwood_complete\") (param i64 i64)))";
}

// One runtime for all tests of a program: engines are made once per node, too.
inline Runtime& test_runtime() {
    static const std::unique_ptr<Runtime> runtime = Runtime::create({.epoch_ms = 2}).value();
    return *runtime;
}

inline Result<std::unique_ptr<Module>> compile_wat(std::string_view wat) {
    return Module::compile(test_runtime(), from_wat(wat));
}

// A guest with its host: what most tests need.
struct TestGuest {
    std::unique_ptr<TestHost> host = std::make_unique<TestHost>();
    std::unique_ptr<Module> module;
    std::unique_ptr<Instance> instance;

    explicit TestGuest(std::string_view wat, InstanceLimits limits = {}, WasiOptions wasi = {})
        : module(compile_wat(wat).value()),
          instance(Instance::create(*module, *host, limits, std::move(wasi)).value()) {}

    template <class T>
    T read(uint32_t offset) {
        T value;
        std::memcpy(&value, instance->memory().base() + offset, sizeof(T));
        return value;
    }
};

}  // namespace driftwood::wasm
