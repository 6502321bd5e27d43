// From an image to the first token, on a node that runs: the parts of a thaw, each by itself.
#include <unistd.h>

#include <filesystem>

#include "cli/load.h"
#include "node/builtin.h"
#include "node/stopwatch.h"

namespace driftwood::cli {
namespace {

using Kind = actor::Step::Kind;

constexpr uint32_t kMessageTokens = 8;
constexpr uint32_t kRoom = 256;  // tokens of context behind the conversation

struct Steps {
    double turns_ms = 0, step_ms = 0, sample_ms = 0;
    uint32_t tokens = 0;  // computed
};

// Up to the first token of an answer.
Result<Steps> to_first_token(actor::Actor& actor) {
    Steps steps;
    node::Stopwatch watch;
    for (;;) {
        const Kind kind = actor.next();
        const actor::Step step = actor.step();
        if (step.error) return *step.error;
        const double ms = to_ms(watch.lap_ns());
        if (kind == Kind::kForward) steps.tokens += step.tokens;
        (kind == Kind::kForward ? steps.step_ms : kind == Kind::kSample ? steps.sample_ms : steps.turns_ms) += ms;
        if (kind == Kind::kSample) return steps;
        if (kind == Kind::kNothing) {
            return error(ErrorCode::kInternal, "[load.wake] the actor waits and has not answered");
        }
    }
}

Result<void> to_rest(actor::Actor& actor) {
    while (actor.next() != Kind::kNothing) {
        const actor::Step step = actor.step();
        if (step.error) return *step.error;
    }
    return {};
}

class Wake {
  public:
    Wake(const WakeOptions& options, node::Node& node, std::string path)
        : options_(options), node_(node), path_(std::move(path)) {}

    Result<WakeReport> run() {
        const auto guest = node::chat_guest();
        DW_ASSIGN(module_, node_.compile({guest.begin(), guest.end()}));
        DW_TRY(freeze());
        // Somebody is there and has just been answered: the node runs.
        DW_ASSIGN(const auto neighbour, talk(64));
        DW_TRY(to_rest(*neighbour));
        for (uint32_t i = 0; i <= options_.repetitions; ++i) {
            DW_TRY(neighbour->send("And?"));
            DW_TRY(to_rest(*neighbour));
            DW_ASSIGN(const WakeReport::Times times, once());
            if (i > 0) report_.runs.push_back(times);  // the first brings the file into the page cache
        }
        return std::move(report_);
    }

  private:
    Result<std::unique_ptr<actor::Actor>> talk(uint32_t tokens) {
        DW_ASSIGN(auto actor, node_.spawn(*module_, {.args = {"chat"}, .environment = {"MAX_TOKENS=4"}}));
        DW_TRY(actor->send(load_text(node_.model(), tokens, 1)));
        return actor;
    }

    Result<void> freeze() {
        if (options_.tokens + kRoom > node_.model().spec().context) {
            return error(ErrorCode::kInvalidArgument, "[load.wake] --wake " + std::to_string(options_.tokens) +
                                                          ": the model has a context of " +
                                                          std::to_string(node_.model().spec().context));
        }
        DW_ASSIGN(const auto actor, talk(options_.tokens));
        DW_TRY(to_rest(*actor));
        DW_ASSIGN(const auto image, actor->freeze(path_, {.replace = true, .durable = false}));
        report_.model = node_.model().name();
        report_.engine = node_.engine().name();
        report_.image_bytes = image.file_bytes;
        report_.tokens = actor->sessions().at(0)->computed();
        return {};
    }

    Result<WakeReport::Times> once() {
        node::Stopwatch watch;
        DW_ASSIGN(auto thawed, node_.thaw(path_, true));
        DW_TRY(thawed.live.actor->send("Well?"));
        DW_ASSIGN(const Steps first, to_first_token(*thawed.live.actor));
        WakeReport::Times times;
        times.total_ms = to_ms(watch.lap_ns());
        const node::ThawReport& report = thawed.report;
        times.open_ms = to_ms(report.import_ns + report.open_ns);
        times.verify_ms = to_ms(report.verify_ns);
        times.module_ms = to_ms(report.compile_ns);
        times.map_ms = to_ms(report.map_ns);
        times.turns_ms = first.turns_ms;
        times.step_ms = first.step_ms;
        times.sample_ms = first.sample_ms;
        report_.message_tokens = first.tokens;
        DW_TRY(to_rest(*thawed.live.actor));
        DW_TRY(thawed.live.actor->send("Well?"));
        DW_ASSIGN(const Steps again, to_first_token(*thawed.live.actor));
        times.again_ms = again.step_ms;
        return times;
    }

    const WakeOptions& options_;
    node::Node& node_;
    std::string path_;
    std::unique_ptr<wasm::Module> module_;
    WakeReport report_;
};

}  // namespace

Result<WakeReport> run_wake(const WakeOptions& options) {
    SystemClock clock;
    SeededEntropy entropy(1);
    // This node computed the conversation itself: a thaw that shared its blocks would not read the image's.
    node::NodeOptions apart = options.node;
    apart.prefix_bytes = std::nullopt;
    DW_ASSIGN(const auto node, node::Node::create(apart, clock, entropy));
    std::error_code failed;
    const auto directory = std::filesystem::temp_directory_path(failed);
    if (failed) return error(ErrorCode::kIo, "[load.wake] temporary directory: " + failed.message());
    const std::string path = directory / ("driftwood-wake-" + std::to_string(getpid()) + ".actor");
    auto report = Wake(options, *node, path).run();
    std::filesystem::remove(path, failed);
    return report;
}

}  // namespace driftwood::cli
