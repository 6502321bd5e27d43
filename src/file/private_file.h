// Files that nobody else can change: the condition for mapping one in place (a file must never change under a map).
// Threads: any; no function keeps state.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "file/fd.h"

namespace driftwood::file {

// Whether the open file `fd` is as a commit leaves it: a regular file owned by this process's effective user, with mode
// 0600 exactly. Whether it lies in a directory of ours, or one the user named, is for the caller to know.
bool is_committed_by_us(int fd);
// The same of `path`, which must not be a symbolic link itself. False where there is no such file.
bool is_committed_by_us(const std::string& path);

// The directory `path`, open; made (0700) if there is none, in a parent that there is. kInvalidArgument for one that
// others may enter, that is somebody else's or a symbolic link.
Result<Fd> open_private_directory(const std::string& path);

enum class ImportMethod {
    kReflinked,  // shares its blocks with the source until either changes; costs nothing
    kCopied,
};
std::string_view import_method_name(ImportMethod method);  // "reflinked", "copied"

struct Imported {
    std::string path;  // of mode 0600, inside the private directory; the caller removes it
    ImportMethod method = ImportMethod::kCopied;
    uint64_t size_bytes = 0;
};

// Takes a private copy of the regular file `source`, so that it can be mapped: reflinked where the file system can,
// else copied with its holes. `private_directory` is made (0700) if it does not exist; one that others may enter or
// that is a symbolic link is refused (kInvalidArgument). The copy is not synced to disk: it is as short-lived as its
// map.
Result<Imported> import_file(const std::string& source, const std::string& private_directory);

// A sealed in-memory file that holds `bytes` and zeros up to the next multiple of the page size; nobody can change it,
// so any number of Regions may map it.
Result<Fd> memory_file(const std::string& name, std::span<const uint8_t> bytes);

}  // namespace driftwood::file
