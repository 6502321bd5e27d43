// One process of the demo: lives through its part of the conversation and reports, one JSON document a line, on stdout.
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iterator>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/demo.h"
#include "node/node.h"

namespace driftwood::cli {
namespace {

constexpr int64_t kClockStepNs = 1'000'000;  // what passes from turn to turn: every part of the demo has the same time

using SteadyClock = std::chrono::steady_clock;
double ms_since(SteadyClock::time_point start) {
    return std::chrono::duration<double, std::milli>(SteadyClock::now() - start).count();
}

class Worker {
  public:
    explicit Worker(const WorkerOptions& options)
        : options_(options), clock_(options.clock_start_ns, kClockStepNs), entropy_(options.seed) {}

    Result<void> run() {
        DW_ASSIGN(node_, node::Node::create(
                             {.model = "demo", .engine = options_.engine, .threads = options_.threads, .limits = {}},
                             clock_, entropy_));
        if (options_.part == "second") return second();
        DW_TRY(be_born());
        if (options_.part == "first") return first();
        for (const std::string& message : options_.messages) DW_TRY(exchange(message));
        return finish(Json::object());
    }

  private:
    Result<void> be_born() {
        std::ifstream in(options_.guest, std::ios::binary);
        if (!in) return errno_error("demo", options_.guest);
        std::vector<uint8_t> guest((std::istreambuf_iterator<char>(in)), {});
        wasm::WasiOptions wasi;
        wasi.args = {"chat"};
        wasi.environment = {"TEMPERATURE=" + options_.temperature, "SEED=" + std::to_string(options_.seed)};
        DW_ASSIGN(auto live, node_->spawn(std::move(guest), std::move(wasi)));
        adopt(std::move(live));
        DW_TRY(conversation_->advance());
        return {};
    }

    void adopt(node::LiveActor live) {
        conversation_.emplace(std::move(live));
        conversation_->set_sink(
            {.reply =
                 [this](std::string_view bytes, bool last) {
                     answers_.back() += bytes;
                     if (last) answers_.emplace_back();
                 },
             .log = [](int32_t,
                       std::string_view line) { std::fprintf(stderr, "[guest] %s\n", std::string(line).c_str()); }});
    }

    Result<void> exchange(const std::string& message) {
        DW_TRY(conversation_->say(message));
        DW_TRY(conversation_->advance());
        return {};
    }

    const session::Session& session() { return *conversation_->actor().sessions().front(); }

    Result<void> first() {
        DW_TRY(exchange(options_.messages[0]));
        DW_TRY(conversation_->say(options_.messages[1]));
        uint32_t sampled = 0;
        DW_ASSIGN(const auto pause, conversation_->advance([&](const actor::Step& step) {
            if (step.kind == actor::Step::Kind::kSample) sampled += step.tokens;
            return sampled >= options_.freeze_after_tokens;
        }));
        if (pause != Conversation::Pause::kAsked || session().finish() != session::Finish::kRunning) {
            return error(ErrorCode::kInvalidArgument, "[demo] the answer ended before token " +
                                                          std::to_string(options_.freeze_after_tokens) +
                                                          ": choose a smaller --freeze-after or another --ask");
        }
        const auto start = SteadyClock::now();
        DW_ASSIGN(const auto image, conversation_->actor().freeze(options_.image, {}));
        const double freeze_ms = ms_since(start);
        say_json({{"answers", answers_},
                  {"freeze_ms", freeze_ms},
                  {"image_bytes", image.file_bytes},
                  {"image_disk_bytes", image.disk_bytes},
                  {"linear_memory_bytes", conversation_->actor().instance().memory().size()},
                  {"kv_bytes", session().blocks().size() * node_->engine().pool().layout().block_bytes()},
                  {"tokens", session().tokens().size()}});
        for (;;) pause_forever();
    }

    static void pause_forever() { ::pause(); }

