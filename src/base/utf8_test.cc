#include "base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace driftwood {
namespace {

using Kind = Utf8Char::Kind;

// The code point's encoding by the definition, without looking at which points are allowed.
std::string encode(uint32_t point) {
    const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((point >> shift) & 0x3F)); };
    if (point < 0x80) return {static_cast<char>(point)};
    if (point < 0x800) return {static_cast<char>(0xC0 | point >> 6), tail(0)};
    if (point < 0x10000) return {static_cast<char>(0xE0 | point >> 12), tail(6), tail(0)};
    return {static_cast<char>(0xF0 | point >> 18), tail(12), tail(6), tail(0)};
}

TEST(Utf8Test, knows_every_character_and_every_cut_of_one) {
    for (uint32_t point = 0; point < 0x120000; ++point) {
        const std::string text = encode(point);
        const bool allowed = point < 0xD800 || (point > 0xDFFF && point < 0x110000);
        const Utf8Char front = utf8_front(text);
        ASSERT_EQ(front.kind == Kind::kWhole, allowed) << point;
        ASSERT_EQ(is_utf8(text), allowed) << point;
        if (!allowed) continue;
        ASSERT_EQ(front.bytes, text.size());
        for (size_t cut = 1; cut < text.size(); ++cut) {
            const Utf8Char part = utf8_front(std::string_view(text).substr(0, cut));
            ASSERT_EQ(part.kind, Kind::kPartial) << point;
            ASSERT_EQ(part.bytes, cut);
        }
    }
}

TEST(Utf8Test, refuses_overlong_forms_and_stray_bytes) {
    for (const char* text :
         {"\x80", "\xBF", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xF0\x80\x80\x80", "\xFF", "\xFE"}) {
        EXPECT_EQ(utf8_front(text).kind, Kind::kInvalid);
        EXPECT_EQ(utf8_front(text).bytes, 1u);
    }
    // The longest beginning of a character counts as one mistake.
    EXPECT_EQ(utf8_front("\xE2\x82"
                         "A")
                  .bytes,
              2u);
    EXPECT_EQ(utf8_front("\xF0\x9F\x98"
                         "A")
                  .bytes,
              3u);
    EXPECT_EQ(utf8_front("\xE2\x82"
                         "A")
                  .kind,
              Kind::kInvalid);
}

}  // namespace
}  // namespace driftwood
