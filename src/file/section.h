// The two ends of a frozen thing: owners of state write named tensors into a SectionWriter and read them back, checked,
// from a SectionReader. The file between them is safetensors (https://github.com/huggingface/safetensors) whose data
// section and tensors start at multiples of 64 KiB, so that any of them can be mapped into place on systems with pages
// of 4, 16 or 64 KiB. file/ does not know what the tensors mean.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "file/file_ops.h"
#include "file/mapped_file.h"
#include "memory/shared_file.h"

namespace driftwood::file {

inline constexpr uint64_t kSectionAlign = 64 * 1024;  // every tensor starts at a multiple of this
inline constexpr uint64_t kHashSpan = 64 * 1024;      // one blake3 hash per this many bytes of the data section
inline constexpr uint64_t kMaxHeaderBytes = 16 * 1024 * 1024;  // a longer header is refused, unread
inline constexpr size_t kMaxDimensions = 16;                   // so is a shape with more

enum class DType { kU8, kI8, kI16, kU16, kI32, kU32, kI64, kU64, kF16, kBF16, kF32, kF64 };

std::string_view dtype_name(DType dtype);  // as safetensors spells it: "U8", "F32", …
size_t dtype_size(DType dtype);            // bytes per element
std::optional<DType> dtype_from_name(std::string_view name);

struct TensorInfo {
    DType dtype = DType::kU8;
    std::vector<uint64_t> shape;
    uint64_t file_offset = 0;  // from the start of the file; a multiple of kSectionAlign in files of ours
    uint64_t size_bytes = 0;   // product of the shape × bytes per element
};

using TensorMap = std::map<std::string, TensorInfo, std::less<>>;

// Collects tensors, then commits them as one file, in the order they were added. Borrowed bytes must stay alive and
// unchanged until commit returns. Threads: one at a time. A second commit writes the same again.
class SectionWriter {
  public:
    SectionWriter() = default;
    SectionWriter(SectionWriter&&) = default;
    SectionWriter& operator=(SectionWriter&&) = default;

    // A tensor whose bytes are the concatenation of `pieces` (borrowed). Their sizes must add up to shape × dtype
    // (CHECK). Names must be UTF-8, unique and none of the file's own (`__metadata__`, `__pad.…`, `image.hashes`):
    // commit refuses them otherwise.
    void add(std::string name, DType dtype, std::vector<uint64_t> shape, std::vector<std::span<const uint8_t>> pieces);
    // The same with bytes that the writer keeps.
    void add_owned(std::string name, DType dtype, std::vector<uint64_t> shape, std::vector<uint8_t> bytes);
    // The same with bytes that `fill` makes when they are written, so that a large tensor is in memory only then.
    // `fill` is called with zeroed bytes, at every commit, and gives the same every time.
    using Fill = std::function<void(std::span<uint8_t> out)>;
    void add_made(std::string name, DType dtype, std::vector<uint64_t> shape, Fill fill);
    // Asked when all bytes have been written and before the file gets its name: an error fails the commit. For lenders
    // of bytes that may be lost while they are written, because a file under them became unreadable (memory/fault.h).
    void add_check(std::function<Result<void>()> check) { checks_.push_back(std::move(check)); }
    // UTF-8, else commit refuses. `root_hash` is the file's own.
    void set_metadata(std::string key, std::string value);

    struct Committed {
        std::string root_hash;    // hex
        uint64_t file_bytes = 0;  // length of the file
        uint64_t disk_bytes = 0;  // what it occupies: zero pages are holes
    };

    // Writes everything to `path` so that a crash at any point leaves either nothing new or the whole file: temporary
    // file (mode 0600) in the same directory, fsync, rename, fsync of the directory. Adds `__pad.N` tensors (the format
    // allows no holes), `image.hashes` (one hash per kHashSpan bytes of everything before it) and the metadata
    // `root_hash`. With `replace` off an existing `path` is refused (kAlreadyExists).
    struct CommitOptions {
        bool replace = true;
        bool durable = true;  // off: no fsync (tests and benchmarks that say so)
    };
    Result<Committed> commit(const std::string& path, CommitOptions options) const;
    Result<Committed> commit(const std::string& path) const { return commit(path, CommitOptions{}); }
    // The same on another file system than the operating system's.
    Result<Committed> commit(FileOps& ops, const std::string& path, CommitOptions options) const;

