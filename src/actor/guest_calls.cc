// What the guest may ask for: each call checks its handles and limits, changes plain state, and answers at once.
// Nothing here computes or waits; operations are only written down.
#include <algorithm>
#include <cstring>

#include "actor/actor_impl.h"
#include "actor/limits.h"
#include "base/random.h"

namespace driftwood::actor {
namespace {

int64_t to_errno(const Error& error) {
    switch (error.code) {
        case ErrorCode::kInvalidArgument: return -DRIFTWOOD_EINVAL;
        case ErrorCode::kLimit: return -DRIFTWOOD_ENOSPC;
        case ErrorCode::kUnsupported: return -DRIFTWOOD_ENOSYS;
        case ErrorCode::kNotFinite: return -DRIFTWOOD_ENOTFINITE;
        default: return -DRIFTWOOD_EIO;
    }
}

}  // namespace

bool ActorImpl::effects_have_room(size_t bytes) const {
    return effects_.size() < kMaxEffectsPerTurn && bytes <= kMaxEffectBytesPerTurn - effect_bytes_;
}

void ActorImpl::push_effect(Effect effect) {
    effect_bytes_ += effect.bytes.size();
    effect.turn = turns_;
    effect.index = static_cast<uint32_t>(effects_.size());
    effects_.push_back(std::move(effect));
}

std::vector<Effect> ActorImpl::take_effects() {
    effect_bytes_ = 0;
    return std::exchange(effects_, {});
}

void ActorImpl::log(int32_t level, std::string_view line) {
    line = line.substr(0, kMaxLogLineBytes);
    if (!effects_have_room(line.size())) return;
    push_effect({.kind = Effect::Kind::kLog, .level = level, .bytes = std::string(line)});
}

void ActorImpl::wasi_write(int fd, std::string_view bytes) {
    std::string& buffer = lines_[fd == 2 ? 1 : 0];
    buffer += bytes;
    flush_lines(fd, buffer);
}

void ActorImpl::flush_lines(int fd, std::string& buffer) {
    size_t start = 0;
    for (;;) {
        const size_t end = buffer.find('\n', start);
        if (end == std::string::npos) break;
        log(fd == 2 ? DRIFTWOOD_LOG_WARN : DRIFTWOOD_LOG_INFO, std::string_view(buffer).substr(start, end - start));
        start = end + 1;
    }
    buffer.erase(0, start);
    if (buffer.size() < kMaxLogLineBytes) return;
    log(fd == 2 ? DRIFTWOOD_LOG_WARN : DRIFTWOOD_LOG_INFO, buffer);
    buffer.clear();
}

void ActorImpl::random(std::span<uint8_t> out) {
    for (size_t i = 0; i < out.size(); i += 16) {
        const auto words = philox(random_seed_, random_counter_++);
        std::memcpy(out.data() + i, words.data(), std::min<size_t>(16, out.size() - i));
    }
}

int32_t ActorImpl::reply(std::span<const uint8_t> bytes, bool last) {
    if (bytes.size() > kMaxReplyBytes || !effects_have_room(bytes.size())) return -DRIFTWOOD_EOVERFLOW;
    push_effect({.kind = Effect::Kind::kReply, .last = last, .bytes = std::string(bytes.begin(), bytes.end())});
    return 0;
}

bool ActorImpl::no_room_for_operations() const { return operations_.size() + completions_.size() >= kMaxOperations; }

int64_t ActorImpl::issue(Operation operation) {
    if (no_room_for_operations()) return -DRIFTWOOD_EOVERFLOW;
    operation.id = next_id_++;
    operations_.push_back(operation);
    return operation.id;
}

int64_t ActorImpl::receive(wasm::GuestRange out) { return issue({.kind = Operation::Kind::kReceive, .out = out}); }

int32_t ActorImpl::cancel(int64_t op) {
    const auto found = std::find_if(operations_.begin(), operations_.end(),
                                    [op](const Operation& operation) { return operation.id == op; });
    if (found == operations_.end()) return -DRIFTWOOD_EBADF;
    completions_.push_back({.op = op, .status = -DRIFTWOOD_ECANCELED, .out = {}, .bytes = {}});
    operations_.erase(found);
    return 0;
}

// Operations on a handle that goes away are over: they complete as cancelled.
void ActorImpl::drop_operations(Operation::Kind kind, int64_t target) {
    std::erase_if(operations_, [&](const Operation& operation) {
        if (operation.kind != kind || operation.target != target) return false;
        completions_.push_back({.op = operation.id, .status = -DRIFTWOOD_ECANCELED, .out = {}, .bytes = {}});
        return true;
    });
}

session::Session* ActorImpl::find_session(int64_t handle) {
    const auto found = sessions_.find(handle);
    return found == sessions_.end() ? nullptr : found->second.get();
}

Stream* ActorImpl::live_stream(int64_t session) {
    for (auto& [id, stream] : streams_) {
        if (stream.session == session && !stream.detached) return &stream;
    }
    return nullptr;
}

bool ActorImpl::busy(int64_t handle, const session::Session& session) const {
    if (session.finish() == session::Finish::kRunning) return true;
    return std::any_of(operations_.begin(), operations_.end(),
                       [handle](const Operation& operation) { return operation.computes(handle); });
}

bool ActorImpl::busy_speaking(int64_t handle, const session::Session& session) const {
    return busy(handle, session) || session.output_bytes() > 0;
}

int64_t ActorImpl::refused(const Error& error) {
    log(DRIFTWOOD_LOG_WARN, error.message);
    return to_errno(error);
}

int64_t ActorImpl::sleep(int64_t ns) {
    if (ns < 0) return -DRIFTWOOD_EINVAL;
    if (ns > kMaxCounter - turn_ns_) return -DRIFTWOOD_EOVERFLOW;
    return issue({.kind = Operation::Kind::kSleep, .out = {}, .target = turn_ns_ + ns});
}

driftwood_model_info ActorImpl::model_info() {
    return {.vocab = context_.model.spec().vocab, .context = context_.model.spec().context};
}

int64_t ActorImpl::tokenize(std::string_view text, wasm::GuestArray<uint32_t> out) {
    if (text.size() > kMaxTokenizeBytes) return -DRIFTWOOD_EOVERFLOW;
    const auto ids = context_.model.tokenizer().encode(text, model::Tokenizer::Special::kText);
    if (!ids.ok()) return refused(ids.error());
    const auto count = static_cast<int64_t>(ids->size());
    if (count > out.count) return -(count << 16 | DRIFTWOOD_E2BIG);
    for (uint32_t i = 0; i < ids->size(); ++i) out.set(i, (*ids)[i]);
    return count;
}

int64_t ActorImpl::detokenize(wasm::GuestArray<uint32_t> tokens, std::span<uint8_t> out) {
    if (tokens.count > kMaxDetokenizeTokens) return -DRIFTWOOD_EOVERFLOW;
    std::string text;  // whole, before anything is written: the ranges may overlap
    for (uint32_t i = 0; i < tokens.count; ++i) {
        const uint32_t token = tokens.get(i);
        if (token >= context_.model.spec().vocab) return -DRIFTWOOD_EINVAL;
        text += context_.model.tokenizer().bytes(token);
    }
    const auto size = static_cast<int64_t>(text.size());
    if (text.size() > out.size()) return -(size << 16 | DRIFTWOOD_E2BIG);
    if (!text.empty()) std::memcpy(out.data(), text.data(), text.size());
    return size;
}

int32_t ActorImpl::token_ends_turn(uint32_t token) {
    if (token >= context_.model.spec().vocab) return -DRIFTWOOD_EINVAL;
    return context_.model.tokenizer().ends_turn(token) ? 1 : 0;
}

int64_t ActorImpl::session_open() {
    if (sessions_.size() >= kMaxSessions || next_session_ == kNoMoreSessions) return -DRIFTWOOD_EOVERFLOW;
    const int64_t handle = next_session_++;
    sessions_.emplace(
        handle, std::make_unique<session::Session>(context_.model, context_.engine, context_.blocks, trust_domain()));
    return handle;
}

int32_t ActorImpl::session_close(int64_t handle) {
    if (find_session(handle) == nullptr) return -DRIFTWOOD_EBADF;
    for (auto& [id, stream] : streams_) {
        if (stream.session != handle) continue;
        stream.detached = true;
        drop_operations(Operation::Kind::kNext, id);
    }
    drop_operations(Operation::Kind::kPrefill, handle);
    drop_operations(Operation::Kind::kDecode, handle);
    sessions_.erase(handle);
    return 0;
}

int64_t ActorImpl::session_append(int64_t handle, std::string_view role, std::string_view text) {
    session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy(handle, *session)) return -DRIFTWOOD_EBUSY;
    if (text.size() > kMaxAppendBytes) return -DRIFTWOOD_EOVERFLOW;
    const auto added = session->append(role, text);
    return added.ok() ? *added : refused(added.error());
}

