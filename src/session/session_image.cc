// Freeze and thaw.
#include <cstring>

#include "session/chat_format.h"
#include "session/frozen.h"
#include "session/session_state.h"

namespace driftwood::session {

using file::DType;

Result<void> Session::save(uint32_t id, file::SectionWriter& image) const {
    State& s = *state_;
    if (s.planned > 0) return error(ErrorCode::kInvalidArgument, "[session.save] a step is under way");
    // What a failed device computed went with it, the tokens did not: they are computed again where the image goes on,
    // to the same bits.
    if (s.engine.failure() && !s.check_intact().ok()) s.forget_computed();
    // Bytes that do not match the hash of the image they came from must not get a new, good one.
    DW_TRY(s.verify_all_blocks());
    const compute::KvPool& pool = s.refs.pool();
    const uint32_t count = blocks_for(s.computed);
    std::vector<std::span<const uint8_t>> blocks;
    for (uint32_t i = 0; i < count; ++i) blocks.push_back(pool.bytes(s.blocks[i]));
    image.add(tensor_name(id, "kv"), DType::kU8, {count, pool.layout().block_bytes()}, std::move(blocks));
    image.add_check([&s] { return s.check_intact(); });

    std::vector<uint8_t> tokens(s.tokens.size() * sizeof(uint32_t));
    if (!tokens.empty()) std::memcpy(tokens.data(), s.tokens.data(), tokens.size());
    image.add_owned(tensor_name(id, "tokens"), DType::kU32, {s.tokens.size()}, std::move(tokens));
    const std::span<const float> logits = s.logits.values();
    image.add(tensor_name(id, "logits"), DType::kF32, {logits.size()},
              {{reinterpret_cast<const uint8_t*>(logits.data()), logits.size_bytes()}});
    std::vector<uint8_t> transcript = encode_transcript(s.parts);
    const uint64_t transcript_bytes = transcript.size();
    image.add_owned(tensor_name(id, "transcript"), DType::kU8, {transcript_bytes}, std::move(transcript));
    std::vector<uint8_t> state = encode_state(s);
    const uint64_t state_bytes = state.size();
    image.add_owned(tensor_name(id, "state"), DType::kU8, {state_bytes}, std::move(state));
    return {};
}

namespace {

class Thaw {
  public:
    Thaw(uint32_t id, std::shared_ptr<const file::SectionReader> image, Session::State& state, Frozen frozen)
        : id_(id), image_(std::move(image)), s_(state), frozen_(std::move(frozen)) {}

    // The same model: everything as it was, KV by mapping.
    Result<void> same_model() {
        for (const uint32_t token : frozen_.tokens) {
            if (token >= s_.model.spec().vocab) return corrupt("tokens", "token " + std::to_string(token));
        }
        if (frozen_.tokens.size() > s_.context()) {
            return corrupt("tokens", std::to_string(frozen_.tokens.size()) + " tokens, the model has room for " +
                                         std::to_string(s_.context()));
        }
        DW_TRY(logits());
        s_.tokens = std::move(frozen_.tokens);
        DW_TRY(kv());
        s_.computed = frozen_.computed;
        s_.parts = std::move(frozen_.parts);
        s_.tail = frozen_.tail;
        s_.generate = std::move(frozen_.generate);
        if (!s_.running()) return {};
        if (s_.computed == s_.tokens.size() && s_.logits.empty()) {
            return corrupt("logits", "a generate runs and has none to go on from");
        }
        if (s_.tokens.size() == s_.context()) return corrupt("state", "a generate runs in a full context");
        return {};
    }

    // Another model: the conversation is told anew.
    Result<void> other_model() {
        for (size_t i = 0; i < frozen_.parts.size(); ++i) {
            if (frozen_.parts[i].kind == Part::Kind::kText) continue;
            return error(ErrorCode::kMismatch, "[session.restore] " + what("transcript") + ": part " +
                                                   std::to_string(i) + " is raw tokens of " + frozen_.model_name +
                                                   ", which say nothing to " + s_.model.name());
        }
        for (size_t i = 0; i < frozen_.parts.size(); ++i) {
            DW_TRY(retell(std::move(frozen_.parts[i]), i + 1 == frozen_.parts.size()));
        }
        s_.generate = std::move(frozen_.generate);
        if (!s_.generate) return {};
        // The bytes held back are the beginning of a character that only the old model knows how to end.
        s_.generate->characters = Utf8Stream();
        if (!s_.running()) return {};
        if (const auto limit = limit_reached(s_)) s_.end(*limit);
        return {};
    }

