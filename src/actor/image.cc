// Freeze and thaw: which tensors and metadata an actor's image holds, and what is believed of one that comes back.
#include <algorithm>
#include <ctime>
#include <set>

#include "actor/actor_impl.h"
#include "actor/limits.h"
#include "file/hash.h"

namespace driftwood::actor {
namespace {

constexpr const char* kImageFormat = "driftwood actor image";
constexpr std::string_view kStateTensor = "actor.state";
constexpr std::string_view kModuleTensor = "actor.module";
constexpr std::string_view kRecordTag = "ACTR";
constexpr uint32_t kRecordVersion = 2;  // 1 is older than any release, and not read

std::string utc_now() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    tm parts{};
    gmtime_r(&now.tv_sec, &parts);
    char text[40];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

Error corrupt(const std::string& what, const std::string& detail) {
    return error(ErrorCode::kCorrupt, "[image.thaw] " + what + ": " + detail);
}

}  // namespace

void ActorImpl::encode_state(file::Encoder& out) const {
    out.begin_record(kRecordTag, kRecordVersion);
    out.bytes(id_);
    out.u8(started_ ? 1 : 0);
    out.u64(turns_);
    out.i64(turn_ns_);
    out.u64(random_seed_);
    out.u64(random_counter_);
    out.i64(next_id_);
    out.u32(next_session_);
    for (const std::string& line : lines_) out.str(line);
    out.u64(mailbox_.size());
    for (const std::string& message : mailbox_) out.str(message);
    out.u64(operations_.size());
    for (const Operation& operation : operations_) encode(out, operation);
    out.u64(completions_.size());
    for (const Completion& completion : completions_) encode(out, completion);
    out.u64(streams_.size());
    for (const auto& [id, stream] : streams_) {
        out.i64(id);
        out.i64(stream.session);
        out.i64(stream.error);
        out.u8(stream.detached ? 1 : 0);
    }
    out.u64(sessions_.size());
    for (const auto& [handle, session] : sessions_) out.u32(static_cast<uint32_t>(handle));
    out.end_record();
}

Result<file::SectionWriter::Committed> ActorImpl::freeze(const std::string& path,
                                                         file::SectionWriter::CommitOptions options) {
    if (failure_) return error(failure_->code, "[image.freeze] the actor has failed: " + failure_->message);
    if (instance_->exit_code()) {
        return error(ErrorCode::kInvalidArgument,
                     "[image.freeze] the actor has stopped: there is nothing to go on with");
    }
    file::SectionWriter image;
    image.set_metadata("format", kImageFormat);
    image.set_metadata("format_version", std::to_string(kImageVersion));
    image.set_metadata("abi_version", std::to_string(DRIFTWOOD_ABI_VERSION));
    image.set_metadata("numerics_version", std::to_string(compute::kNumericsVersion));
    image.set_metadata("kv_layout_version", std::to_string(compute::kKvLayoutVersion));
    image.set_metadata("module_hash", file::to_hex(module_.facts().hash));
    image.set_metadata("model_name", context_.model.name());
    image.set_metadata("compute_identity", file::to_hex(context_.model.compute_identity()));
    image.set_metadata("activation_bits", std::to_string(compute::bits_of(context_.model.spec().activation_bits)));
    image.set_metadata("text_identity", file::to_hex(context_.model.text_identity()));
    image.set_metadata("created", utc_now());
    image.set_metadata("parent_image", parent_image_);

    const auto module = module_.original_bytes();
    image.add(std::string(kModuleTensor), file::DType::kU8, {module.size()}, {module});
    file::Encoder state;
    encode_state(state);
    DW_TRY(instance_->save(image, state));
    std::vector<uint8_t> state_bytes = state.take();
    const uint64_t state_size = state_bytes.size();
    image.add_owned(std::string(kStateTensor), file::DType::kU8, {state_size}, std::move(state_bytes));
    for (const auto& [handle, session] : sessions_) {
        DW_TRY(session->save(static_cast<uint32_t>(handle), image));
    }
    DW_ASSIGN(auto committed, image.commit(path, options));
    parent_image_ = committed.root_hash;
    return committed;
}

Result<ImageSummary> summarize(const file::SectionReader& image) {
    DW_ASSIGN(const std::string format, image.require_metadata("format"));
    if (format != kImageFormat) {
        return error(ErrorCode::kMismatch, "[image.open] " + image.path() + ": its metadata says that format is '" +
                                               format + "', want '" + kImageFormat + "'");
    }
    DW_ASSIGN(const std::string version, image.require_metadata("format_version"));
    if (version != std::to_string(kImageVersion)) {
        return error(ErrorCode::kUnsupported, "[image.open] " + image.path() + ": image format version " + version +
                                                  ", this program reads version " + std::to_string(kImageVersion));
    }
    ImageSummary summary;
    DW_ASSIGN(summary.model_name, image.require_metadata("model_name"));
    DW_ASSIGN(summary.compute_identity, image.require_metadata("compute_identity"));
    DW_ASSIGN(summary.text_identity, image.require_metadata("text_identity"));
    DW_ASSIGN(summary.module_hash, image.require_metadata("module_hash"));
    DW_ASSIGN(summary.created, image.require_metadata("created"));
    DW_ASSIGN(summary.parent_image, image.require_metadata("parent_image"));
    DW_ASSIGN(summary.root_hash, image.require_metadata("root_hash"));
    const auto bits = image.metadata().find("activation_bits");
    if (bits != image.metadata().end() && bits->second == "16") summary.activation_bits = 16;
    return summary;
}

Result<void> verify_guest(const file::SectionReader& image) {
    for (const auto& [name, tensor] : image.tensors()) {
        if (name.ends_with(".kv")) continue;
        DW_TRY(image.verify(tensor));
    }
    return {};
}

Result<Actor::Thawed> Actor::thaw(const Context& context, const wasm::Module& module, const ActorOptions& options,
                                  std::shared_ptr<const file::SectionReader> image) {
    auto actor = std::make_unique<ActorImpl>(context, module);
    ActorImpl& impl = *actor;
    DW_ASSIGN(Thawed thawed, impl.restore(options, std::move(image)));
    thawed.actor = std::move(actor);
    return thawed;
}

Result<Actor::Thawed> ActorImpl::restore(const ActorOptions& options,
                                         std::shared_ptr<const file::SectionReader> image) {
    DW_ASSIGN(const ImageSummary summary, summarize(*image));
    if (summary.module_hash != file::to_hex(module_.facts().hash)) {
        return error(ErrorCode::kMismatch, "[image.thaw] " + image->path() + ": belongs to module " +
                                               summary.module_hash + ", not to " + file::to_hex(module_.facts().hash));
    }
    DW_TRY(verify_guest(*image));
    parent_image_ = summary.root_hash;

    const std::string what = image->path() + ": " + std::string(kStateTensor);
    DW_ASSIGN(const auto bytes, image->read(kStateTensor, file::DType::kU8));
    file::Decoder in(what, bytes);
    std::vector<uint32_t> session_ids;
    DW_TRY(decode_state(in, session_ids));
    DW_ASSIGN(instance_, wasm::Instance::restore(module_, *this, options.limits, *image, in));
    DW_TRY(in.finish());

    Thawed thawed;
    for (const uint32_t id : session_ids) {
        DW_ASSIGN(auto restored, session::Session::restore(id, context_.model, context_.engine, context_.blocks, image,
                                                           trust_domain()));
        thawed.tokens_reused += restored.tokens_reused;
        thawed.tokens_again += restored.tokens_again;
        if (!sessions_.emplace(id, std::move(restored.session)).second)
            return corrupt(what, "session " + std::to_string(id) + " twice");
    }
    DW_TRY(check_restored(what));
    DW_TRY(image->check_intact());
    return thawed;
}

Result<void> ActorImpl::decode_state(file::Decoder& in, std::vector<uint32_t>& session_ids) {
    DW_ASSIGN(auto record, in.record(kRecordTag, kRecordVersion));
    if (record.first.version != kRecordVersion) {
        return error(ErrorCode::kUnsupported, "[image.thaw] " + in.what() + ": record " + std::string(kRecordTag) +
                                                  " version " + std::to_string(record.first.version) +
                                                  ", this program reads version " + std::to_string(kRecordVersion));
    }
    file::Decoder& body = record.second;
    DW_ASSIGN(const auto id, body.bytes());
    if (id.size() != id_.size()) return corrupt(in.what(), "identity of " + std::to_string(id.size()) + " bytes");
    std::copy(id.begin(), id.end(), id_.begin());
    DW_ASSIGN(const uint8_t started, body.u8());
    started_ = started != 0;
    DW_ASSIGN(turns_, body.u64());
    DW_ASSIGN(turn_ns_, body.i64());
    DW_ASSIGN(random_seed_, body.u64());
    DW_ASSIGN(random_counter_, body.u64());
    DW_ASSIGN(next_id_, body.i64());
    DW_ASSIGN(next_session_, body.u32());
    for (std::string& line : lines_) {
        DW_ASSIGN(line, body.str());
    }
    DW_ASSIGN(const uint64_t messages, body.count(sizeof(uint64_t)));
    for (uint64_t i = 0; i < messages; ++i) {
        DW_ASSIGN(mailbox_.emplace_back(), body.str());
    }
    DW_ASSIGN(const uint64_t operations, body.count(1));
    for (uint64_t i = 0; i < operations; ++i) {
        DW_ASSIGN(operations_.emplace_back(), decode_operation(body));
    }
    DW_ASSIGN(const uint64_t completions, body.count(1));
    for (uint64_t i = 0; i < completions; ++i) {
        DW_ASSIGN(completions_.emplace_back(), decode_completion(body));
    }
    DW_ASSIGN(const uint64_t streams, body.count(1));
    for (uint64_t i = 0; i < streams; ++i) {
        DW_ASSIGN(const int64_t stream_id, body.i64());
        Stream stream;
        DW_ASSIGN(stream.session, body.i64());
        DW_ASSIGN(stream.error, body.i64());
        DW_ASSIGN(const uint8_t detached, body.u8());
        stream.detached = detached != 0;
        if (stream_id <= 0 || stream_id >= next_id_ || !streams_.emplace(stream_id, stream).second)
            return corrupt(in.what(), "stream " + std::to_string(stream_id) + " cannot be");
    }
    DW_ASSIGN(const uint64_t sessions, body.count(sizeof(uint32_t)));
    for (uint64_t i = 0; i < sessions; ++i) {
        DW_ASSIGN(session_ids.emplace_back(), body.u32());
    }
    return body.finish();
}

// An operation's target and ranges, as if the guest had just asked.
bool ActorImpl::can_be(const Operation& operation) const {
    if (!instance_->range(operation.out)) return false;
    const uint64_t memory_bytes = instance_->memory().size();
    switch (operation.kind) {
        case Operation::Kind::kReceive: return true;
        case Operation::Kind::kNext: return streams_.contains(operation.target);
        case Operation::Kind::kPrefill: return sessions_.contains(operation.target);
        case Operation::Kind::kDecode: {
            const auto found = sessions_.find(operation.target);
            if (found == sessions_.end() || operation.out.offset % alignof(float) != 0) return false;
            const session::Session& session = *found->second;
            // It has something to compute, or to write.
            return session.finish() != session::Finish::kRunning &&
                   (session.computed() < session.tokens().size() || !session.last_logits().empty());
        }
        case Operation::Kind::kGemm: return check_tensor(operation.gemm, memory_bytes) == 0;
        case Operation::Kind::kRows: return check_tensor(operation.rows, memory_bytes) == 0;
        case Operation::Kind::kSleep: return operation.target >= 0 && operation.target <= kMaxCounter;
    }
    return false;
}

// Every handle, range and limit, as if the guest had just asked.
Result<void> ActorImpl::check_restored(const std::string& what) const {
    if (turn_ns_ < 0 || turn_ns_ > kMaxCounter || next_id_ < 1 || next_id_ > kMaxCounter ||
        mailbox_.size() > kMaxMailboxMessages || sessions_.size() > kMaxSessions ||
        operations_.size() + completions_.size() > kMaxOperations || streams_.size() > kMaxStreams) {
        return corrupt(what, "a count or counter beyond its limit");
    }
    for (const auto& [handle, session] : sessions_) {
        if (handle < 1 || handle >= next_session_) return corrupt(what, "session " + std::to_string(handle));
    }
    std::set<int64_t> live;
    for (const auto& [id, stream] : streams_) {
        if (stream.detached) continue;
        if (!sessions_.contains(stream.session) || !live.insert(stream.session).second || stream.error > 0)
            return corrupt(what, "stream " + std::to_string(id) + " without a session of its own");
    }
    std::set<int64_t> ids;
    const auto fresh = [&](int64_t id) { return id > 0 && id < next_id_ && ids.insert(id).second; };
    for (const Operation& operation : operations_) {
        if (!fresh(operation.id) || !can_be(operation))
            return corrupt(what, "operation " + std::to_string(operation.id) + " cannot be");
    }
    for (const Completion& completion : completions_) {
        if (!fresh(completion.op) || completion.bytes.size() > completion.out.length ||
            !instance_->range(completion.out)) {
            return corrupt(what, "completion of operation " + std::to_string(completion.op) + " cannot be");
        }
    }
    for (const std::string& message : mailbox_) {
        if (message.size() > kMaxMessageBytes) return corrupt(what, "a message beyond its limit");
    }
    return {};
}

}  // namespace driftwood::actor