int64_t ActorImpl::session_tokens(int64_t handle) {
    const session::Session* const session = find_session(handle);
    return session == nullptr ? -DRIFTWOOD_EBADF : static_cast<int64_t>(session->tokens().size());
}

int64_t ActorImpl::session_fork(int64_t handle) {
    const session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy(handle, *session)) return -DRIFTWOOD_EBUSY;
    if (sessions_.size() >= kMaxSessions || next_session_ == kNoMoreSessions) return -DRIFTWOOD_EOVERFLOW;
    auto child = session->fork();
    if (!child.ok()) return to_errno(child.error());
    const int64_t child_handle = next_session_++;
    sessions_.emplace(child_handle, *std::move(child));
    return child_handle;
}

int32_t ActorImpl::session_rewind(int64_t handle, uint32_t messages) {
    session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy(handle, *session)) return -DRIFTWOOD_EBUSY;
    const auto outcome = session->rewind(messages);
    return outcome.ok() ? 0 : static_cast<int32_t>(to_errno(outcome.error()));
}

int32_t ActorImpl::session_rewind_tokens(int64_t handle, uint32_t tokens) {
    session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy(handle, *session)) return -DRIFTWOOD_EBUSY;
    const auto outcome = session->rewind_tokens(tokens);
    return outcome.ok() ? 0 : static_cast<int32_t>(refused(outcome.error()));
}

