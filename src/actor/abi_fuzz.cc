// Arbitrary calls of every import, with arbitrary arguments and memory, between steps, messages, timers, freezes and
// thaws. Whatever is called: every result and status is a documented errno or none (else the guest traps), no operation
// completes twice, the actor lives on, and its image thaws.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string_view>

#include "actor/actor.h"
#include "model/synth.h"
#include "wasm/caller_guest.h"
#include "wasm/test_host.h"

namespace driftwood::actor {
namespace {

constexpr uint32_t kContext = 160;  // small enough to be filled
constexpr uint32_t kVocab = 320;
constexpr int kMaxCalls = 10;  // of one message
constexpr int kMaxSteps = 60;  // of one input

// What an input is read from; zeros behind its end.
class Input {
  public:
    explicit Input(std::span<const uint8_t> bytes) : left_(bytes) {}
    bool empty() const { return left_.empty(); }
    uint8_t byte() { return number<uint8_t>(); }
    template <class T>
    T number() {
        T value{};
        const auto taken = bytes(sizeof(T));
        std::memcpy(&value, taken.data(), taken.size());
        return value;
    }
    std::span<const uint8_t> bytes(size_t count) {
        const auto taken = left_.first(std::min(count, left_.size()));
        left_ = left_.subspan(taken.size());
        return taken;
    }

