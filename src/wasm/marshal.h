// From Wasm's untyped values to a typed C++ call and back. A host function is written with the types it means:
//
//   int32_t, uint32_t, int64_t, bool              one value
//   std::string_view, std::span<const uint8_t>    (offset, length): bytes of linear memory to read
//   std::span<uint8_t>                            (offset, length): bytes to write
//   GuestRange                                    (offset, length): checked now, filled later
//   GuestArray<T>, GuestFloats                    (offset, count): values of 4 bytes, now or later
//   a struct of guest.h                           (offset, size): copied, versioned by size
//   OutStruct<T>                                  (offset, size): where such a struct goes
//   Out<T>                                        (offset): where one T goes
//   Address                                       (offset): inside memory; the function checks what lies there
//
// and host_call<F>() makes the row of host_calls.h from it: signature, bounds checks in 64 bits (-EFAULT for any range
// outside linear memory), the call, the result. Nothing is thrown across the boundary. For this folder only.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <string>
#include <tuple>
#include <type_traits>

#include "wasm/guest.h"
#include "wasm/host_calls.h"
#include "wasm/limits.h"

namespace driftwood::wasm {

enum class When : uint8_t { kAlways, kInTurn };  // kInTurn: refused with -EINVAL while the guest is being born

// WASI's error numbers differ from ours, and are positive.
enum class Wasi : int32_t {
    kSuccess = 0,
    kBadf = 8,
    kFault = 21,
    kInval = 28,
    kNosys = 52,
    kNotsup = 58,
    kSpipe = 70,
    kNotcapable = 76,
};

// The result of a call that does not come back: the actor has stopped with this code.
struct Exit {
    int32_t code;
};

// The address of one T in linear memory, of any alignment.
template <class T>
struct Out {
    uint8_t* at = nullptr;
    void set(T value) const { std::memcpy(at, &value, sizeof(T)); }
};

struct Address {
    uint32_t offset = 0;
};

// Where a struct versioned by size goes: as much of it as fits, zeros behind it.
template <class T>
struct OutStruct {
    std::span<uint8_t> bytes;
    int32_t set(const T& value) const {
        if (bytes.empty()) return -DRIFTWOOD_EINVAL;
        if (bytes.size() > kMaxStructBytes) return -DRIFTWOOD_EOVERFLOW;
        std::fill(bytes.begin(), bytes.end(), uint8_t{0});
        std::memcpy(bytes.data(), &value, std::min(sizeof value, bytes.size()));
        return 0;
    }
};

template <class T>
struct IsOut : std::false_type {};
template <class T>
struct IsOut<Out<T>> : std::true_type {};

template <class T>
struct IsOutStruct : std::false_type {};
template <class T>
struct IsOutStruct<OutStruct<T>> : std::true_type {};

// Counted in values of 4 bytes, not in bytes.
template <class T>
inline constexpr bool kIsCounted = std::is_same_v<T, GuestArray<uint32_t>> || std::is_same_v<T, GuestFloats>;
inline constexpr uint64_t kCountedBytes = 4;

template <class T>
inline constexpr bool kIsGuestStruct =
    std::is_class_v<T>&& std::is_trivially_copyable_v<T>&& std::is_standard_layout_v<T>;

// How many values a parameter of type T takes, and which.
template <class T>
constexpr auto slots_of() {
    if constexpr (std::is_same_v<T, int64_t>) {
        return std::array{Slot::kI64};
    } else if constexpr (std::is_integral_v<T>) {
        return std::array{Slot::kI32};
    } else if constexpr (IsOut<T>::value || std::is_same_v<T, Address>) {
        return std::array{Slot::kPointer};
    } else if constexpr (kIsCounted<T>) {
        return std::array{Slot::kPointer, Slot::kCount};
    } else {
        return std::array{Slot::kPointer, Slot::kLength};
    }
}

template <class... Args>
constexpr auto slots_of_all() {
    std::array<Slot, (slots_of<Args>().size() + ... + 0)> all{};
    size_t n = 0;
    [[maybe_unused]] const auto append = [&](const auto& slots) {
        for (const Slot slot : slots) all[n++] = slot;
    };
    (append(slots_of<Args>()), ...);
    return all;
}

// Reads a call's values in order. The first bad one sets `error`; what is read after it is empty.
class Arguments {
  public:
    Arguments(Guest& guest, const wasmtime_val_raw_t* values) : guest_(guest), next_(values) {}
    int32_t error() const { return error_; }

    template <class T>
    T take() {
        if constexpr (std::is_same_v<T, int64_t>) {
            return (next_++)->i64;
        } else if constexpr (std::is_same_v<T, bool>) {
            return (next_++)->i32 != 0;
        } else if constexpr (std::is_integral_v<T>) {
            return static_cast<T>((next_++)->i32);
        } else if constexpr (std::is_same_v<T, Address>) {
            const auto offset = take<uint32_t>();
            bytes(offset, 0);
            return {offset};
        } else if constexpr (IsOut<T>::value) {
            const auto offset = take<uint32_t>();
            return T{bytes(offset, sizeof(decltype(value_type(T{}))))};
        } else {
            const auto offset = take<uint32_t>();
            const auto length = take<uint32_t>();
            return range<T>(offset, length);
        }
    }

  private:
    template <class U>
    static U value_type(Out<U>);

    uint8_t* bytes(uint32_t offset, uint64_t length) {
        uint8_t* at = guest_.at(offset, length);
        if (at == nullptr && error_ == 0) error_ = DRIFTWOOD_EFAULT;
        return at;
    }

