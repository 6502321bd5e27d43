// A whole file mapped read-only: model weights, and the bytes behind a SectionReader.
// Owner: move-only; unmaps and closes at its end. Threads: any may read. The file must not change while it is mapped.
#pragma once

#include <cstdint>
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

  private:
    MappedFile() = default;
    void unmap();

    std::string path_;
    memory::SharedFile file_;
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace driftwood::file
