// cuda_check [ENGINE] [only TEXT]: whether the CUDA engine gives a CPU engine's bits (the fastest of this machine
// unless named): small random models of every type of weights, with 8-bit and 16-bit activations, of odd shapes and
// mixed types; prompts in chunks of all sizes, 1 to 256 conversations in a step, decodes beside prompts. Logits and
// blocks of KV are compared by memcmp, a line per model, which says where the first difference is. Exits 1 when a byte
// differs, 2 without a card.
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>

#include "bench/conversation.h"

namespace driftwood::compute {
namespace {

constexpr uint32_t kPrompt = 150;         // tokens, more than two blocks
constexpr uint32_t kConversations = 256;  // side by side, each of its own tokens
constexpr uint32_t kMostDepth = 300;      // tokens, of conversations side by side at depths
constexpr uint32_t kBlocksEach = (kMostDepth + 2 + kBlockTokens - 1) / kBlockTokens;
constexpr uint32_t kBatches[] = {1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 200, 256};
// Every other one with its logits in memory that the card does not reach.
constexpr uint32_t kChunks[] = {150, 64, 31, 9, 5, 2, 1, 1};

struct Case {
    std::string name;
    TestShape shape;
    std::optional<WeightType> embedding;  // plain floats, the output being made of them
    bool is_deep = false;                 // whether many conversations are compared at depths too
};

void feed(Engine& engine, Conversation& one, std::span<const uint32_t> tokens, size_t chunk) {
    for (size_t at = 0; at < tokens.size(); at += chunk) {
        BatchItem item = one.item(engine, tokens.subspan(at, std::min(chunk, tokens.size() - at)));
        run(engine, {&item, 1});
    }
}

// Two engines of one model, and what has been compared of them.
class Comparison {
  public:
    Comparison(Engine& cuda, Engine& host, uint32_t vocab)
        : cuda_(cuda), host_(host), tokens_(test_tokens(vocab, kPrompt + kConversations + 8, 6)) {}

    void chunks() {
        Conversation want;
        feed(host_, want, prompt(), kPrompt);
        for (size_t i = 0; i < std::size(kChunks); ++i) {
            Conversation got;
            if (i % 2 == 0) got.logits_in = LogitsIn::kOrdinaryMemory;
            feed(cuda_, got, prompt(), kChunks[i]);
            compare("a prompt in chunks of " + std::to_string(kChunks[i]), got, want);
            got.release(cuda_);
        }
        want.release(host_);
    }

    // Conversation i has read 1 + i % 3 tokens, all in one step; then each reads one more. Of every five neighbours,
    // two have their logits in memory that the card does not reach.
    void batches() {
        std::vector<Conversation> want(kConversations);
        step(host_, want, kConversations, true);
        step(host_, want, kConversations, false);
        for (const uint32_t count : kBatches) {
            std::vector<Conversation> got(count);
            for (uint32_t i = 0; i < count; ++i) {
                if (i % 5 >= 3) got[i].logits_in = LogitsIn::kOrdinaryMemory;
            }
            step(cuda_, got, count, true);
            step(cuda_, got, count, false);
            for (uint32_t i = 0; i < count; ++i) {
                const std::string where = std::to_string(count) + " in a step, number " + std::to_string(i);
                compare(where, got[i], want[i]);
            }
            for (Conversation& one : got) one.release(cuda_);
        }
        for (Conversation& one : want) one.release(host_);
    }

    // Decodes at depth beside prompts that begin, go on and end in the same steps.
    void mixed() {
        Conversation want[2], got[2];
        feed(host_, want[0], std::span(tokens_).first(kPrompt + 3), kPrompt);
        feed(host_, want[1], prompt(), kPrompt);
        feed(cuda_, got[0], prompt(), kPrompt);
        for (uint32_t i = 0; i < 3; ++i) {
            const std::span<const uint32_t> part = prompt().subspan(i * 50, 50);
            BatchItem items[] = {got[1].item(cuda_, part),
                                 got[0].item(cuda_, std::span(tokens_).subspan(kPrompt + i, 1))};
            run(cuda_, items);
        }
        for (uint32_t i = 0; i < 2; ++i) {
            compare(i == 0 ? "decodes beside a prompt" : "a prompt beside decodes", got[i], want[i]);
            got[i].release(cuda_);
            want[i].release(host_);
        }
    }