    template <class T>
    T range(uint32_t offset, uint32_t length) {
        uint8_t* at = bytes(offset, kIsCounted<T> ? length * kCountedBytes : length);
        if (at == nullptr) return T{};
        if constexpr (std::is_same_v<T, GuestRange> || std::is_same_v<T, GuestFloats>) {
            return {offset, length};
        } else if constexpr (kIsCounted<T>) {
            return {at, length};
        } else if constexpr (IsOutStruct<T>::value) {
            return {{at, length}};
        } else if constexpr (std::is_same_v<T, std::string_view>) {
            return {reinterpret_cast<const char*>(at), length};
        } else if constexpr (std::is_constructible_v<T, uint8_t*, size_t>) {
            return T(at, length);
        } else {
            static_assert(kIsGuestStruct<T>);
            T value{};
            if (const int32_t bad = copy_struct(&value, sizeof(T), at, length); bad != 0 && error_ == 0) error_ = bad;
            return value;
        }
    }

    // Fields beyond the guest's size take their default, 0; a newer guest's further fields must all be 0.
    static int32_t copy_struct(void* out, size_t known, const uint8_t* from, uint32_t size) {
        if (size == 0) return DRIFTWOOD_EINVAL;
        if (size > kMaxStructBytes) return DRIFTWOOD_EOVERFLOW;
        for (size_t i = known; i < size; i++) {
            if (from[i] != 0) return DRIFTWOOD_ENOSYS;
        }
        std::memcpy(out, from, std::min<size_t>(known, size));
        return 0;
    }

    Guest& guest_;
    const wasmtime_val_raw_t* next_;
    int32_t error_ = 0;
};

template <class R>
constexpr std::optional<Slot> result_slot() {
    if constexpr (std::is_same_v<R, Exit>) {
        return std::nullopt;
    } else {
        return std::is_same_v<R, int64_t> ? Slot::kI64 : Slot::kI32;
    }
}

template <class R>
constexpr int64_t fault_result() {
    return std::is_same_v<R, Wasi> ? static_cast<int64_t>(Wasi::kFault) : -DRIFTWOOD_EFAULT;
}

// The bodies of a row, for a method of GuestHost and for a function of this folder.
template <auto F, class = decltype(F)>
struct HostFunction;

template <auto F, class R, class... Args>
struct HostFunction<F, R (GuestHost::*)(Args...)> {
    using Result = R;
    static constexpr auto kSlots = slots_of_all<std::decay_t<Args>...>();
    using Tuple = std::tuple<std::decay_t<Args>...>;
    static Tuple read(Arguments& in) { return Tuple{in.take<std::decay_t<Args>>()...}; }  // braces: in order
    static R call(Guest& guest, const Tuple& args) {
        return std::apply([&](const auto&... arg) { return (guest.host.*F)(arg...); }, args);
    }
};

template <auto F, class R, class... Args>
struct HostFunction<F, R (*)(Guest&, Args...)> {
    using Result = R;
    static constexpr auto kSlots = slots_of_all<std::decay_t<Args>...>();
    using Tuple = std::tuple<std::decay_t<Args>...>;
    static Tuple read(Arguments& in) { return Tuple{in.take<std::decay_t<Args>>()...}; }
    static R call(Guest& guest, const Tuple& args) {
        return std::apply([&](const auto&... arg) { return F(guest, arg...); }, args);
    }
};

inline wasm_trap_t* host_trap(std::string_view what) { return wasmtime_trap_new(what.data(), what.size()); }

template <class R>
wasm_trap_t* put_result(Guest& guest, wasmtime_val_raw_t* values, R result) {
    if constexpr (std::is_same_v<R, Exit>) {
        guest.exit_code = result.code;
        return host_trap("proc_exit");
    } else if constexpr (std::is_same_v<R, int64_t>) {
        values[0].i64 = result;
    } else {
        values[0].i32 = static_cast<int32_t>(result);
    }
    return nullptr;
}

template <auto F, When kWhen>
wasm_trap_t* host_callback(void*, wasmtime_caller_t* caller, wasmtime_val_raw_t* values, size_t) noexcept {
    using Function = HostFunction<F>;
    using R = typename Function::Result;
    Guest& guest = *static_cast<Guest*>(wasmtime_context_get_data(wasmtime_caller_context(caller)));
    if constexpr (kWhen == When::kInTurn) {
        if (guest.in_birth) return put_result<R>(guest, values, static_cast<R>(-DRIFTWOOD_EINVAL));
    }
    try {
        Arguments in(guest, values);
        const auto args = Function::read(in);
        if constexpr (std::is_same_v<R, Wasi>) {
            if (in.error() != 0) return put_result(guest, values, Wasi::kFault);
        } else if constexpr (!std::is_same_v<R, Exit>) {
            if (in.error() != 0) return put_result(guest, values, static_cast<R>(-in.error()));
        }
        return put_result(guest, values, Function::call(guest, args));
    } catch (const std::exception& failure) {
        guest.failure = std::string("the runtime failed: ") + failure.what();
    } catch (...) {
        guest.failure = "the runtime failed";
    }
    return host_trap(*guest.failure);
}

template <auto F, When kWhen = When::kAlways>
constexpr HostCall host_call(std::string_view module, std::string_view name) {
    using Function = HostFunction<F>;
    return {module,
            name,
            Function::kSlots,
            result_slot<typename Function::Result>(),
            fault_result<typename Function::Result>(),
            host_callback<F, kWhen>};
}

}  // namespace driftwood::wasm
