#include "model/weights_place.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "file/test_directory.h"
#include "model/model.h"
#include "model/synth.h"
#include "model/test_logits.h"

namespace driftwood::model {
namespace {

using Step = WeightsPlan::Step;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

// A model of 4 GiB on a machine with 16 GiB to take.
WeightsFacts ample() {
    return {.file_bytes = 4 * kGiB,
            .token_bytes = 4 * kGiB - 10 * kMiB,
            .available_bytes = 16 * kGiB,
            .huge_pages_given = true,
            .huge_bytes = std::nullopt};
}

TEST(WeightsPlanTest, a_map_is_looked_at_and_copied_if_its_pages_are_small) {
    WeightsFacts facts = ample();
    EXPECT_EQ(plan_weights(WeightsChoice::kAuto, facts).step, Step::kLook);
    for (const auto& [huge, step] :
         {std::pair{uint64_t{0}, Step::kCopy}, std::pair{3 * kGiB, Step::kCopy},
          std::pair{3 * kGiB + 511 * kMiB, Step::kCopy}, std::pair{3 * kGiB + 512 * kMiB, Step::kStay},
          std::pair{4 * kGiB, Step::kStay}, std::pair{5 * kGiB, Step::kStay}}) {
        facts.huge_bytes = huge;
        EXPECT_EQ(plan_weights(WeightsChoice::kAuto, facts).step, step) << huge;
        EXPECT_FALSE(plan_weights(WeightsChoice::kAuto, facts).short_of_memory);
    }
}

TEST(WeightsPlanTest, a_copy_leaves_a_gibibyte_and_a_quarter_of_what_was_available) {
    WeightsFacts facts = ample();
    // A quarter is more than a gibibyte.
    facts.file_bytes = facts.token_bytes = 12 * kGiB;
    EXPECT_EQ(plan_weights(WeightsChoice::kAuto, facts).step, Step::kLook);
    facts.file_bytes += 1;
    const WeightsPlan tight = plan_weights(WeightsChoice::kAuto, facts);
    EXPECT_EQ(tight.step, Step::kStay);
    EXPECT_TRUE(tight.short_of_memory);
    EXPECT_NE(tight.why.find("16384 MiB of memory are available"), std::string::npos) << tight.why;
    // A gibibyte is more than a quarter.
    facts.available_bytes = 2 * kGiB;
    facts.file_bytes = facts.token_bytes = kGiB;
    EXPECT_EQ(plan_weights(WeightsChoice::kAuto, facts).step, Step::kLook);
    facts.file_bytes += 1;
    EXPECT_TRUE(plan_weights(WeightsChoice::kAuto, facts).short_of_memory);
    facts.available_bytes = 100 * kMiB;
    EXPECT_TRUE(plan_weights(WeightsChoice::kAuto, facts).short_of_memory);
    // It stays so whatever its pages are.
    facts.huge_bytes = 0;
    EXPECT_EQ(plan_weights(WeightsChoice::kAuto, facts).step, Step::kStay);
}

TEST(WeightsPlanTest, what_a_copy_would_not_help_stays_mapped) {
    WeightsFacts facts = ample();
    facts.huge_bytes = 0;
    ASSERT_EQ(plan_weights(WeightsChoice::kAuto, facts).step, Step::kCopy);
    WeightsFacts small = facts;
    small.file_bytes = small.token_bytes = kLeastCopiedBytes - 1;
    WeightsFacts lookups = facts;
    lookups.token_bytes = facts.file_bytes / 2 - 1;
    WeightsFacts no_huge = facts;
    no_huge.huge_pages_given = false;
    WeightsFacts unknown = facts;
    unknown.available_bytes = 0;
    for (const WeightsFacts& other : {small, lookups, no_huge, unknown}) {
        const WeightsPlan plan = plan_weights(WeightsChoice::kAuto, other);
        EXPECT_EQ(plan.step, Step::kStay);
        EXPECT_FALSE(plan.short_of_memory);
        EXPECT_FALSE(plan.why.empty());
    }
}

TEST(WeightsPlanTest, who_asks_gets_what_fits) {
    WeightsFacts facts = ample();
    EXPECT_EQ(plan_weights(WeightsChoice::kMap, facts).step, Step::kStay);
    facts.huge_bytes = 4 * kGiB;
    EXPECT_EQ(plan_weights(WeightsChoice::kCopy, facts).step, Step::kCopy);
    facts.available_bytes = facts.file_bytes;
    EXPECT_EQ(plan_weights(WeightsChoice::kCopy, facts).step, Step::kCopy);
    facts.available_bytes = facts.file_bytes - 1;
    EXPECT_TRUE(plan_weights(WeightsChoice::kCopy, facts).short_of_memory);
}

class WeightsFileTest : public ::testing::Test {
  protected:
    static constexpr size_t kSize = 40 * kMiB + 12345;  // several pieces, an odd end
    const file::TestDirectory directory_;
    const std::string path_ = directory_.file("weights");
    const std::vector<uint8_t>& bytes_ = all_bytes();