    // All conversations at once, each with another number of tokens and of chunks behind it; then each reads two more.
    void deep() {
        std::vector<Conversation> want(kConversations), got(kConversations);
        for (const auto& [engine, all] : {std::pair(&host_, &want), std::pair(&cuda_, &got)}) {
            for (uint32_t round = 0; round < 3; ++round) {
                std::vector<BatchItem> batch;
                for (uint32_t i = 0; i < kConversations; ++i) {
                    const uint32_t depth = 1 + i * 37 % kMostDepth;
                    const size_t at = i % 100 + (round == 0 ? 0 : depth + round - 1);
                    batch.push_back((*all)[i].item(*engine, std::span(tokens_).subspan(at, round == 0 ? depth : 1)));
                }
                run(*engine, batch);
            }
        }
        for (uint32_t i = 0; i < kConversations; ++i) {
            compare("of 256 at depths, number " + std::to_string(i), got[i], want[i]);
            got[i].release(cuda_);
            want[i].release(host_);
        }
    }

    size_t compared() const { return compared_; }
    size_t different() const { return different_; }
    const std::string& first() const { return first_; }

  private:
    std::span<const uint32_t> prompt() const { return std::span(tokens_).first(kPrompt); }

    void step(Engine& engine, std::vector<Conversation>& all, uint32_t count, bool begin) const {
        std::vector<BatchItem> batch;
        for (uint32_t i = 0; i < count; ++i) {
            const size_t length = begin ? 1 + i % 3 : 1;
            batch.push_back(all[i].item(engine, std::span(tokens_).subspan(i + (begin ? 0 : 5), length)));
        }
        run(engine, batch);
    }

    void compare(const std::string& where, const Conversation& got, const Conversation& want) {
        const auto bytes_of = [](const Logits& logits) {
            const std::span<const float> x = logits.values();
            return std::span(reinterpret_cast<const uint8_t*>(x.data()), x.size_bytes());
        };
        compare(where + ", logits", bytes_of(got.logits), bytes_of(want.logits));
        for (size_t i = 0; i < want.blocks.size(); ++i) {
            compare(where + ", KV block " + std::to_string(i), cuda_.pool().bytes(got.blocks[i]),
                    host_.pool().bytes(want.blocks[i]));
        }
    }
    void compare(const std::string& where, std::span<const uint8_t> got, std::span<const uint8_t> want) {
        compared_ += want.size();
        if (got.size() == want.size() && std::memcmp(got.data(), want.data(), want.size()) == 0) return;
        size_t wrong = 0, first = 0;
        for (size_t i = want.size(); i-- > 0;) {
            if (got[i] == want[i]) continue;
            ++wrong;
            first = i;
        }
        different_ += wrong;
        if (first_.empty())
            first_ = where + ": " + std::to_string(wrong) + " bytes from " + std::to_string(first) + " on";
    }

