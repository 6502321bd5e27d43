#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "file/hash.h"
#include "file/private_file.h"
#include "file/section.h"
#include "file/test_directory.h"
#include "memory/region.h"

namespace driftwood::file {
namespace {

using Hashes = SectionReader::Hashes;

constexpr size_t kKiB = 1024;

// Tensors of awkward sizes, in pieces, with zeros inside; what they hold is kept beside the writer.
struct Sample {
    std::vector<uint8_t> memory = random_bytes(3 * 64 * kKiB, 1);
    std::vector<uint8_t> odd = random_bytes(100 * kKiB + 12, 2);
    SectionWriter writer;

    Sample() {
        std::fill_n(memory.begin() + 64 * kKiB, 64 * kKiB, uint8_t{0});  // a whole span of zeros
        std::fill_n(odd.begin() + 8 * kKiB, 8 * kKiB, uint8_t{0});       // zeros inside a span
        writer.add("wasm.memory.0", DType::kU8, {memory.size()}, {memory});
        const std::span<const uint8_t> all(odd);
        writer.add("odd", DType::kF32, {odd.size() / 4, 1}, {all.first(5), all.subspan(5, 70000), all.subspan(70005)});
        writer.add("empty", DType::kU32, {0, 7}, {});
        writer.add_owned("tokens", DType::kU32, {2}, {1, 0, 0, 0, 2, 0, 0, 0});
        writer.set_metadata("module", "a \"quoted\" \xC3\xA9 name");
    }
};

std::vector<uint8_t> copy(std::span<const uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

TEST(SectionTest, gives_back_what_was_written) {
    const TestDirectory dir;
    const Sample sample;
    const auto committed = sample.writer.commit(dir.file("a")).value();
    const SectionReader reader = SectionReader::open(dir.file("a"), Hashes::kRequired).value();
    EXPECT_EQ(reader.file_bytes(), committed.file_bytes);
    EXPECT_EQ(reader.require_metadata("root_hash").value(), committed.root_hash);
    EXPECT_EQ(reader.require_metadata("module").value(), "a \"quoted\" \xC3\xA9 name");
    EXPECT_EQ(reader.tensors().size(), 4u);
    EXPECT_EQ(copy(reader.read("wasm.memory.0", DType::kU8).value()), sample.memory);
    EXPECT_EQ(copy(reader.read("odd", DType::kF32).value()), sample.odd);
    EXPECT_EQ(reader.find("odd")->shape, (std::vector<uint64_t>{sample.odd.size() / 4, 1}));
    EXPECT_TRUE(reader.read("empty", DType::kU32)->empty());
    EXPECT_EQ(reader.read("tokens", DType::kU32)->size(), 8u);
    EXPECT_TRUE(reader.verify_all().ok());
    EXPECT_EQ(dir.entries(), 1u);
}

TEST(SectionTest, a_tensor_made_when_it_is_written_is_like_one_that_was_given) {
    const TestDirectory dir;
    const std::vector<uint8_t> bytes = random_bytes(70000, 3);
    SectionWriter given, made;
    given.add("t", DType::kU8, {700, 100}, {bytes});
    int times = 0;
    made.add_made("t", DType::kU8, {700, 100}, [&](std::span<uint8_t> out) {
        EXPECT_TRUE(std::all_of(out.begin(), out.end(), [](uint8_t byte) { return byte == 0; }));
        std::copy(bytes.begin(), bytes.end(), out.begin());
        ++times;
    });
    given.commit(dir.file("given")).value();
    for (const int commits : {1, 2}) {
        made.commit(dir.file("made")).value();
        EXPECT_EQ(times, commits);
        EXPECT_EQ(read_all(dir.file("made")), read_all(dir.file("given")));
    }
}

TEST(SectionTest, a_released_map_keeps_what_its_reader_showed) {
    const TestDirectory dir;
    const Sample sample;
    sample.writer.commit(dir.file("a")).value();
    auto reader = std::make_unique<SectionReader>(SectionReader::open(dir.file("a"), Hashes::kRequired).value());
    const std::span<const uint8_t> bytes = reader->read("wasm.memory.0", DType::kU8).value();
    const MappedFile map = std::move(*reader).release();
    reader.reset();
    EXPECT_EQ(copy(bytes), sample.memory);
    EXPECT_EQ(map.path(), dir.file("a"));
}

TEST(SectionTest, every_tensor_starts_at_a_multiple_of_64_kib_and_the_file_is_private) {
    const TestDirectory dir;
    Sample().writer.commit(dir.file("a")).value();
    const SectionReader reader = SectionReader::open(dir.file("a"), Hashes::kRequired).value();
    for (const auto& [name, info] : reader.tensors()) EXPECT_EQ(info.file_offset % (64 * kKiB), 0u) << name;
    struct stat st {};
    ASSERT_EQ(stat(dir.file("a").c_str(), &st), 0);
    EXPECT_EQ(st.st_mode & 07777, 0600u);
    EXPECT_TRUE(is_committed_by_us(reader.fd()));
}

TEST(SectionTest, tensors_can_be_mapped_in_place) {
    const TestDirectory dir;
    const Sample sample;
    sample.writer.commit(dir.file("a")).value();
    const SectionReader reader = SectionReader::open(dir.file("a"), Hashes::kRequired).value();
    const TensorInfo info = reader.require("wasm.memory.0", DType::kU8).value();
    auto region = memory::Region::reserve(info.size_bytes).value();
    region.grow(info.size_bytes).value();
    region.map_file(0, reader.fd(), info.file_offset, info.size_bytes).value();
    EXPECT_EQ(copy(region.bytes()), sample.memory);
}

TEST(SectionTest, the_same_content_gives_the_same_file_and_any_change_another_root_hash) {
    const TestDirectory dir;
    const auto first = Sample().writer.commit(dir.file("a")).value();
    const auto second = Sample().writer.commit(dir.file("b")).value();
    EXPECT_EQ(first.root_hash, second.root_hash);
    EXPECT_EQ(read_all(dir.file("a")), read_all(dir.file("b")));
    Sample other_metadata;
    other_metadata.writer.set_metadata("module", "x");
    EXPECT_NE(other_metadata.writer.commit(dir.file("c"))->root_hash, first.root_hash);
    Sample other_byte;
    other_byte.odd.back() ^= 1;
    EXPECT_NE(other_byte.writer.commit(dir.file("c"))->root_hash, first.root_hash);
}

TEST(SectionTest, the_root_hash_is_what_the_format_page_says) {
    const TestDirectory dir;
    const auto committed = Sample().writer.commit(dir.file("a")).value();
    std::vector<uint8_t> bytes = read_all(dir.file("a"));
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), 8 + header);
    const size_t digits = text.find("\"root_hash\":\"") + 13;
    EXPECT_EQ(text.substr(digits, 64), committed.root_hash);
    std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(digits), 64, uint8_t{'0'});
    const uint64_t data = bytes.size() - (8 + header);
    const uint64_t spans = data / (64 * kKiB + 32);  // data = spans × (64 KiB + 32)
    ASSERT_EQ(data, spans * (64 * kKiB + 32));
    Hasher hasher;
    hasher.update(std::span(bytes).first(8 + header));
    for (uint64_t i = 0; i < spans; ++i) {
        const Hash hash = blake3(std::span(bytes).subspan(8 + header + i * 64 * kKiB, 64 * kKiB));
        hasher.update(hash);
        EXPECT_EQ(std::memcmp(hash.data(), bytes.data() + bytes.size() - (spans - i) * 32, 32), 0);
    }
    EXPECT_EQ(to_hex(hasher.finish()), committed.root_hash);
}

