// What a commit leaves behind when the disk fails or the power goes at any of its system calls.
#include <gtest/gtest.h>

#include <memory>

#include "file/atomic_file.h"
#include "file/disk_model.h"
#include "file/section.h"
#include "file/test_directory.h"

namespace driftwood::file {
namespace {

using Fault = DiskModel::Fault;

constexpr uint64_t kSeeds = 16;  // how often chance decides what survives each power loss
const std::string kPath = "dir/image";

SectionWriter writer_of(uint64_t seed) {
    SectionWriter writer;
    writer.add_owned("a", DType::kU8, {70000}, random_bytes(70000, seed));
    writer.add_owned("b", DType::kU8, {9}, random_bytes(9, seed + 1));
    writer.set_metadata("seed", std::to_string(seed));
    return writer;
}

std::vector<uint8_t> file_of(uint64_t seed) {
    DiskModel disk;
    writer_of(seed).commit(disk, kPath, {}).value();
    return *disk.read(kPath);
}

const std::vector<uint8_t> kOld = file_of(100);
const std::vector<uint8_t> kNew = file_of(200);

enum class Before { kNothing, kOldFile };

struct Outcome {
    bool acknowledged = false;
    size_t calls = 0;
    bool is_old = false;
    bool is_new = false;
};

// One commit of the new file with a fault at call `fail_at`, and, for a power loss, what the disk then holds.
template <class Disk = DiskModel>
Outcome run_commit(Before before, SectionWriter::CommitOptions options, size_t fail_at, uint64_t seed) {
    Disk disk;
    if (before == Before::kOldFile) {
        writer_of(100).commit(disk, kPath, {}).value();
        disk.sync_directory("dir").value();
    }
    const size_t start = disk.calls();
    disk.fail_at(fail_at, Fault::kPowerLoss);
    Outcome outcome;
    outcome.acknowledged = writer_of(200).commit(disk, kPath, options).ok();
    outcome.calls = disk.calls() - start;
    disk.restart(seed);
    const std::vector<uint8_t>* bytes = disk.read(kPath);
    outcome.is_old = before == Before::kOldFile ? bytes != nullptr && *bytes == kOld : bytes == nullptr;
    outcome.is_new = bytes != nullptr && *bytes == kNew;
    return outcome;
}

void expect_old_or_new_at_every_call(Before before, SectionWriter::CommitOptions options) {
    const size_t calls = run_commit(before, options, 1000, 0).calls;
    ASSERT_GE(calls, 8u);
    for (size_t call = 0; call <= calls; ++call) {
        for (uint64_t seed = 0; seed < kSeeds; ++seed) {
            const Outcome outcome = run_commit(before, options, call, seed);
            ASSERT_TRUE(outcome.is_old || outcome.is_new) << "call " << call << " seed " << seed;
            ASSERT_TRUE(!outcome.acknowledged || outcome.is_new) << "call " << call << " seed " << seed;
            ASSERT_TRUE(outcome.acknowledged || call < calls);
        }
    }
}

TEST(CommitTest, a_power_loss_at_any_call_leaves_the_old_file_or_the_new_one) {
    expect_old_or_new_at_every_call(Before::kOldFile, {.replace = true, .durable = true});
    expect_old_or_new_at_every_call(Before::kNothing, {.replace = true, .durable = true});
    expect_old_or_new_at_every_call(Before::kNothing, {.replace = false, .durable = true});
}

// Disks that lie, to show that the test above would notice a commit that forgets one of its syncs.
class NoFileSync final : public DiskModel {
  public:
    Result<void> sync(int) override { return enter(); }
};
class NoDirectorySync final : public DiskModel {
  public:
    Result<void> sync_directory(const std::string&) override { return enter(); }
};

TEST(CommitTest, without_either_sync_the_model_shows_a_broken_or_a_lost_file) {
    size_t broken = 0;
    size_t lost = 0;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
        const Outcome torn = run_commit<NoFileSync>(Before::kNothing, {}, 1000, seed);
        broken += !torn.is_old && !torn.is_new;
        const Outcome gone = run_commit<NoDirectorySync>(Before::kNothing, {}, 1000, seed);
        lost += gone.acknowledged && !gone.is_new;
    }
    EXPECT_GT(broken, 0u);
    EXPECT_GT(lost, 0u);
}

TEST(CommitTest, an_error_at_any_call_is_reported_and_leaves_no_temporary_file) {
    for (const bool replace : {true, false}) {
        const Before before = replace ? Before::kOldFile : Before::kNothing;
        const size_t calls = run_commit(before, {.replace = replace, .durable = true}, 1000, 0).calls;
        for (size_t call = 0; call < calls; ++call) {
            DiskModel disk;
            if (replace) writer_of(100).commit(disk, kPath, {}).value();
            disk.fail_at(call, Fault::kError);
            const auto committed = writer_of(200).commit(disk, kPath, {.replace = replace, .durable = true});
            ASSERT_FALSE(committed.ok()) << call;
            EXPECT_EQ(committed.error().code, ErrorCode::kIo);
            EXPECT_NE(committed.error().message.find("[file.commit] dir/image: "), std::string::npos);
            const std::vector<uint8_t>* bytes = disk.read(kPath);
            const bool whole = bytes == nullptr ? !replace : *bytes == (call + 1 < calls && replace ? kOld : kNew);
            EXPECT_TRUE(whole) << call;
            // The one call that can leave a second name is the unlink after a link.
            const size_t extra = disk.names() - (bytes != nullptr);
            EXPECT_LE(extra, !replace && call + 2 == calls ? 1u : 0u) << call;
        }
    }
}

TEST(CommitTest, a_commit_that_need_not_be_durable_makes_no_sync) {
    class CountsSyncs final : public DiskModel {
      public:
        size_t syncs = 0;
        Result<void> sync(int fd) override { return ++syncs, DiskModel::sync(fd); }
        Result<void> sync_directory(const std::string& path) override {
            return ++syncs, DiskModel::sync_directory(path);
        }
    } disk;
    writer_of(200).commit(disk, kPath, {.replace = true, .durable = false}).value();
    EXPECT_EQ(disk.syncs, 0u);
    writer_of(200).commit(disk, kPath, {}).value();
    EXPECT_EQ(disk.syncs, 2u);
}

TEST(AtomicFileTest, writes_only_the_blocks_that_are_not_zero) {
    class CountsBytes final : public DiskModel {
      public:
        size_t written = 0;
        Result<void> write(int fd, uint64_t offset, std::span<const uint8_t> bytes) override {
            written += bytes.size();
            return DiskModel::write(fd, offset, bytes);
        }
    } disk;
    std::vector<uint8_t> bytes(10 * kHoleBytes + 100);
    bytes[kHoleBytes] = 1;          // block 1
    bytes[2 * kHoleBytes + 5] = 1;  // block 2, the same run
    bytes[7 * kHoleBytes - 1] = 1;  // block 6
    bytes.back() = 1;               // the partial block at the end
    {
        AtomicFile file = AtomicFile::create(disk, kPath, bytes.size()).value();
        file.write(0, bytes).value();
        file.publish({}).value();
    }
    EXPECT_EQ(disk.written, 3 * kHoleBytes + 100);
    EXPECT_EQ(*disk.read(kPath), bytes);
    EXPECT_EQ(disk.names(), 1u);
}

TEST(AtomicFileTest, unpublished_it_leaves_nothing) {
    const TestDirectory dir;
    SystemFileOps ops;
    {
        AtomicFile file = AtomicFile::create(ops, dir.file("a"), 10).value();
        file.write(0, std::vector<uint8_t>{1}).value();
        EXPECT_EQ(dir.entries(), 1u);
    }
    EXPECT_EQ(dir.entries(), 0u);
}

TEST(AllZeroTest, looks_at_every_byte) {
    EXPECT_TRUE(all_zero({}));
    std::vector<uint8_t> bytes(100);
    EXPECT_TRUE(all_zero(bytes));
    for (uint8_t& byte : bytes) {
        byte = 1;
        EXPECT_FALSE(all_zero(bytes));
        byte = 0;
    }
}

}  // namespace
}  // namespace driftwood::file
