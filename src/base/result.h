// Result<T>: the outcome of an operation that may fail for reasons outside this program's control (a file, a guest,
// a request). Bugs use CHECK instead; absence uses std::optional. A Result must be looked at before it is dropped.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"

namespace driftwood {

// What kind of failure it was: callers branch on this, people read Error::message.
enum class ErrorCode {
    kInvalidArgument,  // the caller asked for something that makes no sense
    kNotFound,         // a named thing does not exist
    kAlreadyExists,    // a named thing is in the way
    kCorrupt,          // bytes do not match their hash or their format
    kMismatch,         // well-formed, but belongs to something else (module, model, version)
    kUnsupported,      // understood and refused, by name
    kLimit,            // a named limit would be exceeded
    kIo,               // the operating system refused
    kTrap,             // a guest trapped
    kDeadline,         // a guest or an operation ran out of its time
    kNotFinite,        // a model's activations are NaN or infinite
    kInternal,         // a dependency failed in a way it should not (a caught panic)
};

std::string_view error_code_name(ErrorCode code);

struct Error {
    ErrorCode code = ErrorCode::kInternal;
    std::string message;  // "[operation] thing: want X, got Y", plus the fix where there is one
};

// Makes an Error; `message` is complete as it stands (use fmt or operator+ at the call).
[[nodiscard]] inline Error error(ErrorCode code, std::string message) { return Error{code, std::move(message)}; }

// An IO error that carries errno's text: "[what] path: No such file or directory".
[[nodiscard]] Error errno_error(std::string_view operation, std::string_view thing);

template <class T>
class [[nodiscard]] Result {
  public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const { return state_.index() == 0; }
    explicit operator bool() const { return ok(); }

    // Precondition: ok(). Of a temporary by value, so that `for (auto x : *f())` holds what it walks through.
    T& value() & { return CHECK_OK_(), *std::get_if<0>(&state_); }
    const T& value() const& { return CHECK_OK_(), *std::get_if<0>(&state_); }
    T value() && { return CHECK_OK_(), std::move(*std::get_if<0>(&state_)); }
    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

    // Precondition: !ok().
    const Error& error() const& { return CHECK_FAILED_(), *std::get_if<1>(&state_); }
    Error&& error() && { return CHECK_FAILED_(), std::move(*std::get_if<1>(&state_)); }

  private:
    void CHECK_OK_() const {
        if (!ok()) check_failed("Result::value() of a failure", std::get_if<1>(&state_)->message);
    }
    void CHECK_FAILED_() const { CHECK(!ok()); }
    std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
  public:
    Result() = default;
    Result(Error error) : error_(std::move(error)), failed_(true) {}

    bool ok() const { return !failed_; }
    explicit operator bool() const { return ok(); }
    void value() const {
        if (failed_) check_failed("Result::value() of a failure", error_.message);
    }
    const Error& error() const& { return CHECK(failed_), error_; }
    Error&& error() && { return CHECK(failed_), std::move(error_); }

  private:
    Error error_;
    bool failed_ = false;
};

}  // namespace driftwood

// Returns the error of `expr` (a Result) from the enclosing function, if it has one.
#define DW_TRY(expr)                                                 \
    do {                                                             \
        if (auto dw_result_ = (expr); !dw_result_.ok()) [[unlikely]] \
            return std::move(dw_result_).error();                    \
    } while (0)

// DW_ASSIGN(auto x, expr): as DW_TRY, else moves the value into x.
#define DW_CONCAT_(a, b) a##b
#define DW_NAME_(a, b) DW_CONCAT_(a, b)
#define DW_ASSIGN(decl, expr) DW_ASSIGN_IMPL_(DW_NAME_(dw_result_, __LINE__), decl, expr)
#define DW_ASSIGN_IMPL_(tmp, decl, expr) \
    auto tmp = (expr);                   \
    if (!tmp.ok()) [[unlikely]]          \
        return std::move(tmp).error();   \
    decl = std::move(tmp).value()