    Result<void> second() {
        const auto start = SteadyClock::now();
        DW_ASSIGN(auto thawed, node_->thaw(options_.image, true));
        const double thaw_ms = ms_since(start);
        const node::ThawReport& report = thawed.report;
        adopt(std::move(thawed.live));
        clock_.set_next_ns(conversation_->actor().clock_ns() + kClockStepNs);
        const std::vector<uint32_t> tokens(session().tokens().begin(),
                                           session().tokens().begin() + session().computed());
        double first_token_ms = 0;
        DW_TRY(conversation_->advance([&](const actor::Step& step) {
            if (step.kind == actor::Step::Kind::kSample && first_token_ms == 0) first_token_ms = ms_since(start);
            return false;
        }));
        DW_TRY(exchange(options_.messages[2]));
        const auto verify_start = SteadyClock::now();
        DW_ASSIGN(const auto again, file::SectionReader::open(options_.image, file::SectionReader::Hashes::kRequired));
        DW_TRY(again.verify_all());
        const double verify_all_ms = ms_since(verify_start);
        DW_ASSIGN(const double prefill_ms, prefill_again(tokens));
        return finish({{"imported", report.imported.has_value()},
                       {"mapped_ms", to_ms(report.open_ns + report.map_ns)},
                       {"guest_verified_ms", to_ms(report.verify_ns)},
                       {"module_compiled_ms", to_ms(report.compile_ns)},
                       {"module_from_cache", report.module_from_cache},
                       {"thaw_ms", thaw_ms},
                       {"everything_verified_ms", verify_all_ms},
                       {"first_token_ms", first_token_ms},
                       {"prefill_again_ms", prefill_ms},
                       {"prefill_again_tokens", tokens.size()},
                       {"tokens_reused", report.tokens_reused}});
    }

    // What the same tokens cost without an image: prefill in a session of their own.
    Result<double> prefill_again(const std::vector<uint32_t>& tokens) {
        session::Session fresh(node_->model(), node_->engine(), node_->blocks());
        DW_TRY(fresh.append_tokens(tokens));
        const auto start = SteadyClock::now();
        for (;;) {
            DW_ASSIGN(auto item, fresh.plan(compute::kMaxStepTokens));
            if (!item) return ms_since(start);
            node_->engine().step({&*item, 1});
            DW_TRY(fresh.commit(*item));
        }
    }

    Result<void> finish(Json json) {
        DW_ASSIGN(const auto image, conversation_->actor().freeze(options_.final_image, {}));
        json["answers"] = answers_;
        json["final_image_bytes"] = image.file_bytes;
        json["tokens_at_end"] = session().tokens().size();
        say_json(json);
        return {};
    }

    static void say_json(const Json& json) {
        std::printf("%s\n", json.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
        std::fflush(stdout);
    }

    WorkerOptions options_;
    StepClock clock_;
    SeededEntropy entropy_;
    std::unique_ptr<node::Node> node_;
    std::optional<Conversation> conversation_;
    std::vector<std::string> answers_{1};
};

}  // namespace

void add_demo_worker(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<WorkerOptions>();
    CLI::App* command = app.add_subcommand("demo-worker", "One process of the demo")->group("");
    command->add_option("part", options->part)->required()->check(CLI::IsMember({"first", "second", "whole"}));
    command->add_option("--guest", options->guest);
    command->add_option("--image", options->image);
    command->add_option("--final-image", options->final_image);
    command->add_option("--message", options->messages)->expected(3);
    command->add_option("--freeze-after", options->freeze_after_tokens);
    command->add_option("--seed", options->seed);
    command->add_option("--clock-start", options->clock_start_ns);
    command->add_option("--temperature", options->temperature);
    command->add_option("--isa", options->engine);
    command->add_option("--threads", options->threads);
    command->callback([options, &exit_code] {
        prctl(PR_SET_PDEATHSIG, SIGKILL);  // a demo that is killed leaves nobody behind
        if (const auto done = Worker(*options).run(); !done.ok()) exit_code = report(done.error(), Format::kText);
    });
}

}  // namespace driftwood::cli
