#include "file/encoding.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

namespace driftwood::file {
namespace {

std::vector<uint8_t> sample() {
    Encoder encoder;
    encoder.begin_record("OUT1", 3);
    encoder.u32(7);
    encoder.begin_record("in_2", 1);
    encoder.str("hello");
    encoder.end_record();
    encoder.u64(2);
    encoder.u8(1);
    encoder.u8(2);
    encoder.end_record();
    encoder.i64(-5);
    return encoder.take();
}

// Reads what sample() wrote; any error ends it.
Result<void> read_sample(std::span<const uint8_t> bytes) {
    Decoder decoder("sample", bytes);
    DW_ASSIGN(auto outer, decoder.record("OUT1", 3));
    DW_ASSIGN(const uint32_t seven, outer.second.u32());
    DW_ASSIGN(auto inner, outer.second.record());
    DW_ASSIGN(const std::string hello, inner.second.str());
    DW_TRY(inner.second.finish());
    DW_ASSIGN(const uint64_t count, outer.second.count(1));
    for (uint64_t i = 0; i < count; ++i) DW_TRY(outer.second.u8());
    DW_TRY(outer.second.finish());
    DW_ASSIGN(const int64_t minus_five, decoder.i64());
    DW_TRY(decoder.finish());
    if (seven != 7 || hello != "hello" || inner.first.tag != "in_2" || count != 2 || minus_five != -5) {
        return error(ErrorCode::kMismatch, "other values");
    }
    return {};
}

TEST(EncodingTest, is_little_endian_and_fixed_width) {
    Encoder encoder;
    encoder.u8(0x01);
    encoder.u32(0x02030405);
    encoder.u64(0x060708090A0B0C0D);
    encoder.i64(-2);
    encoder.f32(1.0f);
    encoder.str("ab");
    const std::vector<uint8_t> want = {0x01, 5,    4,    3,    2,    0x0D, 0x0C, 0x0B, 0x0A, 9,   8,  7,
                                       6,    0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0,   0,  0x80,
                                       0x3F, 2,    0,    0,    0,    0,    0,    0,    0,    'a', 'b'};
    EXPECT_EQ(encoder.take(), want);
    EXPECT_TRUE(encoder.take().empty());
}

TEST(EncodingTest, a_record_is_tag_version_length_and_body) {
    Encoder encoder;
    encoder.begin_record("ABCD", 2);
    encoder.u8(9);
    encoder.end_record();
    const std::vector<uint8_t> want = {'A', 'B', 'C', 'D', 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9};
    EXPECT_EQ(encoder.take(), want);
}

TEST(EncodingTest, gives_back_what_was_written_bit_for_bit) {
    const float nan = std::bit_cast<float>(0x7FC12345u);
    Encoder encoder;
    encoder.f32(nan);
    encoder.f32(-0.0f);
    encoder.i64(std::numeric_limits<int64_t>::min());
    encoder.bytes({});
    const std::vector<uint8_t> bytes = encoder.take();
    Decoder decoder("x", bytes);
    EXPECT_EQ(std::bit_cast<uint32_t>(*decoder.f32()), 0x7FC12345u);
    EXPECT_TRUE(std::signbit(*decoder.f32()));
    EXPECT_EQ(*decoder.i64(), std::numeric_limits<int64_t>::min());
    EXPECT_TRUE(decoder.bytes()->empty());
    EXPECT_TRUE(decoder.finish().ok());
    EXPECT_TRUE(read_sample(sample()).ok());
}

TEST(DecoderTest, refuses_every_truncation_and_anything_left_over) {
    std::vector<uint8_t> bytes = sample();
    for (size_t length = 0; length < bytes.size(); ++length) {
        const Result<void> read = read_sample(std::span(bytes).first(length));
        ASSERT_FALSE(read.ok()) << length;
        EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    }
    bytes.push_back(0);
    EXPECT_EQ(read_sample(bytes).error().code, ErrorCode::kCorrupt);
}

TEST(DecoderTest, survives_any_bytes) {
    std::mt19937_64 rng(1);
    const std::vector<uint8_t> good = sample();
    size_t refused = 0;
    for (int round = 0; round < 20000; ++round) {
        std::vector<uint8_t> bytes = good;
        for (uint64_t flips = 1 + rng() % 4; flips > 0; --flips) {
            bytes[rng() % bytes.size()] = static_cast<uint8_t>(rng());
        }
        refused += !read_sample(bytes).ok();
    }
    EXPECT_GT(refused, 15000u);
}

TEST(DecoderTest, a_failed_call_does_not_move_it) {
    Encoder encoder;
    encoder.u64(100);  // a length, or a count, that the rest cannot hold
    encoder.u8(1);
    const std::vector<uint8_t> bytes = encoder.take();
    Decoder decoder("x", bytes);
    EXPECT_FALSE(decoder.bytes().ok());
    EXPECT_FALSE(decoder.count(1).ok());
    EXPECT_FALSE(decoder.record().ok());
    EXPECT_EQ(*decoder.u64(), 100u);
}

TEST(DecoderTest, bounds_counts_by_the_bytes_that_are_left) {
    Encoder encoder;
    encoder.u64(3);
    for (int i = 0; i < 3; ++i) encoder.u32(0);
    std::vector<uint8_t> bytes = encoder.take();
    EXPECT_EQ(*Decoder("x", bytes).count(4), 3u);
    EXPECT_FALSE(Decoder("x", bytes).count(5).ok());
    std::fill_n(bytes.begin(), 8, uint8_t{0xFF});
    EXPECT_FALSE(Decoder("x", bytes).count(8).ok());
}

TEST(DecoderTest, refuses_unknown_records_and_versions_by_name) {
    const std::vector<uint8_t> bytes = sample();
    Decoder decoder("actor.state", bytes);
    const auto other = decoder.record("NEW1", 1);
    ASSERT_FALSE(other.ok());
    EXPECT_EQ(other.error().code, ErrorCode::kUnsupported);
    EXPECT_EQ(other.error().message, "[file.decode] actor.state: want record NEW1, found record OUT1");
    const auto newer = decoder.record("OUT1", 2);
    ASSERT_FALSE(newer.ok());
    EXPECT_EQ(newer.error().code, ErrorCode::kUnsupported);
    EXPECT_NE(newer.error().message.find("version 3"), std::string::npos);
    EXPECT_EQ(decoder.record("OUT1", 3)->second.what(), "actor.state.OUT1");
}

TEST(DecoderTest, errors_say_what_and_where) {
    const std::vector<uint8_t> bytes = {1, 2, 3};
    Decoder decoder("thing", bytes);
    EXPECT_EQ(*decoder.u8(), 1);
    EXPECT_EQ(decoder.u32().error().message, "[file.decode] thing at byte 1: want 4 bytes, 2 are left");
}

using EncoderDeathTest = ::testing::Test;

TEST(EncoderDeathTest, an_open_record_or_a_bad_tag_is_a_bug) {
    Encoder encoder;
    EXPECT_DEATH(encoder.begin_record("toolong", 1), "CHECK");
    EXPECT_DEATH(encoder.end_record(), "CHECK");
    encoder.begin_record("ABCD", 1);
    EXPECT_DEATH(static_cast<void>(encoder.take()), "CHECK");
}

}  // namespace
}  // namespace driftwood::file
