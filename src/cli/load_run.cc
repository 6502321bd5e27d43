// The load itself: conversations that arrive, talk and leave, and when each got its tokens.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>
#include <optional>

#include "base/fp_environment.h"
#include "base/random.h"
#include "cli/load.h"
#include "cli/weights_option.h"
#include "file/hash.h"
#include "node/builtin.h"
#include "node/scheduler.h"

namespace driftwood::cli {
namespace {

constexpr uint64_t kLoadStream = 0x4C4F4144;  // "LOAD": apart from other uses of one seed
constexpr double kMs = 1e3;
constexpr size_t kShownBytes = 200;  // of what an actor said

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

uint32_t pick(const Span& span, uint32_t random) {
    return span.first + static_cast<uint32_t>(uint64_t{random} * (span.last - span.first + 1) >> 32);
}

constexpr const char* kWords[] = {"the",    "old",  "boat",  "came", "home",   "with", "seven",
                                  "stones", "and",  "a",     "lamp", "nobody", "saw",  "it",
                                  "under",  "that", "green", "hill", "until",  "rain"};

// When one conversation got what.
struct Track {
    uint64_t index = 0;
    uint32_t sent = 0;     // messages
    double sent_at = 0;    // the last one
    uint32_t tokens = 0;   // of the answer in progress
    bool replied = false;  // to the last message
    std::string said;      // the beginning of what an actor replied to it
    double last_token_at = 0;
    uint64_t last_step = 0;
    // Of all its answers: gaps between tokens.
    uint64_t gaps = 0, gap_steps = 0;
    double gap_ms = 0;
    bool answered = false;
    uint32_t pause = 0;  // rounds until it says something else; counted down
};

class Load {
  public:
    Load(const LoadOptions& options, node::Node& node, const std::vector<LoadPlan>& plans)
        : options_(options), node_(node), plans_(plans) {
        limits_ = node::step_limits(node.engine().name());
        limits_.decode_tokens = options.decode_tokens.value_or(limits_.decode_tokens);
        limits_.prompt_tokens = options.prompt_tokens.value_or(limits_.prompt_tokens);
        if (options.system > 0) system_ = load_text(node.model(), options.system, options.seed);
    }
    virtual ~Load() = default;

    Result<LoadReport> run() {
        report_.model = node_.model().name();
        report_.engine = node_.engine().name();
        report_.limits = limits_;
        report_.block_bytes = node_.engine().pool().layout().block_bytes();
        const double begin = seconds_now();
        size_t next = 0;
        uint64_t step = 0;
        double decode_steps = 0;
        while (next < plans_.size() || !present_.empty()) {
            for (; next < plans_.size() && present_.size() < options_.present && plans_[next].arrives <= step; ++next) {
                Track& track = present_[next];
                track.index = next;
                DW_TRY(arrive(track));
            }
            report_.most_present = std::max(report_.most_present, static_cast<uint32_t>(present_.size()));
            const node::Batcher::Report forward = round();
            if (forward.members > 0) ++report_.steps;
            report_.decode_tokens += forward.decode_tokens;
            report_.prompt_tokens += forward.prompt_tokens;
            report_.reused_tokens += forward.reused_tokens;
            report_.waits_for_blocks += forward.no_blocks;
            decode_steps += forward.decode_tokens > 0 ? 1 : 0;
            ++step;
            const uint32_t held = node_.engine().pool().blocks_in_use() - node_.blocks().idle_prefixes();
            report_.most_blocks = std::max(report_.most_blocks, held);
            DW_TRY(go_on());
        }
        report_.seconds = seconds_now() - begin;
        report_.digest = file::to_hex(file::blake3(digests_));
        report_.mean_decodes = decode_steps > 0 ? static_cast<double>(report_.decode_tokens) / decode_steps : 0;
        return std::move(report_);
    }

  protected:
    virtual Result<void> arrive(Track& track) = 0;
    virtual Result<void> say(Track& track) = 0;  // the next message
    virtual Result<const session::Session*> session(const Track& track) = 0;
    virtual void remove(Track& track) = 0;
    virtual node::Batcher::Report round() = 0;

