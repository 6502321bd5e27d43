// The C++ SDK for Driftwood actors: a conversation is a coroutine.
//
//   driftwood::Task chat() {
//       auto session = driftwood::Session::open();
//       for (;;) {
//           session.append("user", co_await driftwood::receive());
//           auto answer = session.generate({.temperature = 0.7F});
//           while (auto piece = co_await answer.next()) driftwood::reply(*piece);
//           driftwood::end_reply();
//       }
//   }
//   DRIFTWOOD_ACTOR(chat)
//
// At every co_await the actor's whole state lies in linear memory and no stack is held: there it can be frozen, moved
// and thawed. Header-only; needs C++20 and no exceptions. An actor is single-threaded; nothing here is thread-safe.
#pragma once

#include <driftwood/guest.h>

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace driftwood {

// The coroutine type of an actor's body and of its parts: co_await a Task to run it to its end. It starts when it is
// first awaited (or by DRIFTWOOD_ACTOR) and frees its frame when the Task goes.
class Task {
  public:
    struct promise_type {
        std::coroutine_handle<> awaiter;

        Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_always initial_suspend() noexcept { return {}; }
        auto final_suspend() noexcept {
            // Out of line, here and below: inlined, clang makes the resume a tail call, which wasm32 has only as an
            // extension ("WebAssembly 'tail-call' feature not enabled").
            struct Resume {
                bool await_ready() noexcept { return false; }
                [[gnu::noinline]] void await_suspend(std::coroutine_handle<promise_type> done) noexcept {
                    if (auto next = done.promise().awaiter) next.resume();
                }
                void await_resume() noexcept {}
            };
            return Resume{};
        }
        void return_void() {}
        void unhandled_exception() { std::abort(); }
    };

    Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Task& operator=(Task&&) = delete;
    ~Task() {
        if (handle_) handle_.destroy();
    }

    void start() { handle_.resume(); }
    bool done() const { return handle_.done(); }

    bool await_ready() const { return handle_.done(); }
    [[gnu::noinline]] void await_suspend(std::coroutine_handle<> awaiter) {
        handle_.promise().awaiter = awaiter;
        handle_.resume();
    }
    void await_resume() {}

  private:
    explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
    std::coroutine_handle<promise_type> handle_;
};

namespace detail {

// An operation that a coroutine waits for. It lives in that coroutine's frame and is in the list while it waits.
struct Waiting {
    int64_t op = 0;      // > 0: waiting for it; < 0: the call failed, nothing to wait for
    int64_t status = 0;  // of the completion
    std::coroutine_handle<> coroutine;
    bool (*again)(Waiting&) = nullptr;  // asked at completion: issues the call anew (true) or lets it be
    Waiting* next = nullptr;

    bool await_ready() const { return op < 0; }
    void await_suspend(std::coroutine_handle<> waiter) {
        coroutine = waiter;
        next = list();
        list() = this;
    }
    int64_t result() const { return op < 0 ? op : status; }

    static Waiting*& list() {
        static Waiting* head = nullptr;
        return head;
    }
};

// Hands a completion to whoever waits for it; one that nobody waits for is dropped.
inline void complete(int64_t op, int64_t status) {
    for (Waiting** link = &Waiting::list(); *link != nullptr; link = &(*link)->next) {
        Waiting* const found = *link;
        if (found->op != op) continue;
        found->status = status;
        if (found->again != nullptr && found->again(*found)) return;
        *link = found->next;
        found->coroutine.resume();
        return;
    }
}

}  // namespace detail

// Awaits one operation: its status (>= 0), or a negative driftwood_errno.
class Operation : private detail::Waiting {
  public:
    explicit Operation(int64_t id) { op = id; }
    Operation(const Operation&) = delete;
    using Waiting::await_ready;
    using Waiting::await_suspend;
    int64_t await_resume() const { return result(); }
};

// Awaits bytes from `call(handle, buffer, capacity)`; the buffer grows when the runtime says how much is needed.
class Bytes : private detail::Waiting {
  public:
    using Call = int64_t (*)(int64_t handle, void* out, uint32_t capacity);
    Bytes(Call call, int64_t handle, size_t capacity) : call_(call), handle_(handle), buffer_(capacity, '\0') {
        again = [](Waiting& waiting) { return static_cast<Bytes&>(waiting).issue_larger(); };
        issue();
    }
    Bytes(const Bytes&) = delete;
    using Waiting::await_ready;
    using Waiting::await_suspend;
    // The bytes; nothing when the stream has ended (status 0) or the call failed.
    std::optional<std::string> await_resume() {
        if (result() <= 0) return std::nullopt;
        buffer_.resize(static_cast<size_t>(result()));
        return std::move(buffer_);
    }

  private:
    void issue() { op = call_(handle_, buffer_.data(), static_cast<uint32_t>(buffer_.size())); }
    bool issue_larger() {
        if (status >= 0 || (-status & 0xFFFF) != DRIFTWOOD_E2BIG) return false;
        buffer_.resize(static_cast<size_t>(-status >> 16));
        issue();
        return op > 0;
    }
    Call call_;
    int64_t handle_;
    std::string buffer_;
};

// ---- Mailbox and the world outside

// Waits for the next message to this actor. An empty message is an empty optional.
inline Bytes receive() {
    return Bytes([](int64_t, void* out, uint32_t capacity) { return driftwood_receive(out, capacity); }, 0, 1024);
}
// Sends bytes to whoever talks to this actor, after this turn. Returns 0 or a negative driftwood_errno.
inline int32_t reply(std::string_view bytes) {
    return driftwood_reply(bytes.data(), static_cast<uint32_t>(bytes.size()), 0);
}
// Ends the answer to the current message.
inline int32_t end_reply() { return driftwood_reply(nullptr, 0, 1); }
inline void log(std::string_view line, driftwood_log_level level = DRIFTWOOD_LOG_INFO) {
    driftwood_log(level, line.data(), static_cast<uint32_t>(line.size()));
}
inline int64_t now_ns() { return driftwood_now(); }
// co_await sleep(std::chrono::seconds(2)): 0, or a negative driftwood_errno.
inline Operation sleep(std::chrono::nanoseconds duration) { return Operation(driftwood_sleep(duration.count())); }
// Fills `bytes` from the actor's own random state. Returns 0 or a negative driftwood_errno.
inline int32_t random(std::span<std::byte> bytes) {
    return driftwood_random(bytes.data(), static_cast<uint32_t>(bytes.size()));
}

// ---- The model's words

inline driftwood_model_info model_info() {
    driftwood_model_info info = {};
    driftwood_model_info_get(&info, sizeof info);
    return info;
}
namespace detail {

// Calls `fill(data, capacity)` until the buffer is large enough; nothing when it refuses.
template <class Buffer, class Fill>
std::optional<Buffer> filled(size_t capacity, Fill fill) {
    for (Buffer buffer(capacity, {});;) {
        const int64_t got = fill(buffer.data(), static_cast<uint32_t>(buffer.size()));
        if (got < 0 && (-got & 0xFFFF) != DRIFTWOOD_E2BIG) return std::nullopt;
        buffer.resize(static_cast<size_t>(got < 0 ? -got >> 16 : got));
        if (got >= 0) return buffer;
    }
}

}  // namespace detail

// The tokens of a text, which never becomes a special one; nothing for what is not UTF-8, or longer than 64 KiB.
inline std::optional<std::vector<uint32_t>> tokenize(std::string_view text) {
    return detail::filled<std::vector<uint32_t>>(text.size() / 2 + 4, [&](uint32_t* out, uint32_t capacity) {
        return driftwood_tokenize(text.data(), static_cast<uint32_t>(text.size()), out, capacity);
    });
}
// The bytes of tokens: not UTF-8 where they begin or end inside a character. Nothing for what are no tokens.
inline std::optional<std::string> detokenize(std::span<const uint32_t> tokens) {
    return detail::filled<std::string>(tokens.size() * 8, [&](char* out, uint32_t capacity) {
        return driftwood_detokenize(tokens.data(), static_cast<uint32_t>(tokens.size()), out, capacity);
    });
}
inline bool ends_turn(uint32_t token) { return driftwood_token_ends_turn(token) == 1; }

// ---- Conversations

// The model's answer as it is made. Closing (or dropping) it early stops the model; what it said stays in the session.
class Stream {
  public:
    explicit Stream(int64_t handle) : handle_(handle) {}
    Stream(Stream&& other) noexcept : handle_(std::exchange(other.handle_, 0)) {}
    Stream& operator=(Stream&&) = delete;
    ~Stream() {
        if (handle_ > 0) driftwood_stream_close(handle_);
    }
    // 0, or the negative driftwood_errno with which generate refused.
    int64_t error() const { return handle_ < 0 ? handle_ : 0; }
    // co_await next(): some more text (whole UTF-8 characters), or nothing at the end.
    Bytes next() { return Bytes(driftwood_next, handle_, 256); }

  private:
    int64_t handle_;
};

// A conversation with the actor's model. Move-only; closes itself.
class Session {
  public:
    static Session open() { return Session(driftwood_session_open()); }
    Session(Session&& other) noexcept : handle_(std::exchange(other.handle_, 0)) {}
    Session& operator=(Session&&) = delete;
    ~Session() {
        if (handle_ > 0) driftwood_session_close(handle_);
    }
    int64_t error() const { return handle_ < 0 ? handle_ : 0; }

    // Appends a message: "system", "user" or "assistant". Returns tokens added, or a negative driftwood_errno.
    int64_t append(std::string_view role, std::string_view text) {
        return driftwood_session_append(handle_, role.data(), static_cast<uint32_t>(role.size()), text.data(),
                                        static_cast<uint32_t>(text.size()));
    }
    // The model begins to answer.
    Stream generate(const driftwood_generate_options& options = {}) {
        return Stream(driftwood_generate(handle_, &options, sizeof options));
    }
    // co_await prefill(): computes what was appended; the number of tokens, or a negative driftwood_errno.
    Operation prefill() { return Operation(driftwood_prefill(handle_)); }
    // A session with the same past that costs no copy.
    Session fork() const { return Session(driftwood_session_fork(handle_)); }
    // Forgets everything after the first `messages` messages.
    int32_t rewind(uint32_t messages) { return driftwood_session_rewind(handle_, messages); }
    // Forgets everything after the first `tokens` tokens; an answer that is cut is open again.
    int32_t rewind_tokens(uint32_t tokens) { return driftwood_session_rewind_tokens(handle_, tokens); }
    // The model's turn to speak, and this actor picks the tokens. Tokens appended, or a negative driftwood_errno.
    int64_t answer() { return driftwood_session_answer(handle_); }
    // co_await decode(tokens, logits): appends `tokens`, computes, and writes the logits of the last one to `logits`,
    // which has room for the whole vocabulary and stays where it is until then. Their number, or a negative
    // driftwood_errno.
    Operation decode(std::span<const uint32_t> tokens, std::span<float> logits) {
        return Operation(driftwood_decode(handle_, tokens.data(), static_cast<uint32_t>(tokens.size()), logits.data(),
                                          static_cast<uint32_t>(logits.size())));
    }
    int64_t tokens() const { return driftwood_session_tokens(handle_); }

  private:
    explicit Session(int64_t handle) : handle_(handle) {}
    int64_t handle_;
};

// ---- Tensors in place

// 16-bit floats, as bits.
struct F16 {
    uint16_t bits;
};
struct Bf16 {
    uint16_t bits;
};

// A view of a row-major matrix of float, F16 or Bf16, which stays where it is while an operation works on it.
template <class T>
struct Matrix {
    T* data;
    uint32_t rows, cols;
    uint32_t stride = cols;   // elements from one row to the next
    bool transposed = false;  // stored as [cols, rows]; stride counts from one stored row to the next

    // The same numbers seen as [cols, rows].
    Matrix transpose() const { return {data, cols, rows, stride, !transposed}; }
};

namespace detail {

inline uint32_t offset_of(const void* pointer) { return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer)); }
template <class T>
constexpr uint32_t element_type() {
    if constexpr (std::is_same_v<std::remove_const_t<T>, float>) return DRIFTWOOD_F32;
    if constexpr (std::is_same_v<std::remove_const_t<T>, F16>) return DRIFTWOOD_F16;
    if constexpr (std::is_same_v<std::remove_const_t<T>, Bf16>) return DRIFTWOOD_BF16;
}

}  // namespace detail

