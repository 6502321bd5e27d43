#include "model/byte_level.h"

#include <gtest/gtest.h>

#include <set>

#include "base/utf8.h"

namespace driftwood::model {
namespace {

TEST(ByteLevelTest, spells_every_byte_as_a_character_of_its_own) {
    std::set<std::string> seen;
    for (int byte = 0; byte < 256; ++byte) {
        const std::string spelled = byte_level_character(static_cast<uint8_t>(byte));
        EXPECT_TRUE(is_utf8(spelled));
        EXPECT_TRUE(seen.insert(spelled).second);
        EXPECT_EQ(from_byte_level(spelled), std::string(1, static_cast<char>(byte)));
    }
    EXPECT_EQ(byte_level_character(' '), "Ġ");
    EXPECT_EQ(byte_level_character('\n'), "Ċ");
    EXPECT_EQ(byte_level_character('a'), "a");
}

TEST(ByteLevelTest, refuses_characters_outside_the_alphabet) {
    for (const char* text : {" ", "\n", "a b", "\u00AD", "\u0144", "€", "😀", "\xC4", "\xFF"}) {
        EXPECT_FALSE(from_byte_level(text)) << text;
    }
    EXPECT_EQ(from_byte_level("\u0143"), "\xAD");
}

TEST(ByteLevelTest, goes_there_and_back) {
    const std::string text = "Grüße,\t日本 😀\n";
    EXPECT_EQ(from_byte_level(to_byte_level(text)), text);
}

}  // namespace
}  // namespace driftwood::model