int64_t ActorImpl::session_answer(int64_t handle) {
    session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy_speaking(handle, *session)) return -DRIFTWOOD_EBUSY;
    const auto added = session->begin_answer();
    if (!added.ok()) return refused(added.error());
    if (Stream* const old = live_stream(handle)) old->detached = true;
    return *added;
}

int64_t ActorImpl::decode(int64_t handle, wasm::GuestArray<uint32_t> tokens, wasm::GuestFloats logits) {
    session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy_speaking(handle, *session)) return -DRIFTWOOD_EBUSY;
    const uint32_t vocab = context_.model.spec().vocab;
    if (logits.offset % alignof(float) != 0) return -DRIFTWOOD_EINVAL;
    if (logits.count < vocab) return -(int64_t{vocab} << 16 | DRIFTWOOD_E2BIG);
    if (no_room_for_operations()) return -DRIFTWOOD_EOVERFLOW;
    if (tokens.count > context_.model.spec().context) return -DRIFTWOOD_ENOSPC;
    if (tokens.count > 0) {
        std::vector<uint32_t> ids(tokens.count);
        for (uint32_t i = 0; i < tokens.count; ++i) ids[i] = tokens.get(i);
        if (const auto added = session->append_tokens(ids); !added.ok()) return refused(added.error());
        if (Stream* const old = live_stream(handle)) old->detached = true;
    }
    if (const auto wanted = session->want_logits(); !wanted.ok()) return refused(wanted.error());
    const auto bytes = static_cast<uint32_t>(vocab * sizeof(float));
    return issue({.kind = Operation::Kind::kDecode, .out = {logits.offset, bytes}, .target = handle});
}

int64_t ActorImpl::prefill(int64_t handle) {
    const session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy(handle, *session)) return -DRIFTWOOD_EBUSY;
    return issue({.kind = Operation::Kind::kPrefill, .out = {}, .target = handle});
}

int64_t ActorImpl::generate(int64_t handle, const driftwood_generate_options& options) {
    session::Session* const session = find_session(handle);
    if (session == nullptr) return -DRIFTWOOD_EBADF;
    if (busy_speaking(handle, *session)) return -DRIFTWOOD_EBUSY;
    if (streams_.size() >= kMaxStreams) return -DRIFTWOOD_EOVERFLOW;
    const session::GenerateParams params{.sampler = {.temperature = options.temperature,
                                                     .top_p = options.top_p,
                                                     .top_k = options.top_k,
                                                     .seed = options.seed},
                                         .max_tokens = options.max_tokens};
    if (const auto begun = session->begin_generate(params); !begun.ok()) return refused(begun.error());
    if (Stream* const old = live_stream(handle)) old->detached = true;
    const int64_t id = next_id_++;
    streams_.emplace(id, Stream{.session = handle});
    return id;
}

int64_t ActorImpl::next(int64_t stream, wasm::GuestRange out) {
    if (!streams_.contains(stream)) return -DRIFTWOOD_EBADF;
    const bool waiting = std::any_of(operations_.begin(), operations_.end(), [stream](const Operation& operation) {
        return operation.kind == Operation::Kind::kNext && operation.target == stream;
    });
    if (waiting) return -DRIFTWOOD_EBUSY;
    if (out.length == 0) return -DRIFTWOOD_EINVAL;
    return issue({.kind = Operation::Kind::kNext, .out = out, .target = stream});
}

int32_t ActorImpl::stream_close(int64_t id) {
    const auto found = streams_.find(id);
    if (found == streams_.end()) return -DRIFTWOOD_EBADF;
    drop_operations(Operation::Kind::kNext, id);
    if (!found->second.detached) {
        session::Session& session = *sessions_.at(found->second.session);
        session.end_generate();
        std::array<uint8_t, 256> dropped{};  // undelivered output goes with its stream
        while (session.take_output(dropped) > 0) {
        }
    }
    streams_.erase(found);
    return 0;
}

int64_t ActorImpl::gemm(const driftwood_gemm& gemm) {
    if (const int32_t bad = check_tensor(gemm, instance_->memory().size()); bad != 0) return bad;
    return issue({.kind = Operation::Kind::kGemm, .out = {}, .gemm = gemm});
}

int64_t ActorImpl::rows(const driftwood_rows& rows) {
    if (const int32_t bad = check_tensor(rows, instance_->memory().size()); bad != 0) return bad;
    return issue({.kind = Operation::Kind::kRows, .out = {}, .rows = rows});
}

}  // namespace driftwood::actor