  private:
    Result<void> check_names(const std::string& path) const;
    struct Tensor {
        std::string name;
        DType dtype;
        std::vector<uint64_t> shape;
        std::vector<std::span<const uint8_t>> pieces;
        std::vector<uint8_t> owned;
        Fill fill;  // makes the bytes in place of pieces
    };
    std::vector<Tensor> tensors_;
    std::map<std::string, std::string> metadata_;
    std::vector<std::function<Result<void>()>> checks_;
};

// A safetensors file, open and its header parsed and checked (offsets, shapes, overlaps, lengths: nothing in it is
// trusted). Data is mapped read-only; hashes are checked when asked for. Movable; keeps the file open while it lives.
// Threads: any may call any const function. The file must not change while it is open (see file/private_file.h). If a
// file opened with kRequired nevertheless becomes shorter or unreadable, its bytes read as zeros from then on, and
// whatever verifies, or asks check_intact(), gets an error; without hashes nobody would notice, so that file is not
// guarded and touching it ends the process.
class SectionReader {
  public:
    enum class Hashes {
        kRequired,  // a file of ours: image.hashes and root_hash must be there, the root is checked on open
        kNone,      // any safetensors file
    };
    // kCorrupt: not a well-formed file of that kind; kUnsupported: a dtype outside DType; kLimit: kMaxHeaderBytes.
    static Result<SectionReader> open(const std::string& path, Hashes hashes);

    SectionReader(SectionReader&&) noexcept;
    SectionReader& operator=(SectionReader&&) noexcept;
    ~SectionReader();

    int fd() const;
    const memory::SharedFile& file() const;  // for Regions that map it and shall be forked
    const std::string& path() const;
    uint64_t file_bytes() const;
    const std::map<std::string, std::string>& metadata() const;
    const TensorMap& tensors() const;                     // without padding and hashes
    const TensorInfo* find(std::string_view name) const;  // null when absent; lives as long as the reader

    // The metadata value, or kNotFound that names the key.
    Result<std::string> require_metadata(std::string_view key) const;
    // The tensor, with its dtype as expected and its number of elements a multiple of `inner` (the product of the inner
    // dimensions the caller relies on, at least 1); else kNotFound or kMismatch that names tensor, want and got.
    Result<TensorInfo> require(std::string_view name, DType dtype, uint64_t inner = 1) const;

    // The tensor's bytes in the read-only map (valid while the reader lives). NOT verified: see verify(). `tensor`
    // comes from this reader.
    std::span<const uint8_t> bytes(const TensorInfo& tensor) const;
    // Checks the hashes of all spans that touch [file_offset, file_offset + length); spans found good are remembered
    // and not hashed again. kCorrupt names the tensor. kUnsupported when opened without hashes.
    Result<void> verify(const TensorInfo& tensor, uint64_t offset_in_tensor, uint64_t length) const;
    Result<void> verify(const TensorInfo& tensor) const { return verify(tensor, 0, tensor.size_bytes); }
    Result<void> verify_all() const;
    // kIo when the file became shorter or unreadable since it was opened: what was read from it may be zeros. For
    // whoever has read bytes() after they were verified.
    Result<void> check_intact() const;
    // require() + verify() + bytes(): for small tensors that are read at once.
    Result<std::span<const uint8_t>> read(std::string_view name, DType dtype, uint64_t inner = 1) const;

    // Ends the reader and hands over the file with its map: spans from bytes() stay valid as long as that lives. It is
    // guarded no more: for who reads the bytes again and again and would not notice that they have become zeros.
    MappedFile release() &&;

  private:
    SectionReader();
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace driftwood::file