TEST(SectionTest, zeros_take_no_space_on_disk) {
    const TestDirectory dir;
    const std::vector<uint8_t> zeros(32 * kKiB * kKiB);
    SectionWriter writer;
    writer.add("zeros", DType::kU8, {zeros.size()}, {zeros});
    const auto committed = writer.commit(dir.file("a")).value();
    EXPECT_GT(committed.file_bytes, zeros.size());
    EXPECT_LT(committed.disk_bytes, 1024 * kKiB);
    EXPECT_TRUE(SectionReader::open(dir.file("a"), Hashes::kRequired)->verify_all().ok());
}

TEST(SectionTest, a_writer_without_tensors_makes_a_whole_file) {
    const TestDirectory dir;
    SectionWriter().commit(dir.file("a")).value();
    const auto reader = SectionReader::open(dir.file("a"), Hashes::kRequired);
    ASSERT_TRUE(reader.ok()) << reader.error().message;
    EXPECT_TRUE(reader->tensors().empty());
    EXPECT_TRUE(reader->verify_all().ok());
}

TEST(SectionTest, replaces_only_when_told_to) {
    const TestDirectory dir;
    SectionWriter old;
    old.set_metadata("which", "old");
    old.commit(dir.file("a"), {.replace = false, .durable = true}).value();
    SectionWriter fresh;
    fresh.set_metadata("which", "new");
    const auto refused = fresh.commit(dir.file("a"), {.replace = false, .durable = true});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kAlreadyExists);
    EXPECT_EQ(SectionReader::open(dir.file("a"), Hashes::kRequired)->require_metadata("which").value(), "old");
    fresh.commit(dir.file("a")).value();
    EXPECT_EQ(SectionReader::open(dir.file("a"), Hashes::kRequired)->require_metadata("which").value(), "new");
    EXPECT_EQ(dir.entries(), 1u);
}

