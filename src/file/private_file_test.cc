#include "file/private_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "file/file_ops.h"
#include "file/mapped_file.h"
#include "file/test_directory.h"
#include "memory/region.h"

namespace driftwood::file {
namespace {

mode_t mode_of(const std::string& path) {
    struct stat st {};
    EXPECT_EQ(stat(path.c_str(), &st), 0);
    return st.st_mode & 07777;
}

bool committed_by_us(const std::string& path) {
    const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    return is_committed_by_us(fd.get());
}

TEST(IsCommittedByUsTest, wants_a_regular_file_of_mode_0600_that_is_no_link) {
    const TestDirectory dir;
    const std::string path = dir.file("a");
    write_all(path, random_bytes(10, 1));
    for (const mode_t mode : {0644, 0640, 0604, 0400, 0700, 01600}) {
        ASSERT_EQ(chmod(path.c_str(), mode), 0);
        EXPECT_FALSE(is_committed_by_us(path)) << std::oct << mode;
        EXPECT_FALSE(committed_by_us(path)) << std::oct << mode;
    }
    ASSERT_EQ(chmod(path.c_str(), 0600), 0);
    EXPECT_TRUE(is_committed_by_us(path));
    EXPECT_TRUE(committed_by_us(path));
    ASSERT_EQ(symlink(path.c_str(), dir.file("link").c_str()), 0);
    EXPECT_FALSE(is_committed_by_us(dir.file("link")));
    ASSERT_EQ(mkfifo(dir.file("pipe").c_str(), 0600), 0);
    EXPECT_FALSE(is_committed_by_us(dir.file("pipe")));
    EXPECT_FALSE(committed_by_us(dir.file("pipe")));
    EXPECT_FALSE(is_committed_by_us(dir.path()));
    EXPECT_FALSE(is_committed_by_us(dir.file("missing")));
    EXPECT_FALSE(is_committed_by_us(-1));
    if (geteuid() == 0) {  // only root can give a file away
        ASSERT_EQ(chown(path.c_str(), 12345, 12345), 0);
        EXPECT_FALSE(is_committed_by_us(path));
    }
}

TEST(ImportTest, makes_a_private_copy_that_keeps_its_holes) {
    const TestDirectory dir;
    const std::string source = dir.file("source");
    std::vector<uint8_t> content = random_bytes(100000, 2);
    content.resize(8 << 20);  // zeros
    write_all(source, std::span(content).first(100000));
    ASSERT_EQ(truncate(source.c_str(), static_cast<off_t>(content.size())), 0);
    ASSERT_EQ(chmod(source.c_str(), 0644), 0);
    const Imported imported = import_file(source, dir.file("private")).value();
    EXPECT_EQ(read_all(imported.path), content);
    EXPECT_EQ(imported.size_bytes, content.size());
    EXPECT_TRUE(is_committed_by_us(imported.path));
    EXPECT_EQ(mode_of(dir.file("private")), 0700u);
    struct stat st {};
    ASSERT_EQ(stat(imported.path.c_str(), &st), 0);
    EXPECT_LT(st.st_blocks * 512, 1 << 20);
    // What happens to the source no longer matters.
    write_all(source, random_bytes(10, 3));
    EXPECT_EQ(read_all(imported.path), content);
    const Imported second = import_file(imported.path, dir.file("private")).value();
    EXPECT_NE(second.path, imported.path);
}

TEST(ImportTest, takes_an_empty_file_and_data_after_a_hole) {
    const TestDirectory dir;
    write_all(dir.file("empty"), {});
    EXPECT_EQ(import_file(dir.file("empty"), dir.file("p"))->size_bytes, 0u);
    const std::vector<uint8_t> tail = random_bytes(5000, 4);
    SystemFileOps ops;
    {
        const Fd fd(ops.create(dir.file("tail")).value());
        ops.write(fd.get(), 4 << 20, tail).value();
    }
    const std::vector<uint8_t> copy = read_all(import_file(dir.file("tail"), dir.file("p"))->path);
    EXPECT_EQ(copy, read_all(dir.file("tail")));
    EXPECT_EQ(copy.size(), (4u << 20) + tail.size());
}

TEST(ImportTest, refuses_odd_sources_and_directories_that_others_may_enter) {
    const TestDirectory dir;
    write_all(dir.file("a"), random_bytes(10, 1));
    const auto code_of = [&](const std::string& source, const std::string& into) {
        return import_file(source, into).error().code;
    };
    EXPECT_EQ(code_of(dir.file("missing"), dir.file("p")), ErrorCode::kNotFound);
    EXPECT_EQ(code_of(dir.path(), dir.file("p")), ErrorCode::kInvalidArgument);
    ASSERT_EQ(mkfifo(dir.file("pipe").c_str(), 0600), 0);
    EXPECT_EQ(code_of(dir.file("pipe"), dir.file("p")), ErrorCode::kInvalidArgument);
    ASSERT_EQ(mkdir(dir.file("open").c_str(), 0700), 0);
    ASSERT_EQ(symlink(dir.file("open").c_str(), dir.file("link").c_str()), 0);
    EXPECT_EQ(code_of(dir.file("a"), dir.file("link")), ErrorCode::kInvalidArgument);
    ASSERT_EQ(chmod(dir.file("open").c_str(), 0755), 0);
    EXPECT_EQ(code_of(dir.file("a"), dir.file("open")), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code_of(dir.file("a"), dir.file("a")), ErrorCode::kInvalidArgument);
    EXPECT_EQ(code_of(dir.file("a"), dir.file("no/such")), ErrorCode::kNotFound);
}

TEST(MemoryFileTest, holds_the_bytes_and_zeros_to_the_end_of_the_page_and_is_sealed) {
    const size_t page = memory::page_size();
    std::vector<uint8_t> bytes = random_bytes(5 * page + 100, 5);
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(page), 2 * page, uint8_t{0});
    const Fd file = memory_file("birth", bytes).value();
    bytes.resize(6 * page);
    EXPECT_EQ(ftruncate(file.get(), 0), -1);
    EXPECT_EQ(pwrite(file.get(), "x", 1, 0), -1);
    EXPECT_EQ(errno, EPERM);
    std::vector<memory::Region> regions;
    for (int i = 0; i < 2; ++i) {
        regions.push_back(memory::Region::reserve(6 * page).value());
        regions[i].grow(6 * page).value();
        regions[i].map_file(0, file.get(), 0, 6 * page).value();
        EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), regions[i].base()));
        std::fill_n(regions[i].base(), 6 * page, uint8_t{0xEE});  // private: the next one sees the file
    }
    EXPECT_TRUE(memory_file("empty", {}).ok());
}

TEST(MappedFileTest, shows_the_file_and_survives_moving) {
    const TestDirectory dir;
    const std::vector<uint8_t> content = random_bytes(70001, 6);
    write_all(dir.file("a"), content);
    MappedFile first = MappedFile::open(dir.file("a")).value();
    MappedFile second = std::move(first);
    EXPECT_EQ(second.size(), content.size());
    EXPECT_TRUE(std::equal(content.begin(), content.end(), second.bytes().begin()));
    write_all(dir.file("empty"), {});
    second = MappedFile::open(dir.file("empty")).value();
    EXPECT_TRUE(second.bytes().empty());
    EXPECT_EQ(MappedFile::open(dir.file("missing")).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(MappedFile::open(dir.path()).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace driftwood::file
