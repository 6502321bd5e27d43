// RowBuffer: a vector of numbers whose memory begins where a cache line does. A std::vector's own begins 16 bytes
// behind one, as a rule, and then every 64 bytes that a kernel reads or writes are parts of two lines. Rows of a pass
// over many tokens lie a page or more apart, and kernels walk down their columns: buffers that are long enough ask for
// huge pages.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

#include "memory/huge_pages.h"

namespace driftwood::compute {

template <class T>
struct RowAllocator {
    using value_type = T;

    RowAllocator() = default;
    template <class Other>
    RowAllocator(const RowAllocator<Other>& /*other*/) {}  // NOLINT(google-explicit-constructor): what allocators do

    T* allocate(size_t count) {
        const size_t bytes = count * sizeof(T);
        void* const memory = ::operator new(bytes, alignment(bytes));
        if (bytes >= memory::kHugePage) memory::prefer_huge_pages(memory, bytes);
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, size_t count) { ::operator delete(memory, alignment(count * sizeof(T))); }

    friend bool operator==(const RowAllocator&, const RowAllocator&) { return true; }

  private:
    static constexpr size_t kLine = 64;
    static std::align_val_t alignment(size_t bytes) {
        return std::align_val_t{bytes >= memory::kHugePage ? memory::kHugePage : kLine};
    }
};

template <class T>
using RowBuffer = std::vector<T, RowAllocator<T>>;

}  // namespace driftwood::compute