TEST(SectionTest, refuses_names_it_cannot_keep) {
    const TestDirectory dir;
    const auto code_of = [&](const SectionWriter& writer) { return writer.commit(dir.file("a")).error().code; };
    for (const char* name : {"__metadata__", "__pad.7", "image.hashes", "bad \xFF utf-8"}) {
        SectionWriter writer;
        writer.add_owned(name, DType::kU8, {1}, {1});
        EXPECT_EQ(code_of(writer), ErrorCode::kInvalidArgument) << name;
    }
    SectionWriter twice;
    twice.add_owned("a", DType::kU8, {1}, {1});
    twice.add_owned("a", DType::kU8, {1}, {2});
    EXPECT_EQ(code_of(twice), ErrorCode::kInvalidArgument);
    SectionWriter root;
    root.set_metadata("root_hash", "mine");
    EXPECT_EQ(code_of(root), ErrorCode::kInvalidArgument);
    SectionWriter bad_value;
    bad_value.set_metadata("model", "\xFF");
    EXPECT_EQ(code_of(bad_value), ErrorCode::kInvalidArgument);
    EXPECT_EQ(dir.entries(), 0u);
}

TEST(SectionTest, metadata_that_looks_like_the_root_hash_does_no_harm) {
    const TestDirectory dir;
    SectionWriter writer;
    writer.set_metadata("note", "\"root_hash\":\"" + std::string(64, '0') + "\"");
    writer.set_metadata("root_hashes", std::string(64, '0'));
    writer.add_owned("root_hash", DType::kU8, {1}, {1});
    writer.commit(dir.file("a")).value();
    EXPECT_TRUE(SectionReader::open(dir.file("a"), Hashes::kRequired).ok());
}