    Engine& cuda_;
    Engine& host_;
    std::vector<uint32_t> tokens_;
    size_t compared_ = 0, different_ = 0;
    std::string first_;
};

TestModel model_of(const Case& wanted) {
    TestModel model = make_test_model(wanted.shape, 5);
    if (!wanted.embedding) return model;
    TestRandom random(7);
    DecoderSpec& spec = model.spec;
    const float gain = std::sqrt(static_cast<float>(spec.d_model));
    model.matrices.push_back(test_matrix(random, *wanted.embedding, spec.vocab, spec.d_model, gain));
    spec.embedding = {*wanted.embedding, spec.vocab, spec.d_model, model.matrices.back()};
    model.matrices.emplace_back(spec.vocab * row_bytes(WeightType::kW16, spec.d_model));
    CHECK(weights_to_w16(spec.embedding, model.matrices.back()).ok());
    spec.output = {WeightType::kW16, spec.vocab, spec.d_model, model.matrices.back()};
    return model;
}

bool check_case(const Case& wanted, std::string_view host_name, size_t& compared) {
    const auto begin = std::chrono::steady_clock::now();
    const TestModel model = model_of(wanted);
    constexpr uint32_t kBlocks = kConversations * kBlocksEach + 16;
    auto cuda = make_engine("cuda", model.spec, {.kv_blocks = kBlocks});
    if (!cuda.ok()) check_failed(cuda.error().message);
    auto host = make_engine(host_name, model.spec, {.kv_blocks = kBlocks}).value();
    Comparison comparison(*cuda.value(), *host, wanted.shape.vocab);
    comparison.chunks();
    comparison.batches();
    comparison.mixed();
    if (wanted.is_deep) comparison.deep();
    compared += comparison.compared();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf("%-52s %6.1f MB of logits and KV, %zu bytes differ, %.1f s\n", wanted.name.c_str(),
                static_cast<double>(comparison.compared()) * 1e-6, comparison.different(), seconds);
    if (comparison.different() != 0) std::printf("    first: %s\n", comparison.first().c_str());
    std::fflush(stdout);
    return comparison.different() == 0;
}

// Shapes: whole super-blocks for all types; short ones, for types whose blocks are short; more super-blocks than warps.
TestShape plain_shape() {
    return {.layers = 2, .d_model = 512, .heads = 8, .kv_heads = 2, .head_dim = 64, .d_ff = 768, .vocab = 333};
}
TestShape odd_shape() {
    return {.layers = 2, .d_model = 96, .heads = 6, .kv_heads = 3, .head_dim = 48, .d_ff = 544, .vocab = 77};
}
TestShape wide_shape() {
    return {.layers = 1, .d_model = 2304, .heads = 18, .kv_heads = 2, .head_dim = 128, .d_ff = 2560, .vocab = 1040};
}
TestShape head_shape(uint32_t head_dim) {
    return {.layers = 2, .d_model = 256, .heads = 16, .kv_heads = 4, .head_dim = head_dim, .d_ff = 256, .vocab = 100};
}

std::vector<Case> cases() {
    std::vector<Case> all;
    const auto add = [&](const char* what, TestShape shape, WeightType type, WeightType second, ActivationBits bits,
                         std::optional<WeightType> embedding = {}) {
        shape.type = type;
        shape.second_type = second;
        shape.activation_bits = bits;
        std::string name(weight_type_name(type));
        if (second != type) name += " + " + std::string(weight_type_name(second));
        if (embedding) name += ", embedding " + std::string(weight_type_name(*embedding));
        name += ", " + std::to_string(bits_of(bits)) + " bits, " + what;
        // Where attention of many decodes has kernels of its own.
        const bool is_deep = shape.head_dim == 64 || shape.head_dim == 128;
        all.push_back({name, shape, embedding, is_deep});
    };
    constexpr WeightType kTypes[] = {WeightType::kQ8_0, WeightType::kQ4_0, WeightType::kQ4_1, WeightType::kQ5_0,
                                     WeightType::kQ5_1, WeightType::kQ4_K, WeightType::kQ5_K, WeightType::kQ6_K,
                                     WeightType::kQ4S,  WeightType::kW16};
    for (const WeightType type : kTypes) {
        for (const ActivationBits bits : {ActivationBits::k8, ActivationBits::k16}) {
            if (type == WeightType::kW16 && bits == ActivationBits::k8) continue;  // the same
            add("whole super-blocks", plain_shape(), type, type, bits);
            if (cols_fit(type, kGroup)) add("short super-blocks", odd_shape(), type, type, bits);
            add("wide", wide_shape(), type, type, bits);
        }
    }
    constexpr auto k8 = ActivationBits::k8;
    constexpr auto k16 = ActivationBits::k16;
    add("mixed", plain_shape(), WeightType::kQ4_K, WeightType::kQ6_K, k8);
    add("mixed", plain_shape(), WeightType::kQ4_K, WeightType::kQ6_K, k16);
    add("mixed", plain_shape(), WeightType::kQ5_K, WeightType::kQ8_0, k8);
    TestShape widest = wide_shape();
    widest.d_model = 4352;
    add("more columns than norms in layers take", widest, WeightType::kQ4_K, WeightType::kQ6_K, k8);
    add("mixed", odd_shape(), WeightType::kQ8_0, WeightType::kQ4_0, k8);
    add("mixed", odd_shape(), WeightType::kQ4_0, WeightType::kQ8_0, k8);
    add("mixed", odd_shape(), WeightType::kQ8_0, WeightType::kW16, k8);
    add("mixed", odd_shape(), WeightType::kW16, WeightType::kQ8_0, k8);
    for (const WeightType embedding : {WeightType::kF32, WeightType::kF16, WeightType::kBF16}) {
        add("tied", odd_shape(), WeightType::kW16, WeightType::kW16, k8, embedding);
    }
    // Logits that take longer to travel than layers to run: halves of a step take turns.
    TestShape wordy = plain_shape();
    wordy.layers = 5;
    wordy.heads = 16;
    wordy.kv_heads = 4;
    wordy.vocab = 8192;
    for (const WeightType type : {WeightType::kQ4_0, WeightType::kQ8_0, WeightType::kQ4_K}) {
        add("many words", wordy, type, type, k8);
    }
    for (const WeightType type : {WeightType::kQ4_0, WeightType::kQ8_0}) {
        TestShape few = plain_shape();
        few.head_dim = 128;
        add("heads of 128, 4 of a group", few, type, type, k8);
        few.heads = 4;
        add("heads of 128, 2 of a group", few, type, type, k8);
        few.heads = 32;
        add("heads of 128, 16 of a group", few, type, type, k8);
    }
    for (const uint32_t head_dim : {16U, 80U, 96U, 112U, 256U}) {
        add(("heads of " + std::to_string(head_dim)).c_str(), head_shape(head_dim), WeightType::kQ8_0,
            WeightType::kQ8_0, head_dim == 80 ? k8 : k16);
    }
    return all;
}

// The fastest engine that is not the card's.
std::string host_engine() {
    for (const EngineInfo& info : engines()) {
        if (info.available && info.name != "cuda") return std::string(info.name);
    }
    return "reference";
}

int main_of(std::span<char*> arguments) {
    std::string host = host_engine(), only;
    for (size_t i = 0; i < arguments.size(); ++i) {
        if (std::string_view(arguments[i]) == "only" && i + 1 < arguments.size()) {
            only = arguments[++i];
        } else {
            host = arguments[i];
        }
    }
    cudaDeviceProp card{};
    if (cudaGetDeviceProperties(&card, 0) != cudaSuccess) {
        std::fprintf(stderr, "cuda_check: no NVIDIA card, or no driver for it\n");
        return 2;
    }
    std::printf(
        "card: %s; compared with %s; prompts of %u tokens in chunks of 150 … 1, 1 … 256 conversations in a step\n",
        card.name, host.c_str(), kPrompt);
    size_t compared = 0;
    uint32_t wrong = 0, count = 0;
    for (const Case& wanted : cases()) {
        if (wanted.name.find(only) == std::string::npos) continue;
        ++count;
        if (!check_case(wanted, host, compared)) ++wrong;
    }
    std::printf("%u models, %.1f MB of logits and KV: %u differ\n", count, static_cast<double>(compared) * 1e-6, wrong);
    return wrong == 0 && count != 0 ? 0 : 1;
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) {
    return driftwood::compute::main_of(std::span(argv + 1, static_cast<size_t>(argc - 1)));
}
