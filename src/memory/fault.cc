#include "memory/fault.h"

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "memory/region.h"

namespace driftwood::memory {

// One guarded range. Read by the handler at any moment, written by the guard's owner: `version` is odd while the owner
// writes, and a reader that saw it change reads again (a sequence lock). Slots are never freed, so that the handler can
// look at any of them.
struct FaultSlot {
    std::atomic<uint32_t> version{0};
    std::atomic<uintptr_t> begin{0};
    std::atomic<uintptr_t> end{0};  // equal to begin: not in use
    std::atomic<bool> writable{false};
    std::atomic<bool> failed{false};
};

namespace {

static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

constexpr size_t kChunkSlots = 1024;
constexpr size_t kChunks = kMaxFaultGuards / kChunkSlots;
using Chunk = std::array<FaultSlot, kChunkSlots>;

struct Table {
    std::array<std::atomic<Chunk*>, kChunks> chunks{};
    std::mutex mutex;  // guards what follows; the handler does not touch it
    std::vector<FaultSlot*> unused;
    bool installed = false;
    struct sigaction previous {};  // written once, before the handler is installed
};

// Never destroyed: a fault may come while the process ends. A plain pointer, so that the handler initialises nothing.
std::atomic<Table*> g_table{nullptr};

struct Range {
    uintptr_t begin = 0;
    uintptr_t end = 0;
    bool writable = false;
};

// What the slot guards at one moment. Waits for an owner on another thread that is changing it, for some instructions;
// an owner on this thread is not there: it touches no guarded page meanwhile.
Range read_slot(const FaultSlot& slot) {
    for (;;) {
        const uint32_t before = slot.version.load(std::memory_order_acquire);
        const Range range{slot.begin.load(std::memory_order_relaxed), slot.end.load(std::memory_order_relaxed),
                          slot.writable.load(std::memory_order_relaxed)};
        std::atomic_thread_fence(std::memory_order_acquire);
        if (before % 2 == 0 && slot.version.load(std::memory_order_relaxed) == before) return range;
    }
}

void write_slot(FaultSlot& slot, const Range& range) {
    const uint32_t version = slot.version.load(std::memory_order_relaxed);
    slot.version.store(version + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    slot.begin.store(range.begin, std::memory_order_relaxed);
    slot.end.store(range.end, std::memory_order_relaxed);
    slot.writable.store(range.writable, std::memory_order_relaxed);
    slot.version.store(version + 2, std::memory_order_release);
}

// From here to on_fault: only what a signal handler may call. mmap is a bare system call.
bool replace_by_zeros(const Range& range) {
    const int protection = PROT_READ | (range.writable ? PROT_WRITE : 0);
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    void* at = reinterpret_cast<void*>(range.begin);
    return mmap(at, range.end - range.begin, protection, kFlags, -1, 0) != MAP_FAILED;
}

bool handle(uintptr_t address) {
    Table* table = g_table.load(std::memory_order_acquire);
    if (table == nullptr) return false;
    for (const std::atomic<Chunk*>& entry : table->chunks) {
        Chunk* chunk = entry.load(std::memory_order_acquire);
        if (chunk == nullptr) return false;
        for (FaultSlot& slot : *chunk) {
            const Range range = read_slot(slot);
            if (address < range.begin || address >= range.end) continue;
            // First the mark: whoever reads a zero of ours finds the guard failed.
            slot.failed.store(true, std::memory_order_seq_cst);
            return replace_by_zeros(range);
        }
    }
    return false;
}

void on_fault(int signal, siginfo_t* info, void* context) {
    const int saved = errno;
    // A positive code: the kernel says that an access failed. Anything else was sent by a process and has no address.
    const bool handled = info->si_code > 0 && handle(reinterpret_cast<uintptr_t>(info->si_addr));
    errno = saved;
    if (handled) return;
    const struct sigaction& previous = g_table.load(std::memory_order_acquire)->previous;
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(signal, info, context);
    } else if (previous.sa_handler == SIG_DFL || previous.sa_handler == SIG_IGN) {
        // The access is repeated when this returns, and then ends the process as if nobody had ever handled it. A
        // signal that was sent is not repeated by itself.
        sigaction(signal, &previous, nullptr);
        if (info->si_code <= 0 && previous.sa_handler == SIG_DFL) raise(signal);
    } else {
        previous.sa_handler(signal);
    }
}

Table& table() {
    static std::once_flag once;
    std::call_once(once, [] { g_table.store(new Table, std::memory_order_release); });
    return *g_table.load(std::memory_order_acquire);
}

Result<void> install(Table& table) {
    if (table.installed) return {};
    if (sigaction(SIGBUS, nullptr, &table.previous) != 0) return errno_error("memory.guard", "SIGBUS");
    struct sigaction action {};
    action.sa_sigaction = on_fault;
    // On the thread's signal stack where it has one; and a second fault inside an older handler finds this one again.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, nullptr) != 0) return errno_error("memory.guard", "SIGBUS");
    table.installed = true;
    return {};
}

// With the table's mutex held.
Result<FaultSlot*> take_slot(Table& table) {
    if (table.unused.empty()) {
        size_t index = 0;
        while (index < kChunks && table.chunks[index].load(std::memory_order_relaxed) != nullptr) ++index;
        if (index == kChunks) {
            return error(ErrorCode::kLimit,
                         "[memory.guard] " + std::to_string(kMaxFaultGuards) + " maps of files are all there can be");
        }
        auto chunk = std::make_unique<Chunk>();
        table.unused.reserve((index + 1) * kChunkSlots);  // so that giving a slot back never allocates
        for (size_t i = kChunkSlots; i > 0; --i) table.unused.push_back(&(*chunk)[i - 1]);
        table.chunks[index].store(chunk.release(), std::memory_order_release);
    }
    FaultSlot* slot = table.unused.back();
    table.unused.pop_back();
    return slot;
}

Result<FaultSlot*> make_slot(const Range& range, bool failed) {
    Table& all = table();
    const std::lock_guard lock(all.mutex);
    DW_TRY(install(all));
    DW_ASSIGN(FaultSlot * slot, take_slot(all));
    slot->failed.store(failed);
    write_slot(*slot, range);
    return slot;
}

}  // namespace

Result<FaultGuard> FaultGuard::watch(uint8_t* at, size_t length, Access access) {
    const auto begin = reinterpret_cast<uintptr_t>(at);
    CHECK(length > 0 && begin % page_size() == 0 && length % page_size() == 0);
    FaultGuard guard;
    DW_ASSIGN(guard.slot_, make_slot({begin, begin + length, access == Access::kReadWrite}, /*failed=*/false));
    return guard;
}

FaultGuard::FaultGuard(FaultGuard&& other) noexcept : slot_(std::exchange(other.slot_, nullptr)) {}

FaultGuard& FaultGuard::operator=(FaultGuard&& other) noexcept {
    if (this == &other) return *this;
    release();
    slot_ = std::exchange(other.slot_, nullptr);
    return *this;
}

FaultGuard::~FaultGuard() { release(); }

void FaultGuard::release() {
    if (slot_ == nullptr) return;
    write_slot(*slot_, {});
    Table& all = table();
    const std::lock_guard lock(all.mutex);
    all.unused.push_back(std::exchange(slot_, nullptr));
}

bool FaultGuard::failed() const { return slot_ != nullptr && slot_->failed.load(std::memory_order_seq_cst); }

Result<FaultGuard> FaultGuard::split(uint8_t* at) {
    CHECK(slot_ != nullptr);
    const Range all = read_slot(*slot_);
    const auto middle = reinterpret_cast<uintptr_t>(at);
    CHECK(middle > all.begin && middle < all.end && middle % page_size() == 0);
    FaultGuard rest;
    DW_ASSIGN(rest.slot_, make_slot({middle, all.end, all.writable}, failed()));
    write_slot(*slot_, {all.begin, middle, all.writable});
    return rest;
}

}  // namespace driftwood::memory