    WeightsFileTest() { file::write_all(path_, bytes_); }
    static const std::vector<uint8_t>& all_bytes() {
        static const std::vector<uint8_t> kBytes = file::random_bytes(kSize, 1);
        return kBytes;
    }
    file::MappedFile open() { return file::MappedFile::open(path_).value(); }
    bool same(const file::MappedFile& file) { return std::ranges::equal(file.bytes(), bytes_); }
    // All of it is read for a token, on a machine with room.
    static WeightsFacts facts() {
        return {.file_bytes = kSize,
                .token_bytes = kSize,
                .available_bytes = 16 * kGiB,
                .huge_pages_given = true,
                .huge_bytes = std::nullopt};
    }
};

TEST_F(WeightsFileTest, a_copy_has_the_same_bytes_at_the_same_addresses) {
    file::MappedFile file = open();
    const uint8_t* const at = file.bytes().data();
    std::vector<uint64_t> seen;
    const auto plan =
        place_weights(file, facts(), {.choice = WeightsChoice::kCopy, .progress = [&](uint64_t done, uint64_t total) {
                                          EXPECT_EQ(total, kSize);
                                          seen.push_back(done);
                                      }});
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_TRUE(file.is_copy());
    EXPECT_EQ(file.bytes().data(), at);
    EXPECT_TRUE(same(file));
    EXPECT_TRUE(std::ranges::is_sorted(seen));
    EXPECT_EQ(seen.back(), kSize);
    // It is nobody else's: what the file becomes does not matter any more.
    ASSERT_EQ(truncate(path_.c_str(), 0), 0);
    EXPECT_TRUE(same(file));
    const file::MappedFile moved = std::move(file);
    EXPECT_TRUE(moved.is_copy());
    EXPECT_TRUE(same(moved));
}

TEST_F(WeightsFileTest, auto_leaves_every_file_with_its_bytes_wherever_they_lie) {
    file::MappedFile file = open();
    const auto plan = place_weights(file, facts(), {});
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_EQ(file.is_copy(), plan->step == Step::kCopy);
    EXPECT_TRUE(same(file));
}

TEST_F(WeightsFileTest, without_memory_for_a_copy_it_stays_mapped) {
    file::MappedFile file = open();
    WeightsFacts tight = facts();
    tight.available_bytes = kGiB;
    const auto plan = place_weights(file, tight, {});
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_TRUE(plan->short_of_memory);
    EXPECT_FALSE(file.is_copy());
    EXPECT_TRUE(same(file));
    tight.available_bytes = kSize - 1;
    const auto refused = place_weights(file, tight, {.choice = WeightsChoice::kCopy});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
    EXPECT_NE(refused.error().message.find(path_), std::string::npos) << refused.error().message;
    EXPECT_NE(refused.error().message.find("--weights map"), std::string::npos) << refused.error().message;
    EXPECT_TRUE(same(file));
}

// Less of addresses than the copy wants, until it ends.
class FewAddresses {
  public:
    explicit FewAddresses(rlim_t beyond) {
        EXPECT_EQ(getrlimit(RLIMIT_AS, &before_), 0);
        rlim_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        const rlimit few{.rlim_cur = pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + beyond,
                         .rlim_max = before_.rlim_max};
        EXPECT_EQ(setrlimit(RLIMIT_AS, &few), 0);
    }
    ~FewAddresses() { setrlimit(RLIMIT_AS, &before_); }
    FewAddresses(const FewAddresses&) = delete;
    FewAddresses& operator=(const FewAddresses&) = delete;

