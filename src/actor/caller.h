// For tests: an actor of the guest that makes any calls it is told to (wasm/caller_guest.h).
#pragma once

#include <algorithm>
#include <array>
#include <cstring>
#include <map>

#include "actor/test_world.h"
#include "wasm/caller_guest.h"

namespace driftwood::actor {

struct Call {
    std::string_view name;
    std::vector<int64_t> arguments;
};

inline std::string encode_calls(const std::vector<Call>& calls) {
    std::string message;
    const auto put = [&message](const auto& value) {
        message.append(reinterpret_cast<const char*>(&value), sizeof value);
    };
    for (const Call& call : calls) {
        const auto table = wasm::driftwood_calls();
        const auto found =
            std::find_if(table.begin(), table.end(), [&](const auto& row) { return row.name == call.name; });
        CHECK(found != table.end() && call.arguments.size() == found->parameters.size());
        put(static_cast<uint32_t>(found - table.begin()));
        put(uint32_t{0});
        std::array<int64_t, wasm::kCallerArguments> arguments{};
        std::copy(call.arguments.begin(), call.arguments.end(), arguments.begin());
        put(arguments);
    }
    return message;
}

class Caller {
  public:
    explicit Caller(World& world)
        : module_(wasm::Module::compile(*world.runtime, wasm::from_wat(wasm::caller_guest_wat())).value()),
          actor(Actor::create(world.context(), *module_, {}).value()) {
        run();
    }

    // Results in order of the calls. Runs only the turn that makes them when `finish` is false.
    std::vector<int64_t> call(const std::vector<Call>& calls, bool finish = true) {
        results_.clear();
        EXPECT_TRUE(actor->send(encode_calls(calls)).ok());
        while (results_.empty() && actor->state() == Actor::State::kReady) take(actor->step());
        if (finish) run();
        EXPECT_EQ(results_.size(), calls.size());
        return results_;
    }
    int64_t call(std::string_view name, std::vector<int64_t> arguments = {}) {
        return call(std::vector<Call>{{name, std::move(arguments)}}).at(0);
    }
    // What an operation that one call issues completes with, once.
    int64_t wait_for(std::string_view name, std::vector<int64_t> arguments) {
        const int64_t op = call(name, std::move(arguments));
        EXPECT_GT(op, 0) << name;
        return status(op);
    }
    int64_t status(int64_t op) const {
        EXPECT_TRUE(statuses.contains(op)) << "operation " << op << " has not completed";
        return statuses.contains(op) ? statuses.at(op) : INT64_MIN;
    }
    void run() {
        while (actor->state() == Actor::State::kReady) take(actor->step());
        ASSERT_EQ(actor->state(), Actor::State::kWaiting) << logs;
    }
    void take(const Step& step) {
        for (const Effect& effect : step.effects) {
            if (effect.kind == Effect::Kind::kLog) {
                logs += effect.bytes + "\n";
                continue;
            }
            std::vector<int64_t> numbers(effect.bytes.size() / sizeof(int64_t));
            std::memcpy(numbers.data(), effect.bytes.data(), numbers.size() * sizeof(int64_t));
            if (effect.last) {
                results_ = numbers;
            } else {
                EXPECT_TRUE(statuses.emplace(numbers.at(0), numbers.at(1)).second) << "completed twice";
                order.push_back(numbers.at(0));
            }
        }
    }

    uint8_t* memory(uint32_t offset) { return actor->instance().memory().base() + offset; }
    template <class T>
    T read(uint32_t offset) {
        T value;
        std::memcpy(&value, memory(offset), sizeof value);
        return value;
    }
    template <class T>
    void write(uint32_t offset, const std::vector<T>& values) {
        const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
        std::copy_n(bytes, values.size() * sizeof(T), memory(offset));
    }
    void write(uint32_t offset, std::string_view text) { std::copy(text.begin(), text.end(), memory(offset)); }

    const wasm::Module& module() const { return *module_; }

  private:
    std::unique_ptr<wasm::Module> module_;
    std::vector<int64_t> results_;

  public:
    std::unique_ptr<Actor> actor;
    std::map<int64_t, int64_t> statuses;  // of all completions
    std::vector<int64_t> order;           // in which they came
    std::string logs;
};

}  // namespace driftwood::actor