    const LoadPlan& plan(const Track& track) const { return plans_[track.index]; }
    void note_sent(Track& track) {
        ++track.sent;
        track.sent_at = seconds_now();
        track.tokens = 0;
        track.replied = false;
        track.said.clear();
    }
    void note_token(Track& track) {
        const double now = seconds_now();
        ++report_.sampled;
        if (track.tokens++ == 0) {
            report_.first_token_ms.push_back((now - track.sent_at) * kMs);
        } else {
            const double gap = (now - track.last_token_at) * kMs;
            report_.token_ms.push_back(gap);
            ++track.gaps;
            track.gap_ms += gap;
            track.gap_steps += report_.steps - track.last_step;
        }
        track.last_token_at = now;
        track.last_step = report_.steps;
    }
    void note_reply(Track& track) {
        if (!std::exchange(track.replied, true)) {
            report_.first_reply_ms.push_back((seconds_now() - track.sent_at) * kMs);
        }
    }
    void note_answered(Track& track) { track.answered = true; }
    void note_failed(Track& track, const std::string& why) {
        if (report_.failed++ == 0) report_.first_failure = why;
        track.answered = true;
    }

    const LoadOptions& options_;
    node::Node& node_;
    const std::vector<LoadPlan>& plans_;
    node::StepLimits limits_;
    std::string system_;  // empty: none
    std::map<size_t, Track> present_;
    LoadReport report_;

