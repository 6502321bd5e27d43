// The shim's ground rules (panics and errors as values) and BLAKE3, through the C interface.
#include "shim_test.h"

#include <gtest/gtest.h>
#include <wasmtime.h>

#include <array>

namespace driftwood::deps {
namespace {

TEST(Shim, a_panic_comes_back_as_an_error_value) {
    Buf error;
    std::string_view message = "the sky fell";
    EXPECT_EQ(dwd_test_panic(raw(message), message.size(), error.out()), DWD_PANIC);
    EXPECT_TRUE(contains(error.str(), "the sky fell")) << error.str();
    EXPECT_TRUE(contains(error.str(), "abi.rs")) << error.str();
    EXPECT_EQ(dwd_test_panic(raw(message), message.size(), nullptr), DWD_PANIC);
}

TEST(Shim, null_with_a_length_is_an_error_and_not_a_crash) {
    Buf error;
    EXPECT_EQ(dwd_test_panic(nullptr, 3, error.out()), DWD_INVALID);
    EXPECT_TRUE(contains(error.str(), "NULL with a length of 3")) << error.str();
    std::array<uint8_t, 32> digest;
    EXPECT_EQ(dwd_blake3(nullptr, 1, digest.data()), DWD_INVALID);
    EXPECT_EQ(dwd_blake3(nullptr, 0, nullptr), DWD_INVALID);
    EXPECT_EQ(dwd_blake3_update(nullptr, nullptr, 0), DWD_INVALID);
}

TEST(Shim, freeing_a_buffer_twice_is_harmless) {
    dwd_buf buf{};
    ASSERT_EQ(dwd_test_panic(nullptr, 1, &buf), DWD_INVALID);
    ASSERT_GT(buf.len, 0u);
    dwd_buf_free(&buf);
    EXPECT_EQ(buf.data, nullptr);
    EXPECT_EQ(buf.len, 0u);
    dwd_buf_free(&buf);
    dwd_buf_free(nullptr);
}

std::string hex(const std::array<uint8_t, 32>& bytes) {
    std::string out;
    for (uint8_t b : bytes) {
        out += "0123456789abcdef"[b >> 4];
        out += "0123456789abcdef"[b & 15];
    }
    return out;
}

// https://github.com/BLAKE3-team/BLAKE3/blob/master/test_vectors/test_vectors.json: byte i of the input is i % 251.
const std::pair<size_t, const char*> kBlake3Vectors[] = {
    {0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
    {1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"},
    {1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"},
    {1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"},
};

std::vector<uint8_t> vector_input(size_t len) {
    std::vector<uint8_t> input(len);
    for (size_t i = 0; i < len; ++i) input[i] = static_cast<uint8_t>(i % 251);
    return input;
}

TEST(Blake3, gives_the_published_digests) {
    for (auto [len, want] : kBlake3Vectors) {
        std::vector<uint8_t> input = vector_input(len);
        std::array<uint8_t, 32> digest;
        ASSERT_EQ(dwd_blake3(input.data(), input.size(), digest.data()), DWD_OK);
        EXPECT_EQ(hex(digest), want) << len << " bytes";
    }
}

TEST(Blake3, in_pieces_equals_at_once) {
    std::vector<uint8_t> input = vector_input(200'000);
    std::array<uint8_t, 32> at_once, in_pieces;
    ASSERT_EQ(dwd_blake3(input.data(), input.size(), at_once.data()), DWD_OK);
    dwd_blake3_hasher* hasher = nullptr;
    ASSERT_EQ(dwd_blake3_new(&hasher, nullptr), DWD_OK);
    for (size_t at = 0, piece = 1; at < input.size(); at += piece, piece = piece * 3 + 1) {
        size_t n = std::min(piece, input.size() - at);
        ASSERT_EQ(dwd_blake3_update(hasher, input.data() + at, n), DWD_OK);
    }
    ASSERT_EQ(dwd_blake3_finish(hasher, in_pieces.data()), DWD_OK);
    dwd_blake3_free(hasher);
    EXPECT_EQ(hex(in_pieces), hex(at_once));
}

TEST(Wasmtime, is_in_the_same_archive) {
    wasm_engine_t* engine = wasm_engine_new();
    ASSERT_NE(engine, nullptr);
    wasm_engine_delete(engine);
}

}  // namespace
}  // namespace driftwood::deps
