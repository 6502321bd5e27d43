#include "cli/output.h"

#include <gtest/gtest.h>

namespace driftwood::cli {
namespace {

TEST(PrintableTest, text_of_a_guest_cannot_steer_the_terminal) {
    EXPECT_EQ(printable("a\x1b[2J\x7f"), "a?[2J?");
    EXPECT_EQ(printable("a\xC2\x9B"
                        "2J"),
              "a?2J");
}

TEST(PrintableTest, keeps_letters_lines_and_tabs) {
    EXPECT_EQ(printable("gr\xC3\xBC\xC3\x9F\n\t\xC2\xA0."), "gr\xC3\xBC\xC3\x9F\n\t\xC2\xA0.");
    EXPECT_EQ(printable("\xC2\nb"), "\xC2\nb");
}

TEST(HumanTest, sizes_and_times_read_as_people_write_them) {
    EXPECT_EQ(human_bytes(999), "999 B");
    EXPECT_EQ(human_bytes(131072), "131.1 kB");
    EXPECT_EQ(human_bytes(7'500'000), "7.50 MB");
    EXPECT_EQ(human_ms(0.423), "0.42 ms");
    EXPECT_EQ(human_ms(184.84), "184.8 ms");
}

}  // namespace
}  // namespace driftwood::cli