  private:
    std::span<const uint8_t> left_;
};

std::unique_ptr<model::Model> tiny_model() {
    static const std::vector<uint8_t> bytes = model::synth_model({.layers = 1,
                                                                  .d_model = 32,
                                                                  .heads = 2,
                                                                  .kv_heads = 1,
                                                                  .head_dim = 16,
                                                                  .d_ff = 32,
                                                                  .vocab = kVocab,
                                                                  .context = kContext},
                                                                 1)
                                                  .value();
    return model::load_gguf("tiny", bytes).value();
}

// Made once; inputs share it, as actors of a node do.
struct World {
    std::unique_ptr<wasm::Runtime> runtime = wasm::Runtime::create({}).value();
    std::unique_ptr<model::Model> model = tiny_model();
    std::unique_ptr<compute::Engine> engine =
        compute::make_engine("auto", model->spec(), {.threads = 1, .kv_blocks = 5}).value();
    session::BlockRefs blocks{engine->pool()};
    std::unique_ptr<compute::Device> device = compute::make_device("cpu", 1).value();
    StepClock clock{1'000'000'000, 0};
    SeededEntropy entropy{1};
    std::unique_ptr<wasm::Module> module =
        wasm::Module::compile(*runtime, wasm::from_wat(wasm::caller_guest_wat())).value();
    std::string image = (std::filesystem::temp_directory_path() / ("abi_fuzz_" + std::to_string(getpid()))).string();

    Context context() { return {*model, *engine, blocks, *device, clock, entropy}; }
    ActorOptions options() const { return {.limits = {.turn_deadline_ms = 60'000}, .wasi = {}}; }
};

// In guest memory from kCallerFree on, so that good calls are likely: 0 a role and texts, 256 options of generate, 320
// a gemm, 384 rows, 512 floats, then zeros (tokens, room).
void furnish(uint8_t* memory) {
    uint8_t* const free = memory + wasm::kCallerFree;
    constexpr std::string_view kText = "userassistantHello, what is the sea made of?";
    std::copy(kText.begin(), kText.end(), free);
    const driftwood_generate_options options = {
        .temperature = 1.0F, .top_p = 0.9F, .top_k = 40, .max_tokens = 5, .seed = 1};
    std::memcpy(free + 256, &options, sizeof options);
    const uint32_t at = wasm::kCallerFree + 512;
    const driftwood_gemm gemm = {.a = at,
                                 .b = at + 64,
                                 .c = at + 128,
                                 .m = 4,
                                 .n = 4,
                                 .k = 4,
                                 .lda = 4,
                                 .ldb = 4,
                                 .ldc = 4,
                                 .a_type = 0,
                                 .b_type = 0,
                                 .c_type = 0,
                                 .flags = 0,
                                 .reserved = 0};
    std::memcpy(free + 320, &gemm, sizeof gemm);
    const driftwood_rows rows = {.kind = 0,
                                 .x = at,
                                 .y = at + 64,
                                 .out = at + 128,
                                 .rows = 4,
                                 .cols = 4,
                                 .ldx = 4,
                                 .ldy = 4,
                                 .ldout = 4,
                                 .eps = 1e-5F};
    std::memcpy(free + 384, &rows, sizeof rows);
}

class Life {
  public:
    explicit Life(World& world) : world_(world) {
        actor_ = Actor::create(world.context(), *world.module, world.options()).value();
        actor_->instance();
        furnish(actor_->instance().memory().base());
        step(2);
    }

    void live(Input& input) {
        while (!input.empty() && actor_) {
            const uint8_t what = input.byte();
            switch (what % 8) {
                case 4:
                    send();
                    step(input.byte() % 16);
                    break;
                case 5: step(what / 8); break;
                case 6: poke(input); break;
                case 7: what < 128 ? pass_time(input) : move(); break;
                default: call(input); break;
            }
        }
        if (!actor_) return;
        send();
        step(kMaxSteps);
        move();
    }

  private:
    int64_t argument(Input& input) {
        const uint8_t how = input.byte();
        const uint8_t small = how / 8;
        switch (how % 8) {
            case 0: return small;
            case 1: return input.number<int64_t>();
            case 2: return wasm::kCallerFree + uint32_t{small} * 64;
            case 3: return wasm::kCallerMemory - input.byte();
            case 4: return 1 + input.byte() % 24;  // sessions, streams and operations count up from 1
            case 5: return wasm::kCallerFree + input.number<uint16_t>();
            case 6: return kVocab + small - 8;
            default: return small < 16 ? UINT32_MAX - small : INT64_MAX >> small;
        }
    }

    void call(Input& input) {
        const auto table = wasm::driftwood_calls();
        const auto put = [this](const auto& value) {
            message_.append(reinterpret_cast<const char*>(&value), sizeof value);
        };
        const auto index = static_cast<uint32_t>(input.byte() % table.size());
        put(index);
        put(uint32_t{0});
        for (uint32_t i = 0; i < wasm::kCallerArguments; ++i) {
            put(i < table[index].parameters.size() ? argument(input) : int64_t{0});
        }
        if (message_.size() >= kMaxCalls * wasm::kCallerBytes) send();
    }

    void send() {
        if (message_.empty()) return;
        (void)actor_->send(message_);  // a full mailbox refuses it
        message_.clear();
    }

    void poke(Input& input) {
        const uint32_t at = input.number<uint16_t>();
        const auto bytes = input.bytes(input.byte() % 64);
        if (!bytes.empty())
            std::memcpy(actor_->instance().memory().base() + wasm::kCallerFree + at, bytes.data(), bytes.size());
    }

    void pass_time(Input& input) {
        const auto timer = actor_->next_timer_in_ns();
        const int64_t ns = timer && input.byte() % 2 == 0 ? *timer : input.byte() * int64_t{1'000'000};
        constexpr int64_t kLongest = int64_t{1} << 61;  // the clock goes on through all inputs
        if (ns < kLongest - world_.clock.now_ns()) world_.clock.set_next_ns(world_.clock.now_ns() + ns);
        actor_->wake();
        CHECK(!actor_->wake());  // all that were due have fired
    }

    void step(int most) {
        for (int i = 0; i < most && steps_ < kMaxSteps && actor_->state() == Actor::State::kReady; ++i, ++steps_) {
            const uint64_t turns = actor_->turns();
            const Step done = actor_->step();
            if (done.error) check_failed("the actor lives on", done.error->message);
            if (actor_->turns() > turns) note_completion(done);
        }
    }

    // A turn for a completion that is no message replies with just the operation and its status.
    void note_completion(const Step& turn) {
        std::vector<const Effect*> replies;
        for (const Effect& effect : turn.effects) {
            if (effect.kind == Effect::Kind::kReply) replies.push_back(&effect);
        }
        if (replies.size() != 1 || replies[0]->last || replies[0]->bytes.size() != 16) return;
        int64_t op = 0;
        std::memcpy(&op, replies[0]->bytes.data(), sizeof op);
        CHECK(op > 0);
        CHECK(completed_.insert(op).second);
    }

    void move() {
        if (moved_++ > 1) return;
        const auto frozen = actor_->freeze(world_.image, {.replace = true, .durable = false});
        if (!frozen.ok()) check_failed("an actor that lives freezes", frozen.error().message);
        auto image = file::SectionReader::open(world_.image, file::SectionReader::Hashes::kRequired);
        CHECK(image.ok());
        actor_.reset();  // its KV blocks go first: the pool is small
        auto thawed = Actor::thaw(world_.context(), *world_.module, world_.options(),
                                  std::make_shared<const file::SectionReader>(*std::move(image)));
        std::filesystem::remove(world_.image);
        if (thawed.ok()) {
            actor_ = std::move(thawed->actor);
        } else if (thawed.error().code != ErrorCode::kLimit) {
            check_failed("an image thaws", thawed.error().message);
        }  // else: sessions that shared blocks of KV have each its own in an image, which may be more than the pool has
    }

    World& world_;
    std::unique_ptr<Actor> actor_;
    std::string message_;
    std::set<int64_t> completed_;
    int steps_ = 0;
    int moved_ = 0;
};

void take(std::span<const uint8_t> bytes) {
    static World& world = *new World;  // never destroyed: at exit, thread-locals that its libraries use are gone
    Input input(bytes);
    Life(world).live(input);
}

}  // namespace
}  // namespace driftwood::actor

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    driftwood::actor::take({data, size});
    return 0;
}