TEST(SectionTest, an_unwritable_place_is_an_error) {
    const TestDirectory dir;
    EXPECT_EQ(SectionWriter().commit(dir.file("missing/a")).error().code, ErrorCode::kNotFound);
    EXPECT_FALSE(SectionWriter().commit(dir.path()).ok());
    EXPECT_EQ(SectionReader::open(dir.file("none"), Hashes::kNone).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(SectionReader::open(dir.path(), Hashes::kNone).error().code, ErrorCode::kInvalidArgument);
    ASSERT_EQ(mkfifo(dir.file("pipe").c_str(), 0600), 0);
    EXPECT_EQ(SectionReader::open(dir.file("pipe"), Hashes::kNone).error().code, ErrorCode::kInvalidArgument);
}

TEST(SectionReaderTest, require_names_tensor_want_and_got) {
    const TestDirectory dir;
    Sample().writer.commit(dir.file("a")).value();
    const SectionReader reader = SectionReader::open(dir.file("a"), Hashes::kRequired).value();
    EXPECT_TRUE(reader.require("tokens", DType::kU32, 2).ok());
    const auto dtype = reader.require("tokens", DType::kF32);
    EXPECT_EQ(dtype.error().code, ErrorCode::kMismatch);
    EXPECT_NE(dtype.error().message.find("tensor tokens: want F32, file has U32"), std::string::npos);
    EXPECT_EQ(reader.require("tokens", DType::kU32, 3).error().code, ErrorCode::kMismatch);
    EXPECT_EQ(reader.require("tokens", DType::kU32, 0).error().code, ErrorCode::kMismatch);
    EXPECT_EQ(reader.require("nothing", DType::kU8).error().code, ErrorCode::kNotFound);
    EXPECT_EQ(reader.require_metadata("nothing").error().code, ErrorCode::kNotFound);
    EXPECT_EQ(reader.find("__pad.0"), nullptr);
    EXPECT_EQ(reader.find("image.hashes"), nullptr);
}

TEST(SectionReaderTest, verifies_only_the_spans_it_is_asked_for_and_remembers_the_good_ones) {
    const TestDirectory dir;
    Sample().writer.commit(dir.file("a")).value();
    std::vector<uint8_t> bytes = read_all(dir.file("a"));
    const SectionReader before = SectionReader::open(dir.file("a"), Hashes::kRequired).value();
    const TensorInfo info = *before.find("odd");
    bytes[info.file_offset + 70 * kKiB] ^= 1;  // in its second span
    write_all(dir.file("b"), bytes);
    const SectionReader reader = SectionReader::open(dir.file("b"), Hashes::kRequired).value();
    EXPECT_TRUE(reader.verify(info, 0, 64 * kKiB).ok());
    EXPECT_TRUE(reader.verify(info, info.size_bytes, 0).ok());
    const auto bad = reader.verify(info, 64 * kKiB - 1, 2);
    ASSERT_FALSE(bad.ok());
    EXPECT_EQ(bad.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(bad.error().message.find("tensor odd"), std::string::npos);
    EXPECT_EQ(reader.verify_all().error().code, ErrorCode::kCorrupt);
    EXPECT_EQ(reader.verify(info, 1, info.size_bytes).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(reader.verify(info, info.size_bytes + 1, 0).error().code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(reader.verify(*reader.find("wasm.memory.0")).ok());
}

TEST(SectionReaderTest, a_file_truncated_while_it_is_open_is_an_error_to_whoever_verifies) {
    const TestDirectory dir;
    const Sample sample;
    sample.writer.commit(dir.file("a")).value();
    const SectionReader reader = SectionReader::open(dir.file("a"), Hashes::kRequired).value();
    EXPECT_TRUE(reader.read("tokens", DType::kU32).ok());
    EXPECT_TRUE(reader.check_intact().ok());
    std::filesystem::resize_file(dir.file("a"), 100);
    EXPECT_EQ(reader.read("odd", DType::kF32).error().code, ErrorCode::kIo);
    EXPECT_EQ(reader.check_intact().error().code, ErrorCode::kIo);
    EXPECT_EQ(reader.verify_all().error().code, ErrorCode::kIo);
}

TEST(SectionTest, a_check_that_fails_leaves_no_file) {
    const TestDirectory dir;
    Sample sample;
    bool asked = false;
    sample.writer.add_check([&asked]() -> Result<void> {
        asked = true;
        return error(ErrorCode::kIo, "lost");
    });
    EXPECT_EQ(sample.writer.commit(dir.file("a")).error().message, "lost");
    EXPECT_TRUE(asked);
    EXPECT_EQ(dir.entries(), 0u);
}

TEST(SectionReaderTest, many_threads_may_verify_at_once) {
    const TestDirectory dir;
    const std::vector<uint8_t> bytes = random_bytes(200 * 64 * kKiB, 5);
    SectionWriter writer;
    writer.add("t", DType::kU8, {bytes.size()}, {bytes});
    writer.commit(dir.file("a")).value();
    const SectionReader reader = SectionReader::open(dir.file("a"), Hashes::kRequired).value();
    std::atomic<int> failures = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { failures += !reader.verify_all().ok(); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(failures, 0);
}

TEST(SectionReaderTest, reads_files_of_others_but_verifies_none_of_them) {
    const TestDirectory dir;
    const std::string text = R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
    std::vector<uint8_t> bytes(8 + text.size() + 8, 3);
    const uint64_t length = text.size();
    std::memcpy(bytes.data(), &length, 8);
    std::memcpy(bytes.data() + 8, text.data(), text.size());
    write_all(dir.file("a"), bytes);
    const SectionReader reader = SectionReader::open(dir.file("a"), Hashes::kNone).value();
    EXPECT_EQ(reader.bytes(*reader.find("w"))[7], 3);
    EXPECT_EQ(reader.verify(*reader.find("w")).error().code, ErrorCode::kUnsupported);
    EXPECT_EQ(reader.verify_all().error().code, ErrorCode::kUnsupported);
    EXPECT_EQ(reader.read("w", DType::kF32).error().code, ErrorCode::kUnsupported);
    EXPECT_EQ(SectionReader::open(dir.file("a"), Hashes::kRequired).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace driftwood::file
