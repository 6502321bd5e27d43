// For tests: something that pins pages and writes to them as a device driver does: io_uring's registered buffers.
#pragma once

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace driftwood::memory {

class PinnedDevice {
  public:
    PinnedDevice() : source_(memfd_create("pinned_device", MFD_CLOEXEC)) {
        ring_ = static_cast<int>(syscall(__NR_io_uring_setup, 1, &params_));
        if (ring_ < 0) {
            fail("io_uring_setup");
            return;
        }
        submissions_ = map(params_.sq_off.array + params_.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
        completions_ = map(params_.cq_off.cqes + params_.cq_entries * sizeof(io_uring_cqe), IORING_OFF_CQ_RING);
        entries_ = map(params_.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES);
    }
    ~PinnedDevice() {
        for (const std::span<uint8_t> area : {submissions_, completions_, entries_}) {
            if (area.data() != nullptr) munmap(area.data(), area.size());
        }
        if (ring_ >= 0) close(ring_);
        close(source_);
    }
    PinnedDevice(const PinnedDevice&) = delete;
    PinnedDevice& operator=(const PinnedDevice&) = delete;

    bool ok() const { return problem_.empty(); }
    const std::string& problem() const { return problem_; }

    bool pin(std::span<uint8_t> bytes) {
        const iovec buffer = {bytes.data(), bytes.size()};
        if (syscall(__NR_io_uring_register, ring_, IORING_REGISTER_BUFFERS, &buffer, 1) != 0) fail("register buffers");
        return ok();
    }

    void unpin() {
        if (syscall(__NR_io_uring_register, ring_, IORING_UNREGISTER_BUFFERS, nullptr, 0) != 0) fail("unregister");
    }

    // Fills [at, at + length), inside what is pinned, through the pin.
    bool write(uint8_t* at, size_t length, uint8_t value) {
        const std::vector<uint8_t> bytes(length, value);
        if (pwrite(source_, bytes.data(), length, 0) != static_cast<ssize_t>(length)) return fail("pwrite"), false;
        io_uring_sqe entry{};
        entry.opcode = IORING_OP_READ_FIXED;
        entry.fd = source_;
        entry.addr = reinterpret_cast<uintptr_t>(at);
        entry.len = static_cast<uint32_t>(length);
        std::memcpy(entries_.data(), &entry, sizeof entry);
        word(submissions_, params_.sq_off.array) = 0;
        std::atomic_ref(word(submissions_, params_.sq_off.tail)).fetch_add(1);
        if (syscall(__NR_io_uring_enter, ring_, 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) != 1) {
            return fail("io_uring_enter"), false;
        }
        std::atomic_ref head(word(completions_, params_.cq_off.head));
        const uint32_t slot = head.load() & word(completions_, params_.cq_off.ring_mask);
        io_uring_cqe done{};
        std::memcpy(&done, completions_.data() + params_.cq_off.cqes + slot * sizeof done, sizeof done);
        head.fetch_add(1);
        errno = done.res < 0 ? -done.res : EIO;
        if (done.res != static_cast<int32_t>(length)) fail("read into the pinned buffer");
        return ok();
    }

  private:
    std::span<uint8_t> map(size_t length, off_t what) {
        void* at = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring_, what);
        if (at == MAP_FAILED) return fail("mmap of the ring"), std::span<uint8_t>();
        return {static_cast<uint8_t*>(at), length};
    }
    static uint32_t& word(std::span<uint8_t> area, size_t offset) {
        return *reinterpret_cast<uint32_t*>(area.data() + offset);
    }
    void fail(const std::string& what) { problem_ = what + ": " + std::strerror(errno); }

    io_uring_params params_{};
    int source_;
    int ring_ = -1;
    std::span<uint8_t> submissions_, completions_, entries_;
    std::string problem_;
};

}  // namespace driftwood::memory