enum class Accumulate : uint8_t { kNo, kYes };

// co_await gemm(c, a, b): C [m, n] = A [m, k] B [k, n], or C += with Accumulate::kYes. 0, or a negative
// driftwood_errno; -EINVAL, too, for shapes that do not fit together.
template <class C, class A, class B>
Operation gemm(Matrix<C> c, Matrix<A> a, Matrix<B> b, Accumulate accumulate = Accumulate::kNo) {
    if (c.transposed || a.rows != c.rows || b.cols != c.cols || a.cols != b.rows) return Operation(-DRIFTWOOD_EINVAL);
    driftwood_gemm gemm = {};
    gemm.a = detail::offset_of(a.data);
    gemm.b = detail::offset_of(b.data);
    gemm.c = detail::offset_of(c.data);
    gemm.m = c.rows;
    gemm.n = c.cols;
    gemm.k = a.cols;
    gemm.lda = a.stride;
    gemm.ldb = b.stride;
    gemm.ldc = c.stride;
    gemm.a_type = detail::element_type<A>();
    gemm.b_type = detail::element_type<B>();
    gemm.c_type = detail::element_type<C>();
    if (accumulate == Accumulate::kYes) gemm.flags |= DRIFTWOOD_GEMM_ACCUMULATE;
    if (a.transposed) gemm.flags |= DRIFTWOOD_GEMM_TRANSPOSE_A;
    if (b.transposed) gemm.flags |= DRIFTWOOD_GEMM_TRANSPOSE_B;
    return Operation(driftwood_gemm_run(&gemm, sizeof gemm));
}