  private:
    std::string what(std::string_view part) const { return image_->path() + ": " + tensor_name(id_, part); }
    Error corrupt(std::string_view part, const std::string& problem) const {
        return error(ErrorCode::kCorrupt, "[session.restore] " + what(part) + ": " + problem);
    }

    Result<void> logits() {
        DW_ASSIGN(const auto bytes, image_->read(tensor_name(id_, "logits"), DType::kF32));
        const size_t count = bytes.size() / sizeof(float);
        if (count != 0 && (count != s_.model.spec().vocab || frozen_.computed == 0)) {
            return corrupt("logits", std::to_string(count) + " logits, want 0 or " +
                                         std::to_string(s_.model.spec().vocab) + " of a computed token");
        }
        if (count == 0) return {};
        s_.logits = compute::Logits(count);
        std::memcpy(s_.logits.values().data(), bytes.data(), bytes.size());
        return {};
    }

    Result<void> kv() {
        const uint32_t count = blocks_for(frozen_.computed);
        const uint64_t block_bytes = s_.refs.pool().layout().block_bytes();
        DW_ASSIGN(s_.image_kv, image_->require(tensor_name(id_, "kv"), DType::kU8, block_bytes));
        const std::vector<uint64_t> want = {count, block_bytes};
        if (s_.image_kv.shape != want) {
            return corrupt("kv", "want " + std::to_string(count) + " blocks of " + std::to_string(block_bytes) +
                                     " bytes for " + std::to_string(frozen_.computed) + " tokens, file has " +
                                     std::to_string(s_.image_kv.size_bytes) + " bytes");
        }
        if (count == 0) return {};
        // What this node has computed itself stands for the image's, in every place up to the first that it has not.
        for (uint32_t i = 0; s_.prefix_root && i < frozen_.computed / compute::kBlockTokens; ++i) {
            const PrefixKey key = s_.next_prefix_key();
            const auto block = s_.refs.take_prefix(key);
            if (!block) break;
            s_.blocks.push_back(*block);
            s_.prefix_keys.push_back(key);
        }
        const auto ours = static_cast<uint32_t>(s_.blocks.size());
        if (ours == count) return {};
        if (s_.image_kv.file_offset % file::kSectionAlign != 0)
            return corrupt("kv", "does not lie at a multiple of 64 KiB");
        DW_ASSIGN(const auto blocks,
                  s_.refs.adopt(image_->fd(), s_.image_kv.file_offset + ours * block_bytes, count - ours));
        s_.blocks.insert(s_.blocks.end(), blocks.begin(), blocks.end());
        for (uint32_t i = ours; i < count; ++i) s_.unverified.push_back(i);
        s_.from_image = true;
        s_.image = image_;
        s_.image_what = what("kv");
        return {};
    }

    Result<void> retell(Part part, bool last) {
        const std::vector<std::string> earlier = s_.roles();
        const bool open = last && part.open;
        const bool running = frozen_.generate && frozen_.generate->finish == Finish::kRunning;
        DW_ASSIGN(Frame around,
                  open && running ? answer_frame(s_.model, earlier) : frame(s_.model, earlier, part.role));
        if (open) around.after.clear();
        DW_ASSIGN(const std::vector<uint32_t> tokens, encode_message(s_.model, around, part.text));
        DW_TRY(s_.check_room("session.restore", tokens.size()));
        s_.add_part(std::move(part), tokens);
        s_.tail = open ? Tail::kOpen : Tail::kClosed;
        return {};
    }

    uint32_t id_;
    std::shared_ptr<const file::SectionReader> image_;
    Session::State& s_;
    Frozen frozen_;
};

}  // namespace

Result<Session::Restored> Session::restore(uint32_t id, const model::Model& model, compute::Engine& engine,
                                           BlockRefs& refs, std::shared_ptr<const file::SectionReader> image,
                                           const std::optional<TrustDomain>& domain) {
    DW_ASSIGN(Frozen frozen, read_frozen(id, *image));
    const bool same =
        frozen.compute_identity == model.compute_identity() && frozen.text_identity == model.text_identity();
    Restored out;
    out.session = std::make_unique<Session>(model, engine, refs, domain);
    Thaw thaw(id, std::move(image), *out.session->state_, std::move(frozen));
    if (same) {
        DW_TRY(thaw.same_model());
        out.tokens_reused = out.session->computed();
    } else {
        DW_TRY(thaw.other_model());
        out.tokens_again = static_cast<uint32_t>(out.session->tokens().size());
    }
    return out;
}

}  // namespace driftwood::session
