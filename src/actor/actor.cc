#include "actor/actor.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "actor/actor_impl.h"
#include "actor/limits.h"

namespace driftwood::actor {

Result<std::unique_ptr<Actor>> Actor::create(const Context& context, const wasm::Module& module,
                                             const ActorOptions& options) {
    auto actor = std::make_unique<ActorImpl>(context, module);
    DW_TRY(actor->be_born(options));
    return std::unique_ptr<Actor>(std::move(actor));
}

Result<void> ActorImpl::be_born(const ActorOptions& options) {
    context_.entropy.fill(id_);
    std::array<uint8_t, sizeof random_seed_> seed{};
    context_.entropy.fill(seed);
    std::memcpy(&random_seed_, seed.data(), seed.size());
    clock_checked_ = true;
    begin_turn();
    auto born = wasm::Instance::create(module_, *this, options.limits, options.wasi);
    if (born.ok()) {
        instance_ = *std::move(born);
        return {};
    }
    // Nobody will see its effects; but what it said before it failed may be why.
    end_lines();
    Error failure = std::move(born).error();
    for (const Effect& effect : take_effects()) {
        if (effect.kind == Effect::Kind::kLog) failure.message += "\n  guest: " + effect.bytes;
    }
    return failure;
}

// Time never runs backwards in an actor, though the clock of the machine it was thawed on may be behind.
int64_t ActorImpl::read_clock() {
    const int64_t reading = context_.clock.now_ns();
    if (!clock_checked_) {
        clock_offset_ns_ = std::max<int64_t>(0, turn_ns_ - reading);
        clock_checked_ = true;
    }
    return std::max(turn_ns_, reading + clock_offset_ns_);
}

void ActorImpl::begin_turn() {
    turn_ns_ = read_clock();
    ++turns_;
}

// What a guest that comes to its end had written without a newline.
void ActorImpl::end_lines() {
    for (const int fd : {1, 2}) {
        if (!lines_[fd == 2 ? 1 : 0].empty()) wasi_write(fd, "\n");
    }
}

// A failed turn's replies did not happen; its log lines did, because they say why.
void ActorImpl::end_turn(Step& step, const Result<void>& outcome) {
    step.kind = Step::Kind::kTurn;
    if (!outcome.ok() || instance_->exit_code()) end_lines();
    if (!outcome.ok()) std::erase_if(effects_, [](const Effect& effect) { return effect.kind != Effect::Kind::kLog; });
    step.effects = take_effects();
    if (!outcome.ok()) fail(step, outcome.error());
}

void ActorImpl::fail(Step& step, Error error) {
    step.error = error;
    failure_ = std::move(error);
}

const Error& ActorImpl::failure() const {
    CHECK(failure_.has_value());
    return *failure_;
}

Actor::State ActorImpl::state() const {
    if (failure_) return State::kFailed;
    if (instance_->exit_code()) return State::kStopped;
    return next() == Step::Kind::kNothing ? State::kWaiting : State::kReady;
}

Step::Kind ActorImpl::next() const {
    if (failure_ || instance_->exit_code()) return Step::Kind::kNothing;
    if (!started_ || !completions_.empty()) return Step::Kind::kTurn;
    if (std::any_of(operations_.begin(), operations_.end(), std::mem_fn(&Operation::is_tensor))) {
        return Step::Kind::kTensor;
    }
    auto next = Step::Kind::kNothing;
    for (const auto& [handle, session] : sessions_) {
        if (session->can_sample()) return Step::Kind::kSample;
        if (wants_forward(handle, *session)) next = Step::Kind::kForward;
    }
    return next;
}

Result<void> ActorImpl::send(std::string_view message) {
    if (message.size() > kMaxMessageBytes) {
        return error(ErrorCode::kLimit, "[actor.send] message of " + std::to_string(message.size()) +
                                            " bytes: the limit is " + std::to_string(kMaxMessageBytes));
    }
    if (mailbox_.size() >= kMaxMailboxMessages) {
        return error(ErrorCode::kLimit, "[actor.send] the mailbox is full (" + std::to_string(kMaxMailboxMessages) +
                                            " messages): wait until the actor has read some");
    }
    mailbox_.emplace_back(message);
    settle();
    return {};
}

bool ActorImpl::wake() {
    const State now = state();
    if (now == State::kFailed || now == State::kStopped) return false;
    const auto is_timer = [](const Operation& operation) { return operation.kind == Operation::Kind::kSleep; };
    if (std::none_of(operations_.begin(), operations_.end(), is_timer)) return false;
    const int64_t time = read_clock();
    std::vector<std::pair<int64_t, int64_t>> due;  // deadline, operation
    std::erase_if(operations_, [&](const Operation& operation) {
        if (!is_timer(operation) || operation.target > time) return false;
        due.emplace_back(operation.target, operation.id);
        return true;
    });
    if (due.empty()) return false;
    turn_ns_ = time;  // so that the guest, when it is told, finds the deadline passed
    std::sort(due.begin(), due.end());
    for (const auto& [deadline, op] : due) completions_.push_back({.op = op, .status = 0, .out = {}, .bytes = {}});
    return true;
}

std::optional<int64_t> ActorImpl::next_timer_in_ns() {
    std::optional<int64_t> first;
    for (const Operation& operation : operations_) {
        if (operation.kind == Operation::Kind::kSleep) first = std::min(first.value_or(INT64_MAX), operation.target);
    }
    if (!first || failure_ || instance_->exit_code()) return std::nullopt;
    return std::max<int64_t>(0, *first - read_clock());
}

bool ActorImpl::listens() const {
    return std::any_of(operations_.begin(), operations_.end(),
                       [](const Operation& operation) { return operation.kind == Operation::Kind::kReceive; });
}

Step ActorImpl::step() {
    CHECK(!forward_);
    Step step;
    switch (next()) {
        case Step::Kind::kNothing: return step;
        case Step::Kind::kTurn:
            if (started_) {
                deliver(step);
            } else {
                started_ = true;
                begin_turn();
                end_turn(step, instance_->start());
            }
            break;
        case Step::Kind::kTensor: run_tensor(step); break;
        case Step::Kind::kSample: run_sample(step); break;
        case Step::Kind::kForward: {
            session::Batch batch(context_.engine);
            reuse_prefix();
            CHECK(plan_forward(batch, kPrefillChunk, FullPool::kFail));
            batch.run();
            return commit_forward(batch);
        }
    }
    end_step(step);
    return step;
}

void ActorImpl::end_step(Step& step) {
    if (!failure_) check_memory(step);
    if (!failure_) settle();
}

// A device and the copies of this class touch guest memory outside of turns; a turn checks for itself.
void ActorImpl::check_memory(Step& step) {
    const memory::Region& memory = instance_->memory();
    if (auto intact = memory.check_intact(0, memory.size()); !intact.ok()) {
        step.effects.clear();
        fail(step, std::move(intact).error());
    }
}

void ActorImpl::deliver(Step& step) {
    Completion completion = std::move(completions_.front());
    completions_.pop_front();
    if (!completion.bytes.empty()) {
        const auto out = instance_->range(completion.out);
        if (out && out->size() >= completion.bytes.size()) {
            std::memcpy(out->data(), completion.bytes.data(), completion.bytes.size());
        } else {
            completion.status = -DRIFTWOOD_EFAULT;
        }
    }
    begin_turn();
    end_turn(step, instance_->complete(completion.op, completion.status));
}

void ActorImpl::run_tensor(Step& step) {
    const auto found = std::find_if(operations_.begin(), operations_.end(), std::mem_fn(&Operation::is_tensor));
    memory::Region& memory = instance_->memory();
    const Result<void> outcome = found->kind == Operation::Kind::kGemm
                                     ? context_.device.gemm(memory, to_device(found->gemm))
                                     : context_.device.rows(memory, to_device(found->rows));
    completions_.push_back({.op = found->id, .status = outcome.ok() ? 0 : -DRIFTWOOD_EINVAL, .out = {}, .bytes = {}});
    operations_.erase(found);
    step.kind = Step::Kind::kTensor;
}

void ActorImpl::run_sample(Step& step) {
    step.kind = Step::Kind::kSample;
    for (auto& [handle, session] : sessions_) {
        if (!session->can_sample()) continue;
        ++step.tokens;
        if (const auto outcome = session->sample(); !outcome.ok()) session_failed(handle, -DRIFTWOOD_ENOTFINITE);
    }
}

void ActorImpl::session_failed(int64_t handle, int64_t status) {
    sessions_.at(handle)->end_generate();
    if (Stream* stream = live_stream(handle)) stream->error = status;
    std::erase_if(operations_, [&](const Operation& operation) {
        if (!operation.computes(handle)) return false;
        completions_.push_back({.op = operation.id, .status = status, .out = {}, .bytes = {}});
        return true;
    });
}

void ActorImpl::settle() {
    std::erase_if(operations_, [this](const Operation& operation) {
        auto completion = try_complete(operation);
        if (!completion) return false;
        completions_.push_back(std::move(*completion));
        return true;
    });
}

std::optional<Completion> ActorImpl::try_complete(const Operation& operation) {
    switch (operation.kind) {
        case Operation::Kind::kReceive: return try_receive(operation);
        case Operation::Kind::kNext: return try_next(operation);
        case Operation::Kind::kPrefill: {
            const session::Session& session = *sessions_.at(operation.target);
            if (session.tokens().size() != session.computed()) return std::nullopt;
            return Completion{
                .op = operation.id, .status = static_cast<int64_t>(operation.progress), .out = {}, .bytes = {}};
        }
        case Operation::Kind::kDecode: return try_decode(operation);
        case Operation::Kind::kGemm:
        case Operation::Kind::kRows:                        // a step of its own
        case Operation::Kind::kSleep: return std::nullopt;  // by wake()
    }
    return std::nullopt;
}

std::optional<Completion> ActorImpl::try_receive(const Operation& operation) {
    if (mailbox_.empty()) return std::nullopt;
    Completion completion{.op = operation.id, .status = 0, .out = operation.out, .bytes = {}};
    const auto size = static_cast<int64_t>(mailbox_.front().size());
    if (size > operation.out.length) {
        completion.status = -(size << 16 | DRIFTWOOD_E2BIG);
        return completion;
    }
    completion.status = size;
    completion.bytes = std::move(mailbox_.front());
    mailbox_.pop_front();
    return completion;
}

std::optional<Completion> ActorImpl::try_next(const Operation& operation) {
    const Stream& stream = streams_.at(operation.target);
    Completion completion{.op = operation.id, .status = 0, .out = operation.out, .bytes = {}};
    if (stream.detached) return completion;
    session::Session& session = *sessions_.at(stream.session);
    if (session.output_bytes() > 0) {
        completion.bytes.resize(std::min<size_t>(session.output_bytes(), operation.out.length));
        const size_t taken =
            session.take_output({reinterpret_cast<uint8_t*>(completion.bytes.data()), completion.bytes.size()});
        completion.bytes.resize(taken);
        constexpr int64_t kLongestCharacter = 4;
        completion.status = taken > 0 ? static_cast<int64_t>(taken) : -(kLongestCharacter << 16 | DRIFTWOOD_E2BIG);
        return completion;
    }
    if (stream.error != 0) {
        completion.status = stream.error;
        return completion;
    }
    if (session.finish() == session::Finish::kRunning) return std::nullopt;
    return completion;
}

std::optional<Completion> ActorImpl::try_decode(const Operation& operation) {
    const session::Session& session = *sessions_.at(operation.target);
    if (session.tokens().size() != session.computed()) return std::nullopt;
    Completion completion{.op = operation.id, .status = 0, .out = {}, .bytes = {}};
    const auto logits = std::as_bytes(session.last_logits());
    const auto count = static_cast<int64_t>(session.last_logits().size());
    const auto out = instance_->range(operation.out);
    if (!out) {
        completion.status = -DRIFTWOOD_EFAULT;
    } else if (logits.size() > out->size()) {  // a larger model, since a thaw
        completion.status = -(count << 16 | DRIFTWOOD_E2BIG);
    } else {
        std::memcpy(out->data(), logits.data(), logits.size());
        completion.status = count;
    }
    return completion;
}

std::vector<const session::Session*> ActorImpl::sessions() const {
    std::vector<const session::Session*> all;
    for (const auto& [handle, session] : sessions_) all.push_back(session.get());
    return all;
}

}  // namespace driftwood::actor