namespace detail {

// `y` has one row (for all), the rows of x, or none where the operation has no y.
inline Operation rows(driftwood_row_kind kind, Matrix<float> out, Matrix<float> x, Matrix<float> y, float eps = 0.0F) {
    const bool fits = y.data == nullptr || (y.cols == x.cols && (y.rows == x.rows || y.rows == 1));
    if (out.transposed || x.transposed || y.transposed || out.rows != x.rows || out.cols != x.cols || !fits)
        return Operation(-DRIFTWOOD_EINVAL);
    driftwood_rows rows = {};
    rows.kind = kind;
    rows.x = offset_of(x.data);
    rows.y = offset_of(y.data);
    rows.out = offset_of(out.data);
    rows.rows = x.rows;
    rows.cols = x.cols;
    rows.ldx = x.stride;
    rows.ldy = y.rows == 1 ? 0 : y.stride;
    rows.ldout = out.stride;
    rows.eps = eps;
    return Operation(driftwood_rows_run(&rows, sizeof rows));
}

inline constexpr Matrix<float> kNone = {nullptr, 0, 0};

}  // namespace detail

// co_await add(out, x, y) and so on: 0, or a negative driftwood_errno. `out` may be x or y itself; a y of one row
// serves all rows of x.
inline Operation add(Matrix<float> out, Matrix<float> x, Matrix<float> y) {
    return detail::rows(DRIFTWOOD_ROWS_ADD, out, x, y);
}
inline Operation multiply(Matrix<float> out, Matrix<float> x, Matrix<float> y) {
    return detail::rows(DRIFTWOOD_ROWS_MULTIPLY, out, x, y);
}
inline Operation silu(Matrix<float> out, Matrix<float> x) {
    return detail::rows(DRIFTWOOD_ROWS_SILU, out, x, detail::kNone);
}
inline Operation silu_multiply(Matrix<float> out, Matrix<float> x, Matrix<float> y) {
    return detail::rows(DRIFTWOOD_ROWS_SILU_MULTIPLY, out, x, y);
}
inline Operation softmax(Matrix<float> out, Matrix<float> x) {
    return detail::rows(DRIFTWOOD_ROWS_SOFTMAX, out, x, detail::kNone);
}
inline Operation rms_norm(Matrix<float> out, Matrix<float> x, Matrix<float> weight, float eps) {
    return detail::rows(DRIFTWOOD_ROWS_RMS_NORM, out, x, weight, eps);
}

}  // namespace driftwood

// Makes `body` (a function returning driftwood::Task) the actor: its first turn starts the coroutine, every later turn
// resumes whoever waits for that completion.
#define DRIFTWOOD_ACTOR(body)                                                                             \
    static std::optional<driftwood::Task> driftwood_actor_task;                                           \
    extern "C" DRIFTWOOD_EXPORT(driftwood_start) void driftwood_start() {                                 \
        driftwood_actor_task.emplace(body());                                                             \
        driftwood_actor_task->start();                                                                    \
    }                                                                                                     \
    extern "C" DRIFTWOOD_EXPORT(driftwood_complete) void driftwood_complete(int64_t op, int64_t status) { \
        driftwood::detail::complete(op, status);                                                          \
    }
