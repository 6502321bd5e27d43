#include "file/private_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/test_directory.h"

namespace driftwood::file {
namespace {

constexpr uint64_t kRoom = 1 << 20;

Hash key_of(uint8_t i) { return blake3(std::span(&i, 1)); }

struct PrivateCacheTest : testing::Test {
    PrivateCache open(uint64_t limit = kRoom) const { return PrivateCache::open(directory(), limit).value(); }
    std::string directory() const { return parent.file("a/b/cache"); }
    std::string path(uint8_t i) const { return directory() + "/" + to_hex(key_of(i)); }
    // As if it had been used that many seconds ago.
    void age(const std::string& file, int seconds) const {
        timespec now{};
        clock_gettime(CLOCK_REALTIME, &now);
        now.tv_sec -= seconds;
        const timespec times[2] = {now, now};
        ASSERT_EQ(utimensat(AT_FDCWD, file.c_str(), times, 0), 0);
    }

    const TestDirectory parent;
    const std::vector<uint8_t> value = random_bytes(10'000, 1);
};

TEST_F(PrivateCacheTest, returns_what_was_stored_under_that_key) {
    const PrivateCache cache = open();
    EXPECT_FALSE(cache.load(key_of(1)).has_value());
    ASSERT_TRUE(cache.store(key_of(1), value).ok());
    ASSERT_TRUE(cache.store(key_of(2), {}).ok());
    EXPECT_EQ(open().load(key_of(1)), value);
    EXPECT_EQ(open().load(key_of(2)), std::vector<uint8_t>());
    EXPECT_FALSE(cache.load(key_of(3)).has_value());
    const std::vector<uint8_t> other = random_bytes(20'000, 2);
    ASSERT_TRUE(cache.store(key_of(1), other).ok());
    EXPECT_EQ(cache.load(key_of(1)), other);
}

TEST_F(PrivateCacheTest, is_entered_by_nobody_else) {
    ASSERT_TRUE(open().store(key_of(1), value).ok());
    struct stat st {};
    ASSERT_EQ(stat(directory().c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0700u);
    ASSERT_EQ(stat(path(1).c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0600u);
}

TEST_F(PrivateCacheTest, refuses_a_directory_that_is_not_private) {
    (void)open();
    const std::string elsewhere = parent.file("elsewhere");
    for (const mode_t mode : {0755, 0770, 0701, 01777}) {
        ASSERT_EQ(chmod(directory().c_str(), mode), 0);
        const auto cache = PrivateCache::open(directory(), kRoom);
        ASSERT_FALSE(cache.ok()) << std::oct << mode;
        EXPECT_EQ(cache.error().code, ErrorCode::kInvalidArgument);
        EXPECT_NE(cache.error().message.find(directory()), std::string::npos) << cache.error().message;
    }
    ASSERT_EQ(chmod(directory().c_str(), 0700), 0);
    ASSERT_EQ(symlink(directory().c_str(), elsewhere.c_str()), 0);
    EXPECT_EQ(PrivateCache::open(elsewhere, kRoom).error().code, ErrorCode::kInvalidArgument);
    write_all(parent.file("plain"), value);
    EXPECT_EQ(PrivateCache::open(parent.file("plain"), kRoom).error().code, ErrorCode::kInvalidArgument);
    EXPECT_FALSE(PrivateCache::open(parent.file("plain") + "/below", kRoom).ok());
    if (geteuid() == 0) {  // only root can give a directory away
        ASSERT_EQ(chown(directory().c_str(), 12345, 12345), 0);
        EXPECT_EQ(PrivateCache::open(directory(), kRoom).error().code, ErrorCode::kInvalidArgument);
    }
}

TEST_F(PrivateCacheTest, loads_no_file_that_somebody_else_could_have_written) {
    const PrivateCache cache = open();
    ASSERT_TRUE(cache.store(key_of(1), value).ok());
    for (const mode_t mode : {0644, 0620, 0700}) {
        ASSERT_EQ(chmod(path(1).c_str(), mode), 0);
        EXPECT_FALSE(cache.load(key_of(1)).has_value()) << std::oct << mode;
    }
    ASSERT_EQ(chmod(path(1).c_str(), 0600), 0);
    EXPECT_EQ(cache.load(key_of(1)), value);
    ASSERT_EQ(symlink(path(1).c_str(), path(2).c_str()), 0);
    EXPECT_FALSE(cache.load(key_of(2)).has_value());
    ASSERT_EQ(mkfifo(path(3).c_str(), 0600), 0);
    EXPECT_FALSE(cache.load(key_of(3)).has_value());
    ASSERT_EQ(mkdir(path(4).c_str(), 0700), 0);
    EXPECT_FALSE(cache.load(key_of(4)).has_value());
    if (geteuid() == 0) {
        ASSERT_EQ(chown(path(1).c_str(), 12345, 12345), 0);
        EXPECT_FALSE(cache.load(key_of(1)).has_value());
    }
}

// Every byte of a small entry, flipped; every length that it could have been cut to.
TEST_F(PrivateCacheTest, a_damaged_entry_is_none_and_is_removed) {
    const PrivateCache cache = open();
    const std::vector<uint8_t> small = random_bytes(50, 3);
    ASSERT_TRUE(cache.store(key_of(1), small).ok());
    const std::vector<uint8_t> good = read_all(path(1));
    const auto put = [&](std::span<const uint8_t> bytes) {
        write_all(path(1), bytes);
        ASSERT_EQ(chmod(path(1).c_str(), 0600), 0);
    };
    for (size_t i = 0; i < good.size(); i++) {
        std::vector<uint8_t> bad = good;
        bad[i] ^= 1;
        put(bad);
        EXPECT_FALSE(cache.load(key_of(1)).has_value()) << "byte " << i;
        EXPECT_NE(access(path(1).c_str(), F_OK), 0) << "byte " << i;
        put(std::span(good).first(i));
        EXPECT_FALSE(cache.load(key_of(1)).has_value()) << "length " << i;
    }
    std::vector<uint8_t> longer = good;
    longer.push_back(0);
    put(longer);
    EXPECT_FALSE(cache.load(key_of(1)).has_value());
    put(good);
    EXPECT_EQ(cache.load(key_of(1)), small);
    ASSERT_EQ(rename(path(1).c_str(), path(2).c_str()), 0);  // another key's value
    EXPECT_FALSE(cache.load(key_of(2)).has_value());
}

TEST_F(PrivateCacheTest, drops_what_was_used_longest_ago) {
    const PrivateCache cache = open(35'000);  // three entries
    for (uint8_t i = 1; i <= 3; i++) {
        ASSERT_TRUE(cache.store(key_of(i), value).ok());
        age(path(i), 100 - i);
    }
    ASSERT_TRUE(cache.load(key_of(1)).has_value());  // now the youngest
    write_all(directory() + "/notes.txt", value);    // not ours to remove, and not counted
    write_all(directory() + "/.driftwood-left", value);
    age(directory() + "/.driftwood-left", 7200);
    ASSERT_TRUE(cache.store(key_of(4), value).ok());
    EXPECT_TRUE(cache.load(key_of(1)).has_value());
    EXPECT_FALSE(cache.load(key_of(2)).has_value());
    EXPECT_TRUE(cache.load(key_of(3)).has_value());
    EXPECT_TRUE(cache.load(key_of(4)).has_value());
    EXPECT_EQ(access((directory() + "/notes.txt").c_str(), F_OK), 0);
    EXPECT_NE(access((directory() + "/.driftwood-left").c_str(), F_OK), 0);
    const auto large = cache.store(key_of(5), random_bytes(40'000, 5));
    ASSERT_FALSE(large.ok());
    EXPECT_EQ(large.error().code, ErrorCode::kLimit);
    EXPECT_TRUE(cache.load(key_of(1)).has_value());
}

TEST_F(PrivateCacheTest, a_directory_that_goes_away_is_an_error_of_store_only) {
    const PrivateCache cache = open();
    ASSERT_TRUE(cache.store(key_of(1), value).ok());
    std::filesystem::remove_all(directory());
    EXPECT_FALSE(cache.load(key_of(1)).has_value());
    EXPECT_FALSE(cache.store(key_of(1), value).ok());
}

}  // namespace
}  // namespace driftwood::file
