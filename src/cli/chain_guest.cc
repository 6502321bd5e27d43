// The laboratory's guest, its pointers, and what calls and births cost.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <utility>

#include "cli/chain_lab.h"
#include "cli/process_memory.h"
#include "node/builtin.h"

namespace driftwood::cli {
namespace {

constexpr double kCallsOfALoop = 1e6;  // guests/laboratory
constexpr int kTurnsOfARound = 20'000;

std::string address(const void* pointer) {
    char text[24];
    std::snprintf(text, sizeof text, "%p", pointer);
    return text;
}

// Of this thread, so that a machine that is busy with others does not stretch what takes no waiting.
int64_t thread_ns() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Nanoseconds of one iteration of the guest's loop `name`: the median of the rounds.
Result<double> loop_ns(LabGuest& guest, const std::string& name, int rounds) {
    std::vector<double> times;
    for (int i = 0; i < rounds; ++i) {
        const int64_t begin = thread_ns();
        DW_TRY(guest.instance().call(name));
        times.push_back(static_cast<double>(thread_ns() - begin) / kCallsOfALoop);
    }
    return median(std::move(times));
}

}  // namespace

int64_t monotonic_ns() { return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count(); }

double ms_since(int64_t begin_ns) { return to_ms(monotonic_ns() - begin_ns); }

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

Result<LabGuest> LabGuest::create(node::Node& node) {
    const auto bytes = node::laboratory_guest();
    DW_ASSIGN(auto live, node.spawn(std::vector<uint8_t>(bytes.begin(), bytes.end()), {}));
    LabGuest guest;
    guest.conversation_ = std::make_unique<Conversation>(std::move(live));
    DW_TRY(guest.conversation_->advance());
    return guest;
}

Result<LabGuest::Answer> LabGuest::ask(const std::string& message) {
    Answer answer;
    bool answered = false;
    conversation_->set_sink({.reply =
                                 [&](std::string_view bytes, bool) {
                                     answered = bytes.size() == sizeof answer;
                                     if (answered) std::memcpy(&answer, bytes.data(), sizeof answer);
                                 },
                             .log = [](int32_t, std::string_view) {}});
    DW_TRY(conversation_->say(message));
    tensor_ns_ = 0;
    int64_t last = monotonic_ns();
    DW_TRY(conversation_->advance([&](const actor::Step& step) {
        const int64_t now = monotonic_ns();
        if (step.kind == actor::Step::Kind::kTensor) tensor_ns_ += now - last;
        last = now;
        return false;
    }));
    if (!answered || answer.error != 0) {
        return error(ErrorCode::kInternal, "[chain.guest] " + message + ": the guest's answer is error " +
                                               std::to_string(answered ? answer.error : 0));
    }
    return answer;
}

Json lab_pointers(LabGuest& guest, const compute::Device& device) {
    const uint8_t* const in_guest = guest.instance().guest_base();
    const uint8_t* const in_region = guest.memory().base();
    const uint8_t* const in_device = device.address(guest.memory());
    return {{"guest_pointer", address(in_guest)},
            {"region_pointer", address(in_region)},
            {"device_pointer", address(in_device)},
            {"pointer_identity", in_guest == in_region && in_region == in_device}};
}

Result<Json> lab_calls(LabGuest& guest, const LabOptions& options) {
    options.progress("calls across the guest boundary");
    DW_ASSIGN(const double nothing, loop_ns(guest, "loop_of_nothing", options.rounds));
    DW_ASSIGN(const double number, loop_ns(guest, "loop_of_numbers", options.rounds));
    DW_ASSIGN(const double range, loop_ns(guest, "loop_of_ranges", options.rounds));
    std::vector<double> turns;
    for (int round = 0; round < options.rounds; ++round) {
        const int64_t begin = thread_ns();
        for (int i = 0; i < kTurnsOfARound; ++i) DW_TRY(guest.instance().complete(-1, 0));
        turns.push_back(static_cast<double>(thread_ns() - begin) / kTurnsOfARound);
    }
    return Json{{"guest_to_host_ns", range - nothing},
                {"guest_to_host_number_ns", number - nothing},
                {"host_to_guest_ns", median(std::move(turns))},
                {"loop_ns", nothing},
                {"rounds", options.rounds}};
}

Result<Json> lab_actors(node::Node& node, const LabOptions& options) {
    options.progress("birth of " + std::to_string(options.actors) + " actors");
    const auto bytes = node::chat_guest();
    const int64_t begin = monotonic_ns();
    DW_ASSIGN(const auto module, node.compile({bytes.begin(), bytes.end()}));
    const double compile_ms = ms_since(begin);
    DW_ASSIGN(const ProcessMemory before, process_memory());
    std::vector<std::unique_ptr<actor::Actor>> actors;
    std::vector<double> births, turns;
    uint64_t own_bytes = 0, linear_bytes = 0;
    for (uint32_t i = 0; i < options.actors; ++i) {
        const int64_t birth = monotonic_ns();
        DW_ASSIGN(auto actor, node.spawn(*module, {}));
        births.push_back(ms_since(birth));
        const int64_t turn = monotonic_ns();
        while (actor->state() == actor::Actor::State::kReady) {
            if (const actor::Step step = actor->step(); step.error) return *step.error;
        }
        turns.push_back(ms_since(turn));
        if (const auto footprint = actor->instance().memory().footprint(); footprint.ok()) {
            own_bytes += footprint->resident_bytes - footprint->shared_bytes;
        }
        linear_bytes += actor->instance().memory().size();
        actors.push_back(std::move(actor));
    }
    DW_ASSIGN(const ProcessMemory after, process_memory());
    const auto each = [&](uint64_t from, uint64_t to) {
        return (static_cast<double>(to) - static_cast<double>(from)) / options.actors;
    };
    return Json{{"guest", "chat"},
                {"actors", options.actors},
                {"compile_ms", compile_ms},
                {"birth_ms", median(births)},
                {"birth_ms_slowest", *std::max_element(births.begin(), births.end())},
                {"first_turn_ms", median(std::move(turns))},
                {"idle_resident_bytes", each(before.resident_bytes, after.resident_bytes)},
                {"idle_proportional_bytes", each(before.proportional_bytes, after.proportional_bytes)},
                {"idle_linear_memory_bytes", linear_bytes / options.actors},
                {"idle_linear_memory_own_bytes", own_bytes / options.actors},
                {"idle_mappings", each(before.mappings, after.mappings)}};
}

}  // namespace driftwood::cli
