// Actors that wait for a message give their memory back, by the policy, and go on as if nothing had been.
#include "node/parking.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/scheduler_test.h"

namespace driftwood::node {
namespace {

constexpr StepLimits kLimits{.decode_tokens = 8, .prompt_tokens = 64, .prompt_alone = 128, .patience = 3};

std::vector<Script> talkers() {
    std::vector<Script> scripts;
    for (uint64_t i = 0; i < 4; ++i) {
        scripts.push_back({.messages = {words(14), "And " + words(static_cast<int>(i)), "So?"},
                           .seed = i,
                           .arrives = static_cast<int>(i),
                           .pause = 40});
    }
    return scripts;
}

struct Played {
    uint32_t parked, fetched;
    uint64_t most_bytes, least_bytes;  // at the beginning of a round, after the first answers
};

// Everybody must get the bits of being alone.
Played play(const ParkingPolicy& policy) {
    const std::vector<Script> scripts = talkers();
    World world;
    const file::TestDirectory directory;
    Played played{};
    {
        Stage stage(world, scripts, kLimits, directory.path(), policy);
        played.least_bytes = UINT64_MAX;
        stage.before_round = [&](int round) {
            if (round < 30 || stage.scheduler().actors() < scripts.size()) return;
            played.most_bytes = std::max(played.most_bytes, stage.scheduler().memory_bytes());
            played.least_bytes = std::min(played.least_bytes, stage.scheduler().memory_bytes());
        };
        const std::vector<Life> got = stage.play();
        played.parked = stage.parked;
        played.fetched = stage.fetched;
        for (size_t i = 0; i < scripts.size(); ++i) {
            SCOPED_TRACE(i);
            expect_same(forget(got[i]), forget(alone(scripts[i])));
        }
    }
    EXPECT_EQ(world.engine->pool().blocks_in_use(), 0U);
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
    return played;
}

TEST(ParkingTest, who_has_waited_for_long_gives_his_memory_back_and_goes_on_with_the_same_bits) {
    const Played played = play({.idle_ns = 15, .memory_bytes = std::nullopt});  // of a clock that each round reads
    EXPECT_EQ(played.parked, 4U * 4);                                           // before its first message, too
    EXPECT_EQ(played.fetched, 4U * 3);
    EXPECT_GT(played.most_bytes, 100'000U);
    EXPECT_EQ(played.least_bytes, 0U);
}

TEST(ParkingTest, nobody_is_parked_before_his_time) {
    const Played played = play({.idle_ns = 1'000'000, .memory_bytes = std::nullopt});
    EXPECT_EQ(played.parked, 0U);
    EXPECT_GT(played.least_bytes, 0U);
}

TEST(ParkingTest, above_the_mark_those_who_have_waited_longest_go) {
    const Played unbounded = play({});
    EXPECT_EQ(unbounded.parked, 0U);
    const uint64_t mark = unbounded.most_bytes / 2;
    const Played played = play({.idle_ns = std::nullopt, .memory_bytes = mark});
    EXPECT_GE(played.parked, 4U);
    EXPECT_GE(played.fetched, 4U);
    EXPECT_LE(played.least_bytes, mark);
    EXPECT_GT(played.least_bytes, 0U);  // and no more of them than that takes
}

TEST(ParkingTest, an_actor_is_fetched_when_it_is_asked_for) {
    World world;
    const auto module = actor::chat_module(world);
    const file::TestDirectory directory;
    StepClock clock{0, 1};
    Parking parking(directory.path(),
                    [&](const std::string& image) -> Result<LiveActor> {
                        LiveActor live;
                        DW_ASSIGN(auto thawed, actor::thaw_file(world, *module, image));
                        live.actor = std::move(thawed.actor);
                        return live;
                    },
                    clock, {.idle_ns = 0, .memory_bytes = std::nullopt});
    Scheduler scheduler(
        *world.engine, world.blocks, {.step = {}}, [](Scheduler::Key, const actor::Step&) {}, &parking);
    LiveActor live;
    live.actor = Actor::create(world.context(), *module, actor::chat_options()).value();
    const Scheduler::Key key = scheduler.add(std::move(live)).value();
    ASSERT_TRUE(scheduler.send(key, "Hi").ok());
    for (int i = 0; i < 200 && !scheduler.parked(key); ++i) scheduler.round();
    ASSERT_TRUE(scheduler.parked(key));
    EXPECT_EQ(scheduler.memory_bytes(), 0U);
    ASSERT_TRUE(scheduler.fetch(key).ok());
    EXPECT_EQ(scheduler.at(key).sessions().at(0)->parts().size(), 2U);
    EXPECT_GT(scheduler.memory_bytes(), 0U);
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(ParkingTest, the_image_of_an_actor_that_cannot_be_fetched_can_be_kept) {
    World world;
    const auto module = actor::chat_module(world);
    const file::TestDirectory directory;
    StepClock clock{0, 1};
    std::string kept;
    {
        auto own = ParkingDirectory::create(directory.path()).value();
        Parking parking(
            own.path(), [](const std::string&) -> Result<LiveActor> { return error(ErrorCode::kLimit, "no room"); },
            clock);
        for (const uint64_t key : {1, 2}) {
            LiveActor live;
            live.actor = Actor::create(world.context(), *module, actor::chat_options()).value();
            ASSERT_TRUE(parking.park(key, live).ok());
        }
        ASSERT_FALSE(parking.fetch(1).ok());
        kept = parking.keep(1);
        EXPECT_FALSE(parking.has(1));
    }
    EXPECT_TRUE(actor::thaw_file(world, *module, kept).ok());
    const std::filesystem::directory_iterator left(std::filesystem::path(kept).parent_path());
    EXPECT_EQ(std::distance(begin(left), end(left)), 1);  // the other one is gone
}

TEST(ParkingTest, its_directory_is_private_and_goes_with_it) {
    const file::TestDirectory directory;
    const std::string parent = directory.file("a/b");
    std::string path;
    {
        auto mine = ParkingDirectory::create(parent), other = ParkingDirectory::create(parent);
        ASSERT_TRUE(mine.ok() && other.ok());
        path = mine->path();
        EXPECT_NE(path, other->path());
        struct stat status {};
        ASSERT_EQ(stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777U, 0700U);
    }
    EXPECT_TRUE(std::filesystem::is_empty(parent));
    const auto none = ParkingDirectory::create("/dev/null/parked");
    ASSERT_FALSE(none.ok());
    EXPECT_NE(none.error().message.find("/dev/null/parked"), std::string::npos);
}

TEST(ParkingTest, what_a_killed_process_left_goes_and_what_others_have_or_kept_stays) {
    const file::TestDirectory directory;
    const std::vector<uint8_t> kImage = {1};
    const auto living = ParkingDirectory::create(directory.path()).value();
    file::write_all(living.path() + "/1.actor", kImage);
    int names[2];
    ASSERT_EQ(pipe(names), 0);
    const pid_t child = fork();
    if (child == 0) {
        const auto killed = ParkingDirectory::create(directory.path()).value();
        for (const char* name : {"/1.actor", "/23.actor", "/.driftwood-x.tmp", "/4.kept.actor"}) {
            file::write_all(killed.path() + name, kImage);
        }
        const auto empty = ParkingDirectory::create(directory.path()).value();
        const bool told = write(names[1], killed.path().data(), killed.path().size()) > 0;
        _exit(told ? 0 : 1);  // nobody's destructor runs
    }
    int status = -1;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    std::string killed(1000, 0);
    killed.resize(static_cast<size_t>(std::max<ssize_t>(0, read(names[0], killed.data(), killed.size()))));
    for (const int fd : names) close(fd);
    ASSERT_TRUE(std::filesystem::exists(killed + "/23.actor"));
    const auto next = ParkingDirectory::create(directory.path()).value();
    EXPECT_TRUE(std::filesystem::exists(living.path() + "/1.actor"));
    const std::filesystem::directory_iterator left(killed), all(directory.path());
    EXPECT_EQ(std::distance(begin(left), end(left)), 1);
    EXPECT_TRUE(std::filesystem::exists(killed + "/4.kept.actor"));
    EXPECT_EQ(std::distance(begin(all), end(all)), 3);  // the living one, the next one and what was kept
    std::filesystem::remove(living.path() + "/1.actor");
}

// Where a directory is shared, only its own machine knows whether a process lives.
TEST(ParkingTest, what_another_machine_parked_stays) {
    const file::TestDirectory directory;
    const std::string theirs = directory.path() + "/parked-another.machine-abcdef";
    ASSERT_TRUE(std::filesystem::create_directory(theirs));
    file::write_all(theirs + "/1.actor", std::vector<uint8_t>{1});
    const auto own = ParkingDirectory::create(directory.path()).value();
    EXPECT_TRUE(std::filesystem::exists(theirs + "/1.actor"));
}

}  // namespace
}  // namespace driftwood::node
