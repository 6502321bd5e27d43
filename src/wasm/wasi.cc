// WASI preview 1 as far as an ordinary tool chain's start-up, printf, clock and random need it
// (https://github.com/WebAssembly/WASI/blob/main/legacy/preview1/docs.md). There are three descriptors and no files:
// stdin is at its end, stdout and stderr go to the actor's log. Time and randomness are the actor's.
#include <algorithm>

#include "wasm/marshal.h"

namespace driftwood::wasm {
namespace {

constexpr uint8_t kCharacterDevice = 2;
constexpr uint64_t kRightRead = uint64_t{1} << 1;
constexpr uint64_t kRightSetFlags = uint64_t{1} << 3;
constexpr uint64_t kRightWrite = uint64_t{1} << 6;
constexpr int32_t kStdin = 0;
constexpr int32_t kClocks = 4;           // realtime, monotonic, process and thread CPU time
constexpr uint64_t kClockStepNs = 1000;  // what clock_res_get claims

struct FdStat {
    uint8_t filetype;
    uint8_t unused = 0;
    uint16_t flags;
    uint32_t unused2 = 0;
    uint64_t rights_base;
    uint64_t rights_inheriting = 0;
};
static_assert(sizeof(FdStat) == 24);

struct FileStat {
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t filetype = kCharacterDevice;
    uint64_t links = 1;
    uint64_t size = 0;
    uint64_t accessed = 0;
    uint64_t modified = 0;
    uint64_t changed = 0;
};
static_assert(sizeof(FileStat) == 64);

struct Iovec {
    uint32_t offset;
    uint32_t length;
};

WasiState::Descriptor* open_descriptor(Guest& guest, int32_t fd) {
    if (fd < 0 || static_cast<size_t>(fd) >= guest.wasi.descriptors.size()) return nullptr;
    WasiState::Descriptor& descriptor = guest.wasi.descriptors[static_cast<size_t>(fd)];
    return descriptor.open ? &descriptor : nullptr;
}

// ---- Arguments and environment -------------------------------------------------------------------------------------

Wasi strings_sizes(const std::vector<std::string>& strings, Out<uint32_t> count, Out<uint32_t> bytes) {
    size_t total = 0;
    for (const std::string& string : strings) total += string.size() + 1;
    count.set(static_cast<uint32_t>(strings.size()));
    bytes.set(static_cast<uint32_t>(total));
    return Wasi::kSuccess;
}

// `pointers` and `buffer` are offsets of arrays whose sizes the guest learned from strings_sizes.
Wasi strings_get(Guest& guest, const std::vector<std::string>& strings, uint32_t pointers, uint32_t buffer) {
    for (const std::string& string : strings) {
        uint8_t* pointer = guest.at(pointers, sizeof(uint32_t));
        uint8_t* bytes = guest.at(buffer, string.size() + 1);
        if (pointer == nullptr || bytes == nullptr) return Wasi::kFault;
        std::memcpy(pointer, &buffer, sizeof(uint32_t));
        std::memcpy(bytes, string.c_str(), string.size() + 1);
        pointers += sizeof(uint32_t);
        buffer += static_cast<uint32_t>(string.size()) + 1;
    }
    return Wasi::kSuccess;
}

Wasi args_sizes_get(Guest& guest, Out<uint32_t> count, Out<uint32_t> bytes) {
    return strings_sizes(guest.wasi.args, count, bytes);
}

Wasi environ_sizes_get(Guest& guest, Out<uint32_t> count, Out<uint32_t> bytes) {
    return strings_sizes(guest.wasi.environment, count, bytes);
}

Wasi args_get(Guest& guest, Address pointers, Address buffer) {
    return strings_get(guest, guest.wasi.args, pointers.offset, buffer.offset);
}

Wasi environ_get(Guest& guest, Address pointers, Address buffer) {
    return strings_get(guest, guest.wasi.environment, pointers.offset, buffer.offset);
}

// ---- Clock, random, exit
// ---------------------------------------------------------------------------------------------

Wasi clock_time_get(Guest& guest, int32_t clock, int64_t /*precision*/, Out<uint64_t> out) {
    if (clock < 0 || clock >= kClocks) return Wasi::kInval;
    out.set(static_cast<uint64_t>(guest.host.now_ns()));
    return Wasi::kSuccess;
}

Wasi clock_res_get(Guest&, int32_t clock, Out<uint64_t> out) {
    if (clock < 0 || clock >= kClocks) return Wasi::kInval;
    out.set(kClockStepNs);
    return Wasi::kSuccess;
}

Wasi random_get(Guest& guest, std::span<uint8_t> out) {
    if (out.size() > kMaxRandomBytes) return Wasi::kInval;
    guest.host.random(out);
    return Wasi::kSuccess;
}

Exit proc_exit(Guest&, int32_t code) { return {code}; }

Wasi sched_yield(Guest&) { return Wasi::kSuccess; }

// ---- The three descriptors
// -------------------------------------------------------------------------------------------

// Iovecs are `count` pairs of (offset, length) at `iovecs`; false when any of it is outside linear memory.
bool read_iovec(const Guest& guest, uint32_t iovecs, uint32_t index, Iovec& out) {
    const uint64_t at = uint64_t{iovecs} + uint64_t{index} * sizeof(Iovec);
    const uint8_t* bytes = at > UINT32_MAX ? nullptr : guest.at(static_cast<uint32_t>(at), sizeof(Iovec));
    if (bytes == nullptr) return false;
    std::memcpy(&out, bytes, sizeof(out));
    return guest.at(out.offset, out.length) != nullptr;
}

Wasi fd_write(Guest& guest, int32_t fd, Address iovecs, uint32_t count, Out<uint32_t> written) {
    if (open_descriptor(guest, fd) == nullptr || fd == kStdin) return Wasi::kBadf;
    if (count > kMaxIovecs) return Wasi::kInval;
    // All are checked before the first is written: a failed call has written nothing.
    const uint32_t first = iovecs.offset;
    Iovec iovec{};
    for (uint32_t i = 0; i < count; i++) {
        if (!read_iovec(guest, first, i, iovec)) return Wasi::kFault;
    }
    uint32_t total = 0;
    for (uint32_t i = 0; i < count && total < kMaxWriteBytes; i++) {
        read_iovec(guest, first, i, iovec);
        const uint32_t length = std::min(iovec.length, kMaxWriteBytes - total);
        const auto* bytes = reinterpret_cast<const char*>(guest.at(iovec.offset, length));
        if (length != 0) guest.host.wasi_write(fd, {bytes, length});
        total += length;
    }
    written.set(total);
    return Wasi::kSuccess;
}

Wasi fd_read(Guest& guest, int32_t fd, Address iovecs, uint32_t count, Out<uint32_t> read) {
    if (open_descriptor(guest, fd) == nullptr || fd != kStdin) return Wasi::kBadf;
    if (count > kMaxIovecs) return Wasi::kInval;
    Iovec iovec{};
    for (uint32_t i = 0; i < count; i++) {
        if (!read_iovec(guest, iovecs.offset, i, iovec)) return Wasi::kFault;
    }
    read.set(0);
    return Wasi::kSuccess;
}

Wasi fd_close(Guest& guest, int32_t fd) {
    WasiState::Descriptor* descriptor = open_descriptor(guest, fd);
    if (descriptor == nullptr) return Wasi::kBadf;
    descriptor->open = false;
    return Wasi::kSuccess;
}

Wasi fd_seek(Guest& guest, int32_t fd, int64_t, int32_t, Out<uint64_t>) {
    return open_descriptor(guest, fd) == nullptr ? Wasi::kBadf : Wasi::kSpipe;
}

Wasi fd_tell(Guest& guest, int32_t fd, Out<uint64_t>) {
    return open_descriptor(guest, fd) == nullptr ? Wasi::kBadf : Wasi::kSpipe;
}

Wasi fd_fdstat_get(Guest& guest, int32_t fd, Out<FdStat> out) {
    const WasiState::Descriptor* descriptor = open_descriptor(guest, fd);
    if (descriptor == nullptr) return Wasi::kBadf;
    // A character device that can neither seek nor tell is what libc takes for a terminal: stdout is line-buffered.
    out.set({.filetype = kCharacterDevice,
             .flags = descriptor->flags,
             .rights_base = kRightSetFlags | (fd == kStdin ? kRightRead : kRightWrite)});
    return Wasi::kSuccess;
}

Wasi fd_fdstat_set_flags(Guest& guest, int32_t fd, uint32_t flags) {
    WasiState::Descriptor* descriptor = open_descriptor(guest, fd);
    if (descriptor == nullptr) return Wasi::kBadf;
    if (flags > kMaxFdFlags) return Wasi::kInval;
    descriptor->flags = static_cast<uint16_t>(flags);
    return Wasi::kSuccess;
}

Wasi fd_filestat_get(Guest& guest, int32_t fd, Out<FileStat> out) {
    if (open_descriptor(guest, fd) == nullptr) return Wasi::kBadf;
    out.set({});
    return Wasi::kSuccess;
}

// ---- What is not there: no files, no sockets, no polling. The types are those of the specification.
// --------------------

using Path = std::string_view;

template <Wasi kAnswer, class... Args>
Wasi refuse(Guest&, Args...) {
    return kAnswer;
}

template <auto F>
constexpr HostCall row(std::string_view name) {
    return host_call<F>("wasi_snapshot_preview1", name);
}

template <Wasi kAnswer, class... Args>
constexpr HostCall refusal(std::string_view name) {
    return row<&refuse<kAnswer, Args...>>(name);
}

using I32 = int32_t;
using U32 = uint32_t;
using I64 = int64_t;

constexpr HostCall kCalls[] = {
    row<&args_get>("args_get"),
    row<&args_sizes_get>("args_sizes_get"),
    row<&environ_get>("environ_get"),
    row<&environ_sizes_get>("environ_sizes_get"),
    row<&clock_res_get>("clock_res_get"),
    row<&clock_time_get>("clock_time_get"),
    row<&random_get>("random_get"),
    row<&proc_exit>("proc_exit"),
    row<&sched_yield>("sched_yield"),
    row<&fd_close>("fd_close"),
    row<&fd_fdstat_get>("fd_fdstat_get"),
    row<&fd_fdstat_set_flags>("fd_fdstat_set_flags"),
    row<&fd_filestat_get>("fd_filestat_get"),
    row<&fd_read>("fd_read"),
    row<&fd_seek>("fd_seek"),
    row<&fd_tell>("fd_tell"),
    row<&fd_write>("fd_write"),

    refusal<Wasi::kBadf, I32, Out<uint64_t>>("fd_prestat_get"),
    refusal<Wasi::kBadf, I32, Path>("fd_prestat_dir_name"),
    refusal<Wasi::kBadf, I32, Path, I64, Out<uint32_t>>("fd_readdir"),
    refusal<Wasi::kSpipe, I32, Address, U32, I64, Out<uint32_t>>("fd_pread"),
    refusal<Wasi::kSpipe, I32, Address, U32, I64, Out<uint32_t>>("fd_pwrite"),
    refusal<Wasi::kNosys, I32, I64, I64, I32>("fd_advise"),
    refusal<Wasi::kNosys, I32, I64, I64>("fd_allocate"),
    refusal<Wasi::kNosys, I32>("fd_datasync"),
    refusal<Wasi::kNosys, I32>("fd_sync"),
    refusal<Wasi::kNosys, I32, I64, I64>("fd_fdstat_set_rights"),
    refusal<Wasi::kNosys, I32, I64>("fd_filestat_set_size"),
    refusal<Wasi::kNosys, I32, I64, I64, I32>("fd_filestat_set_times"),
    refusal<Wasi::kNosys, I32, I32>("fd_renumber"),
    refusal<Wasi::kNotcapable, I32, Path>("path_create_directory"),
    refusal<Wasi::kNotcapable, I32, I32, Path, Out<FileStat>>("path_filestat_get"),
    refusal<Wasi::kNotcapable, I32, I32, Path, I64, I64, I32>("path_filestat_set_times"),
    refusal<Wasi::kNotcapable, I32, I32, Path, I32, Path>("path_link"),
    refusal<Wasi::kNotcapable, I32, I32, Path, I32, I64, I64, I32, Out<uint32_t>>("path_open"),
    refusal<Wasi::kNotcapable, I32, Path, Path, Out<uint32_t>>("path_readlink"),
    refusal<Wasi::kNotcapable, I32, Path>("path_remove_directory"),
    refusal<Wasi::kNotcapable, I32, Path, I32, Path>("path_rename"),
    refusal<Wasi::kNotcapable, Path, I32, Path>("path_symlink"),
    refusal<Wasi::kNotcapable, I32, Path>("path_unlink_file"),
    refusal<Wasi::kNotsup, Address, Address, U32, Out<uint32_t>>("poll_oneoff"),
    refusal<Wasi::kNosys, I32>("proc_raise"),
    refusal<Wasi::kNotcapable, I32, I32, Out<uint32_t>>("sock_accept"),
    refusal<Wasi::kNotcapable, I32, Address, U32, I32, Out<uint32_t>, Out<uint16_t>>("sock_recv"),
    refusal<Wasi::kNotcapable, I32, Address, U32, I32, Out<uint32_t>>("sock_send"),
    refusal<Wasi::kNotcapable, I32, I32>("sock_shutdown"),
};

}  // namespace

Result<void> WasiState::check() const {
    uint64_t total = 0;
    for (const auto* strings : {&args, &environment}) {
        for (const std::string& string : *strings) {
            total += string.size() + 1;
            if (string.find('\0') != std::string::npos) {
                return error(ErrorCode::kInvalidArgument,
                             "[wasm.wasi] arguments and environment: one holds a zero byte");
            }
        }
    }
    if (total > kMaxWasiStringBytes) {
        return error(ErrorCode::kLimit, "[wasm.wasi] arguments and environment: want at most " +
                                            std::to_string(kMaxWasiStringBytes) + " bytes, got " +
                                            std::to_string(total));
    }
    return {};
}

std::span<const HostCall> wasi_calls() { return kCalls; }

}  // namespace driftwood::wasm