  private:
    void note_digest(const Track& track, const session::Session& left) {
        file::Hasher hasher;
        const auto tokens = std::as_bytes(std::span(left.tokens()));
        const auto logits = std::as_bytes(left.last_logits());
        for (const auto bytes : {tokens, logits}) {
            hasher.update({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
        }
        const file::Hash hash = hasher.finish();
        digests_.resize(plans_.size() * hash.size());
        std::copy(hash.begin(), hash.end(), digests_.begin() + static_cast<ptrdiff_t>(track.index * hash.size()));
    }

    Result<void> leave(Track& track) {
        if (track.gaps > 0) {
            report_.share.push_back(static_cast<double>(track.gaps) / static_cast<double>(track.gap_steps));
            report_.mean_token_ms.push_back(track.gap_ms / static_cast<double>(track.gaps));
        }
        DW_ASSIGN(const session::Session* left, session(track));
        note_digest(track, *left);
        remove(track);
        return {};
    }

    // Whoever was answered says something else after a while, or leaves.
    Result<void> go_on() {
        for (auto it = present_.begin(); it != present_.end();) {
            Track& track = it->second;
            if (std::exchange(track.answered, false)) {
                if (track.sent == plan(track).prompts.size()) {
                    DW_TRY(leave(track));
                    it = present_.erase(it);
                    continue;
                }
                track.pause = plan(track).pauses[track.sent] + 1;
            }
            if (track.pause > 0 && --track.pause == 0) DW_TRY(say(track));
            ++it;
        }
        return {};
    }

    std::vector<uint8_t> digests_;  // by conversation
};

// Chat actors: guests, turns, replies and all.
class ActorLoad final : public Load {
  public:
    ActorLoad(const LoadOptions& options, node::Node& node, const std::vector<LoadPlan>& plans)
        : Load(options, node, plans) {}

    Result<void> init() {
        const auto guest = node::chat_guest();
        DW_ASSIGN(module_, node_.compile({guest.begin(), guest.end()}));
        DW_ASSIGN(auto directory, options_.park.make_directory());
        if (directory) {
            directory_.emplace(*std::move(directory));
            parking_.emplace(
                directory_->path(), [this](const std::string& image) { return thaw(image); }, clock_,
                options_.park.policy());
        }
        scheduler_.emplace(
            node_.engine(), node_.blocks(), node::SchedulerOptions{.step = limits_, .threads = options_.node.threads},
            [this](node::Scheduler::Key key, const actor::Step& step) { take(key, step); },
            parking_ ? &*parking_ : nullptr);
        return {};
    }

  private:
    Result<void> arrive(Track& track) override {
        wasm::WasiOptions wasi{.args = {"chat"},
                               .environment = {"MAX_TOKENS=" + std::to_string(plan(track).answer),
                                               "SEED=" + std::to_string(plan(track).seed),
                                               "TEMPERATURE=" + std::to_string(options_.temperature)}};
        if (!system_.empty()) wasi.environment.push_back("SYSTEM=" + system_);
        node::LiveActor live;
        DW_ASSIGN(live.actor, node_.spawn(*module_, std::move(wasi)));
        DW_ASSIGN(const node::Scheduler::Key key, scheduler_->add(std::move(live)));
        key_of_[track.index] = key;
        track_of_[key] = &track;
        return say(track);
    }
    Result<void> say(Track& track) override {
        const LoadPlan& of = plan(track);
        const std::string text = load_text(node_.model(), of.prompts[track.sent], of.seed + track.sent);
        note_sent(track);
        return scheduler_->send(key_of_.at(track.index), text);
    }
    Result<const session::Session*> session(const Track& track) override {
        const node::Scheduler::Key key = key_of_.at(track.index);
        DW_TRY(scheduler_->fetch(key));
        return scheduler_->at(key).sessions().at(0);
    }
    void remove(Track& track) override {
        const node::Scheduler::Key key = key_of_.at(track.index);
        scheduler_->remove(key);
        key_of_.erase(track.index);
        track_of_.erase(key);
    }
    node::Batcher::Report round() override {
        const node::Scheduler::Round round = scheduler_->round();
        report_.parked += round.parked;
        report_.fetched += round.fetched;
        report_.most_bytes = std::max(report_.most_bytes, scheduler_->memory_bytes());
        report_.forward_s += static_cast<double>(round.forward_ns) * 1e-9;
        report_.samples_s += static_cast<double>(round.samples_ns) * 1e-9;
        report_.turns_s += static_cast<double>(round.turns_ns) * 1e-9;
        return round.forward;
    }
    Result<node::LiveActor> thaw(const std::string& image) {
        node::LiveActor live;
        DW_ASSIGN(live.actor, node_.thaw(*module_, image));
        return live;
    }
    void take(node::Scheduler::Key key, const actor::Step& step) {
        Track& track = *track_of_.at(key);
        if (step.error) return note_failed(track, step.error->message);
        if (step.kind == actor::Step::Kind::kSample) note_token(track);
        for (const actor::Effect& effect : step.effects) {
            if (effect.kind != actor::Effect::Kind::kReply) continue;
            if (!effect.bytes.empty()) note_reply(track);
            if (track.said.size() < kShownBytes) track.said.append(effect.bytes.begin(), effect.bytes.end());
            if (!effect.last) continue;
            if (track.tokens == 0) {
                note_failed(track, "the actor said: " + track.said.substr(0, kShownBytes));
            } else {
                note_answered(track);
            }
        }
    }

    std::unique_ptr<wasm::Module> module_;
    SystemClock clock_;
    std::optional<node::ParkingDirectory> directory_;
    std::optional<node::Parking> parking_;
    std::optional<node::Scheduler> scheduler_;
    std::map<size_t, node::Scheduler::Key> key_of_;
    std::map<node::Scheduler::Key, Track*> track_of_;
};

// The same conversations without guests.
class SessionLoad final : public Load {
  public:
    SessionLoad(const LoadOptions& options, node::Node& node, const std::vector<LoadPlan>& plans)
        : Load(options, node, plans),
          batcher_(node.engine(), node.blocks(), limits_),
          threads_(options.node.threads != 0 ? options.node.threads : compute::available_cores(),
                   [] { FpEnvironment::enter(Subnormals::kKeep); }) {}

  private:
    struct Talk {
        std::unique_ptr<session::Session> session;
        std::unique_ptr<node::SessionMember> member;
        Track* track = nullptr;
        Result<void> sampled;
    };

    Result<void> arrive(Track& track) override {
        Talk& talk = talks_[track.index];
        const session::TrustDomain domain;  // all of them are this load's
        talk.session = std::make_unique<session::Session>(node_.model(), node_.engine(), node_.blocks(), domain);
        if (!system_.empty()) DW_TRY(talk.session->append("system", system_));
        talk.member = std::make_unique<node::SessionMember>(*talk.session);
        talk.track = &track;
        return say(track);
    }
    Result<void> say(Track& track) override {
        const LoadPlan& of = plan(track);
        session::Session& session = *talks_.at(track.index).session;
        const std::string text = load_text(node_.model(), of.prompts[track.sent], of.seed + track.sent);
        note_sent(track);
        const auto appended = session.append("user", text);
        if (!appended.ok()) {
            note_failed(track, appended.error().message);
            return {};
        }
        return session.begin_generate(
            {.sampler = {.temperature = options_.temperature, .seed = of.seed}, .max_tokens = of.answer});
    }
    Result<const session::Session*> session(const Track& track) override {
        return talks_.at(track.index).session.get();
    }
    void remove(Track& track) override { talks_.erase(track.index); }

    node::Batcher::Report round() override {
        const double begin = seconds_now();
        std::vector<node::BatchMember*> members;
        for (auto& [index, talk] : talks_) members.push_back(talk.member.get());
        const node::Batcher::Report report = batcher_.step(members);
        const double computed = seconds_now();
        sample();
        report_.forward_s += computed - begin;
        report_.samples_s += seconds_now() - computed;
        return report;
    }
    void sample() {
        std::vector<Talk*> sampling;
        for (auto& [index, talk] : talks_) {
            if (talk.session->can_sample()) sampling.push_back(&talk);
            if (const auto& why = talk.member->failure()) note_failed(*talk.track, why->message);
        }
        threads_.run(static_cast<uint32_t>(sampling.size()),
                     [&](uint32_t i) { sampling[i]->sampled = sampling[i]->session->sample(); });
        for (Talk* talk : sampling) {
            if (!talk->sampled.ok()) {
                talk->session->end_generate();
                note_failed(*talk->track, talk->sampled.error().message);
                continue;
            }
            note_token(*talk->track);
            std::array<uint8_t, 256> bytes{};
            while (talk->session->take_output(bytes) > 0) {
            }
            if (talk->session->finish() != session::Finish::kRunning) note_answered(*talk->track);
        }
    }

    node::Batcher batcher_;
    compute::ThreadPool threads_;
    std::map<size_t, Talk> talks_;
};

}  // namespace

std::vector<LoadPlan> plan_load(const LoadOptions& options) {
    std::vector<LoadPlan> plans;
    double arrives = 0;
    for (uint64_t i = 0; i < options.total; ++i) {
        const auto random = philox(options.seed, i, kLoadStream);
        LoadPlan plan{.arrives = static_cast<uint64_t>(arrives),
                      .seed = options.seed * 1'000'003 + i,
                      .answer = pick(options.answer, random[0]),
                      .prompts = {},
                      .pauses = {}};
        const uint32_t messages = pick(options.messages, random[1]);
        for (uint64_t m = 0; m < messages; ++m) {
            const auto message = philox(plan.seed, m, kLoadStream);
            plan.prompts.push_back(pick(options.prompt, message[0]));
            plan.pauses.push_back(pick({0, 2 * options.pause}, message[1]));
        }
        plans.push_back(std::move(plan));
        arrives -= options.gap * std::log((random[2] + 1.0) / 4294967297.0);
    }
    return plans;
}

std::string load_text(const model::Model& model, uint32_t tokens, uint64_t seed) {
    const auto encoded = [&](const std::string& text) {
        const auto ids = model.tokenizer().encode(text, model::Tokenizer::Special::kText);
        return ids.ok() ? ids->size() : text.size();
    };
    std::string text;
    size_t counted = 0;
    for (uint64_t i = 0; counted < tokens; ++i) {
        const std::string word =
            (i == 0 ? "" : " ") + std::string(kWords[philox(seed, i, kLoadStream)[0] % std::size(kWords)]);
        counted += encoded(word);
        text += word;
    }
    return text;
}

Result<LoadReport> run_load(const LoadOptions& options) {
    SystemClock clock;
    SeededEntropy entropy(options.seed);
    DW_ASSIGN(const auto node, node::Node::create(options.node, clock, entropy));
    note_weights(node->model());
    const std::vector<LoadPlan> plans = plan_load(options);
    if (options.sessions) return SessionLoad(options, *node, plans).run();
    ActorLoad load(options, *node, plans);
    DW_TRY(load.init());
    return load.run();
}

}  // namespace driftwood::cli
