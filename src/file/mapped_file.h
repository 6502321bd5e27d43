// A whole file mapped read-only: model weights, and the bytes behind a SectionReader.
// Owner: move-only; unmaps and closes at its end. Threads: any may read. The file must not change while it is mapped.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/result.h"
#include "memory/shared_file.h"

namespace driftwood::file {

class MappedFile {
  public:
    // Opens and maps the regular file `path` (symbolic links are followed; pipes and devices are refused unread).
    static Result<MappedFile> open(const std::string& path);

    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;
    ~MappedFile();

    std::span<const uint8_t> bytes() const { return {data_, size_}; }
    size_t size() const { return size_; }
    int fd() const { return file_->fd(); }
    const memory::SharedFile& file() const { return file_; }  // for Regions that map it
    const std::string& path() const { return path_; }

    // How far long work is, in bytes of the file; called on the caller's thread. May be empty.
    using Progress = std::function<void(uint64_t done)>;

    // Reads [begin, end) of the file, which begins at a page, into the page cache and maps it, on several threads.
    // False where the system cannot be asked for that. kIo: it cannot be read, or has become shorter.
    Result<bool> populate(uint64_t begin, uint64_t end, const Progress& progress);

    // Reads the file into memory of this process, in huge pages where there are some, which takes the map's place: same
    // addresses, same bytes, views stay valid. Precondition: nobody reads meanwhile. kIo: it cannot be read, or is not
    // what it was when it was opened (size, time of the last change); read nothing from it afterwards. kLimit: the
    // system gives no such memory; kUnsupported: a system other than Linux; after these two all is as it was.
    Result<void> copy_into_memory(const Progress& progress);
    bool is_copy() const { return copied_; }

  private:
    MappedFile() = default;
    Result<void> check_unchanged() const;
    void unmap();

    std::string path_;
    memory::SharedFile file_;
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
    int64_t changed_ns_ = 0;  // st_mtim when it was opened
    bool copied_ = false;
};

}  // namespace driftwood::file
