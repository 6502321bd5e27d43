#include "file/hash.h"

#include <gtest/gtest.h>

#include <vector>

namespace driftwood::file {
namespace {

// The input of the published test vectors: bytes 0, 1, … 250, 0, 1, …
std::vector<uint8_t> vector_input(size_t length) {
    std::vector<uint8_t> out(length);
    for (size_t i = 0; i < length; ++i) out[i] = static_cast<uint8_t>(i % 251);
    return out;
}

// test_vectors.json of https://github.com/BLAKE3-team/BLAKE3 (first 32 bytes of each).
TEST(HashTest, agrees_with_the_published_vectors) {
    EXPECT_EQ(to_hex(blake3(vector_input(0))), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    EXPECT_EQ(to_hex(blake3(vector_input(1))), "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213");
    EXPECT_EQ(to_hex(blake3(vector_input(1024))), "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7");
}

TEST(HashTest, in_pieces_equals_at_once) {
    const std::vector<uint8_t> bytes = vector_input(200000);
    Hasher hasher;
    hasher.update(std::span(bytes).first(1));
    hasher.update({});
    hasher.update(std::span(bytes).subspan(1, 70000));
    const Hash midway = hasher.finish();
    hasher.update(std::span(bytes).subspan(70001));
    EXPECT_EQ(hasher.finish(), blake3(bytes));
    EXPECT_EQ(midway, blake3(std::span(bytes).first(70001)));
}

TEST(HashTest, fields_keep_their_borders) {
    Hasher one;
    one.field("ab");
    one.field("c");
    Hasher two;
    two.field("a");
    two.field("bc");
    EXPECT_NE(one.finish(), two.finish());
    Hasher number;
    number.field_u64(0x0102);
    EXPECT_EQ(number.finish(), blake3(std::vector<uint8_t>{2, 1, 0, 0, 0, 0, 0, 0}));
}

TEST(HashTest, hex_goes_there_and_back_and_only_canonical_text_is_taken) {
    const Hash hash = blake3(vector_input(3));
    std::string text = to_hex(hash);
    EXPECT_EQ(hash_from_hex(text).value(), hash);
    EXPECT_FALSE(hash_from_hex(text.substr(1)).ok());
    EXPECT_FALSE(hash_from_hex(text + "0").ok());
    text[5] = 'G';
    EXPECT_EQ(hash_from_hex(text).error().code, ErrorCode::kCorrupt);
    text[5] = 'A';
    EXPECT_FALSE(hash_from_hex(text).ok());
}

}  // namespace
}  // namespace driftwood::file
