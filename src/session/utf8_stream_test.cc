#include "session/utf8_stream.h"

#include <gtest/gtest.h>

#include "base/utf8.h"

namespace driftwood::session {
namespace {

TEST(Utf8StreamTest, characters_come_whole_however_their_bytes_come) {
    const std::string text = "a é € 😀 z";
    for (size_t piece = 1; piece <= text.size(); ++piece) {
        Utf8Stream stream;
        std::string out;
        for (size_t at = 0; at < text.size(); at += piece) {
            const std::string got = stream.push(text.substr(at, piece));
            EXPECT_TRUE(is_utf8(got));
            EXPECT_TRUE(Utf8Stream::can_hold(stream.held()));
            out += got;
        }
        EXPECT_EQ(out + stream.finish(), text);
    }
}

TEST(Utf8StreamTest, what_becomes_no_character_is_replaced) {
    Utf8Stream stream;
    EXPECT_EQ(stream.push("\xE2\x82"), "");
    EXPECT_EQ(stream.held(), "\xE2\x82");
    EXPECT_EQ(stream.push("x"), "\uFFFDx");
    EXPECT_EQ(stream.push("\xFF\x80"), "\uFFFD\uFFFD");
    EXPECT_EQ(stream.push("\xF0\x9F"), "");
    EXPECT_EQ(stream.finish(), "\uFFFD");
    EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8StreamTest, knows_what_it_may_hold) {
    for (const char* held : {"", "\xE2", "\xE2\x82", "\xF0\x9F\x98"}) EXPECT_TRUE(Utf8Stream::can_hold(held));
    for (const char* held : {"a", "\x80", "\xFF", "\xE2\x82\xAC", "\xE2\xE2", "\xE2\x82x"}) {
        EXPECT_FALSE(Utf8Stream::can_hold(held));
    }
}

}  // namespace
}  // namespace driftwood::session
