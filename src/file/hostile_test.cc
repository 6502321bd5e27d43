// Headers and files that mean harm: every one is an error, none a crash.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "file/safetensors_header.h"
#include "file/section.h"
#include "file/test_directory.h"

namespace driftwood::file {
namespace {

using Hashes = SectionReader::Hashes;

constexpr uint64_t kDataStart = 1000;
constexpr uint64_t kDataBytes = 24;

Result<Header> parse(std::string_view text) { return parse_header("f", text, kDataStart, kDataBytes); }

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + offsets +
           "]}";
}

const std::string kGoodA = tensor("a", "F32", "2,2", "0,16");
const std::string kGoodB = tensor("b", "U8", "8", "16,24");

TEST(HeaderTest, takes_a_well_formed_header_in_any_order) {
    const Header header = parse("{" + kGoodB + ",\"__metadata__\":{\"k\":\"v\"}," + kGoodA + "}  ").value();
    EXPECT_EQ(header.metadata.at("k"), "v");
    EXPECT_EQ(header.tensors.at("a").shape, (std::vector<uint64_t>{2, 2}));
    EXPECT_EQ(header.tensors.at("b").file_offset, kDataStart + 16);
    EXPECT_EQ(header.tensors.at("b").size_bytes, 8u);
    EXPECT_TRUE(parse("{" + tensor("scalar", "F64", "", "0,8") + "," + tensor("c", "U64", "2", "8,24") + "}").ok());
    EXPECT_TRUE(parse("{" + kGoodA + "," + kGoodB + "," + tensor("empty", "F32", "3,0", "16,16") + "}").ok());
}

TEST(HeaderTest, refuses_everything_else_by_name) {
    struct Case {
        std::string text;
        std::string says;
    };
    const std::string good = kGoodA + "," + kGoodB;
    const auto with = [&](const std::string& more) { return "{" + good + "," + more + "}"; };
    const std::vector<Case> cases = {
        {"", "does not begin with {"},
        {"[]", "does not begin with {"},
        {" {" + good + "}", "does not begin with {"},
        {"\xEF\xBB\xBF{" + good + "}", "does not begin with {"},
        {"{" + good + "}" + std::string(1, '\0') + "x", "NUL"},
        {"{" + good + "} x", "no JSON at byte"},
        {"{" + good, "no JSON at byte"},
        {"{" + good + ",}", "no JSON at byte"},
        {"{/**/" + good + "}", "no JSON at byte"},
        {"{}", "tensors want 0 bytes of data, the file has 24"},
        {"{" + kGoodA + "}", "tensors want 16 bytes of data"},
        {with(tensor("c", "U8", "1", "24,25")), "tensors want 25 bytes of data"},
        {with(tensor("a", "U8", "0", "24,24")), "a name twice"},
        {with(tensor("\\u0061", "U8", "0", "24,24")), "a name twice"},
        {with(R"("__metadata__":{},"__metadata__":{})"), "a name twice"},
        {with(R"("__metadata__":{"k":"1","k":"2"})"), "a metadata key twice"},
        {with(R"("__metadata__":{"k":1})"), "a number"},
        {with(R"("__metadata__":{"k":null})"), "null"},
        {with(R"("__metadata__":{"k":{}})"), "an object"},
        {with(R"("__metadata__":[])"), "an array"},
        {with(R"("c":5)"), "a number"},
        {with(R"("c":"x")"), "a string"},
        {with(R"("c":[[]])"), "an array"},
        {with(R"("c":{})"), "without dtype, shape"},
        {with(R"("c":{"dtype":"U8","shape":[0]})"), "without dtype, shape"},
        {with(R"("c":{"dtype":"U8","shape":[0],"data_offsets":[24]})"), "two data_offsets"},
        {with(R"("c":{"dtype":"U8","shape":[0],"data_offsets":[24,24,24]})"), "too many numbers"},
        {with(R"("c":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[24,24]})"), "a field twice"},
        {with(R"("c":{"dtype":"U8","shape":[0],"data_offsets":[24,24],"x":1})"), "an unknown field"},
        {with(R"("c":{"dtype":7,"shape":[0],"data_offsets":[24,24]})"), "a number"},
        {with(R"("c":{"dtype":["U8"],"shape":[0],"data_offsets":[24,24]})"), "an array"},
        {with(R"("c":{"dtype":"U8","shape":0,"data_offsets":[24,24]})"), "a number"},
        {with(R"("c":{"dtype":"U8","shape":[[0]],"data_offsets":[24,24]})"), "an array"},
        {with(R"("c":{"dtype":"U8","shape":["0"],"data_offsets":[24,24]})"), "a string"},
        {with(tensor("c", "U8", "-1", "24,24")), "a negative number"},
        {with(tensor("c", "U8", "0.0", "24,24")), "a fraction"},
        {with(tensor("c", "U8", "1e0", "24,24")), "a fraction"},
        {with(tensor("c", "U8", "18446744073709551616", "24,24")), "a fraction"},  // 2^64: no integer of JSON here
        {with(tensor("c", "U8", "true", "24,24")), "a boolean"},
        {with(tensor("c", "U9", "0", "24,24")), "unknown dtype U9"},
        {with(tensor("c", "u8", "0", "24,24")), "unknown dtype u8"},
        {with(tensor("c", "U8", "1", "24,24")), "its shape wants 1 bytes"},
        {with(tensor("c", "F32", "4294967296,4294967296", "24,24")), "more than 2^64"},
        {with(tensor("c", "U8", "0", "0,0,0")), "too many numbers"},
        {with(tensor("c", "U8", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,0", "24,24")), "too many numbers"},
        {with(tensor("c", "U8", "8", "16,24")), "starts at 16, want 24"},                               // overlap
        {"{" + tensor("a", "U8", "8", "0,8") + "," + tensor("b", "U8", "8", "16,24") + "}", "want 8"},  // a gap
        {"{" + tensor("a", "U8", "16", "8,24") + "}", "starts at 8, want 0"},
        {"{" + tensor("a", "U8", "8", "0,8") + "," + tensor("b", "U8", "0", "8,0") + "}", "tensors want 0"},
        {"{" + tensor("b", "U8", "0", "0,30") + "," + tensor("c", "U8", "0", "30,24") + "}", "its shape wants"},
    };
    for (const Case& c : cases) {
        const Result<Header> header = parse(c.text);
        ASSERT_FALSE(header.ok()) << c.text;
        EXPECT_NE(header.error().message.find(c.says), std::string::npos) << c.text << "\n" << header.error().message;
    }
}

TEST(HeaderTest, deep_nesting_and_endless_lists_are_refused_early) {
    EXPECT_FALSE(parse("{\"a\":" + std::string(1000000, '[')).ok());
    std::string many = "{\"a\":{\"shape\":[1";
    for (int i = 0; i < 100000; ++i) many += ",1";
    EXPECT_FALSE(parse(many).ok());
}

TEST(HeaderTest, survives_random_edits) {
    const std::string good = "{\"__metadata__\":{\"k\":\"v\"}," + kGoodA + "," + kGoodB + "}";
    const std::string alphabet = "{}[]\",:0123456789-.eE\\u abntrfdtypeshU8F32\xC3\xFF";
    std::mt19937_64 rng(1);
    size_t refused = 0;
    for (int round = 0; round < 30000; ++round) {
        std::string text = good;
        for (uint64_t edits = 1 + rng() % 3; edits > 0; --edits) {
            const size_t at = rng() % text.size();
            if (rng() % 3 == 0) {
                text.erase(at, 1 + rng() % 3);
            } else if (rng() % 2 == 0) {
                text.insert(at, 1, alphabet[rng() % alphabet.size()]);
            } else {
                text[at] = alphabet[rng() % alphabet.size()];
            }
        }
        const Result<Header> header = parse(text);
        refused += !header.ok();
        if (!header.ok()) continue;
        for (const auto& [name, info] : header->tensors) {  // what is accepted lies inside the file
            ASSERT_GE(info.file_offset, kDataStart);
            ASSERT_LE(info.file_offset + info.size_bytes, kDataStart + kDataBytes);
        }
    }
    EXPECT_GT(refused, 20000u);
}

// A small file of ours that a test may damage and open again.
class Damaged : public ::testing::Test {
  protected:
    Damaged() {
        SectionWriter writer;
        writer.add_owned("a", DType::kU8, {100}, random_bytes(100, 1));
        writer.add_owned("b", DType::kF32, {2, 3}, random_bytes(24, 2));
        writer.set_metadata("k", "v");
        writer.commit(path_).value();
        good_ = read_all(path_);
        uint64_t header = 0;
        std::memcpy(&header, good_.data(), 8);
        data_start_ = 8 + header;
        const std::string_view text(reinterpret_cast<const char*>(good_.data()), data_start_);
        text_end_ = text.find_last_not_of(' ') + 1;
    }

    // Opens the file with `byte` changed; whether it still opens and verifies.
    bool accepts_change(size_t at, uint8_t mask) {
        patch(at, good_[at] ^ mask);
        const auto reader = SectionReader::open(path_, Hashes::kRequired);
        const bool accepted = reader.ok() && reader->verify_all().ok();
        // Without hashes it may open; then every tensor can be read.
        const auto plain = SectionReader::open(path_, Hashes::kNone);
        if (plain.ok()) {
            for (const auto& [name, info] : plain->tensors()) sum_ += plain->bytes(info).size();
        }
        patch(at, good_[at]);
        return accepted;
    }
    void patch(size_t at, uint8_t value) {
        std::fstream file(path_, std::ios::binary | std::ios::in | std::ios::out);
        file.seekp(static_cast<std::streamoff>(at));
        file.put(static_cast<char>(value));
    }

    const TestDirectory dir_;
    const std::string path_ = dir_.file("a");
    std::vector<uint8_t> good_;
    size_t data_start_ = 0;
    size_t text_end_ = 0;
    size_t sum_ = 0;
};

TEST_F(Damaged, no_byte_of_the_header_can_change_unnoticed) {
    for (size_t at = 0; at < text_end_; ++at) {
        for (const size_t bit : {at % 8, (at + 3) % 8}) {
            ASSERT_FALSE(accepts_change(at, static_cast<uint8_t>(1 << bit))) << "byte " << at << " bit " << bit;
        }
    }
    for (size_t at = text_end_; at < data_start_; at += 97) ASSERT_FALSE(accepts_change(at, ' ' ^ '\n')) << at;
}

TEST_F(Damaged, no_byte_of_data_padding_or_hashes_can_change_unnoticed) {
    for (size_t at = data_start_; at < good_.size(); at += 401) ASSERT_FALSE(accepts_change(at, 0x10)) << at;
    for (size_t at = good_.size() - 64; at < good_.size(); ++at) ASSERT_FALSE(accepts_change(at, 0x01)) << at;
}

TEST_F(Damaged, no_truncation_and_no_added_byte_is_accepted) {
    const auto opens = [&](Hashes hashes) { return SectionReader::open(path_, hashes).ok(); };
    ASSERT_TRUE(opens(Hashes::kRequired));
    ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(good_.size() + 1)), 0);
    EXPECT_FALSE(opens(Hashes::kRequired));
    EXPECT_FALSE(opens(Hashes::kNone));
    for (size_t length = good_.size() - 1; length<good_.size(); length -= length> 2000 ? 97 : 1) {
        ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(length)), 0);
        const auto reader = SectionReader::open(path_, Hashes::kRequired);
        ASSERT_FALSE(reader.ok()) << length;
        ASSERT_EQ(reader.error().code, ErrorCode::kCorrupt) << length;
        ASSERT_FALSE(opens(Hashes::kNone)) << length;
    }
}

TEST_F(Damaged, a_header_beyond_the_limit_is_refused_unread) {
    const uint64_t length = kMaxHeaderBytes + 1;
    std::vector<uint8_t> bytes(8);
    std::memcpy(bytes.data(), &length, 8);
    write_all(path_, bytes);
    EXPECT_EQ(SectionReader::open(path_, Hashes::kNone).error().code, ErrorCode::kCorrupt);  // and the file is short
    ASSERT_EQ(truncate(path_.c_str(), static_cast<off_t>(8 + length)), 0);
    EXPECT_EQ(SectionReader::open(path_, Hashes::kNone).error().code, ErrorCode::kLimit);
}

}  // namespace
}  // namespace driftwood::file