  private:
    rlimit before_{};
};

TEST_F(WeightsFileTest, where_the_system_refuses_memory_it_stays_mapped) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    GTEST_SKIP() << "a sanitizer needs addresses of its own";
#endif
    file::MappedFile file = open();
    WeightsFacts small_pages = facts();
    small_pages.huge_bytes = 0;
    const FewAddresses few(kSize / 2);
    const auto plan = place_weights(file, small_pages, {});
    ASSERT_TRUE(plan.ok()) << plan.error().message;
    EXPECT_EQ(plan->step, Step::kStay);
    EXPECT_TRUE(plan->short_of_memory);
    EXPECT_NE(plan->why.find(path_), std::string::npos) << plan->why;
    const auto refused = place_weights(file, small_pages, {.choice = WeightsChoice::kCopy});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kLimit);
    EXPECT_FALSE(file.is_copy());
    EXPECT_TRUE(same(file));
}

TEST_F(WeightsFileTest, a_file_that_is_truncated_is_an_error_not_a_signal) {
    for (const auto choice : {WeightsChoice::kAuto, WeightsChoice::kCopy}) {
        file::write_all(path_, bytes_);
        file::MappedFile file = open();
        ASSERT_EQ(truncate(path_.c_str(), kSize / 2), 0);
        const auto plan = place_weights(file, facts(), {.choice = choice});
        ASSERT_FALSE(plan.ok());
        EXPECT_EQ(plan.error().code, ErrorCode::kIo);
        EXPECT_NE(plan.error().message.find(path_), std::string::npos) << plan.error().message;
    }
}

TEST_F(WeightsFileTest, a_file_that_changes_while_it_is_read_is_an_error) {
    file::MappedFile file = open();
    bool changed = false;
    const auto plan = place_weights(
        file, facts(), {.choice = WeightsChoice::kCopy, .progress = [&](uint64_t, uint64_t) {
                            if (std::exchange(changed, true)) return;
                            const int fd = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
                            EXPECT_EQ(pwrite(fd, "other", 5, 0), 5);
                            // A clock that ticks slowly would not show it.
                            const timespec times[] = {{.tv_sec = 5, .tv_nsec = 0}, {.tv_sec = 5, .tv_nsec = 0}};
                            EXPECT_EQ(futimens(fd, times), 0);
                            close(fd);
                        }});
    ASSERT_TRUE(changed);
    ASSERT_FALSE(plan.ok());
    EXPECT_EQ(plan.error().code, ErrorCode::kIo);
    EXPECT_NE(plan.error().message.find("changed while it was read"), std::string::npos) << plan.error().message;
}

// Quantised matrices are read from the file; F16 ones multiply as copies in W16 and leave the embedding there.
TEST_F(WeightsFileTest, a_model_computes_the_same_bits_from_a_copy) {
    for (const auto type : {compute::WeightType::kQ4_0, compute::WeightType::kF16}) {
        const auto gguf = synth_model({.type = type}, 3);
        ASSERT_TRUE(gguf.ok()) << gguf.error().message;
        file::write_all(path_, *gguf);
        const auto mapped = load_model(path_).value();
        const auto copied = load_model(path_).value();
        ASSERT_TRUE(mapped->place_weights({.choice = WeightsChoice::kMap}).ok());
        ASSERT_TRUE(copied->place_weights({.choice = WeightsChoice::kCopy}).ok());
        EXPECT_FALSE(mapped->weights_place().copied);
        EXPECT_TRUE(copied->weights_place().copied);
        EXPECT_EQ(copied->weights_place().file_bytes, gguf->size());
        EXPECT_EQ(logits_of(*mapped, "auto"), logits_of(*copied, "auto"));
        EXPECT_EQ(mapped->compute_identity(), copied->compute_identity());
    }
}

// A tied output multiplies where the embedding lies; that of an F16 model has a copy of its own.
TEST_F(WeightsFileTest, only_weights_that_multiply_in_the_file_count) {
    for (const auto type : {compute::WeightType::kQ4_0, compute::WeightType::kF16}) {
        file::write_all(path_, *synth_model({.type = type}, 3));
        const auto model = load_model(path_).value();
        const std::span<const uint8_t> embedding = model->spec().embedding.bytes;
        EXPECT_EQ(weights_facts(model->spec(), embedding).token_bytes,
                  type == compute::WeightType::kF16 ? 0 : embedding.size());
    }
}

}  // namespace
}  // namespace driftwood::model
