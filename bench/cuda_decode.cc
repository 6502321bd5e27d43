// cuda_decode [bits] [speed] [TYPE …] [ENGINE]: one conversation's decode on the card, a token a step. Bits: logits and
// KV beside a CPU engine, and for long contexts beside steps of two conversations, which other kernels compute. Speed:
// medians of whole Engine::step calls on the host's clock, logits delivered, random weights in the shapes of Llama 3.2
// 1B. TYPE is Q4_0, W16, Q8_0/16 (with 16-bit activations) and so on; all of them unless some are named.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "bench/conversation.h"

namespace driftwood::compute {
namespace {

// Weights, those of wv, w_down and the output, and the bits of activations.
struct Form {
    WeightType type, second;
    ActivationBits bits = ActivationBits::k8;

    std::string name() const {
        std::string text(weight_type_name(type));
        if (second != type) text += "+" + std::string(weight_type_name(second));
        return bits == ActivationBits::k16 ? text + "/16" : text;
    }
    TestShape of(TestShape shape) const {
        shape.type = type;
        shape.second_type = second;
        shape.activation_bits = bits;
        return shape;
    }
};

// In tiles, then in records; those in the middle take 16 bits anyway.
std::vector<Form> forms() {
    using enum WeightType;
    constexpr auto k16 = ActivationBits::k16;
    return {{kQ4_0, kQ4_0},      {kQ8_0, kQ8_0},      {kW16, kW16},        {kQ8_0, kQ8_0, k16}, {kQ4_0, kQ4_0, k16},
            {kQ4_K, kQ4_K},      {kQ4_K, kQ4_K, k16}, {kQ4_K, kQ6_K},      {kQ4_K, kQ6_K, k16}, {kQ6_K, kQ6_K},
            {kQ6_K, kQ6_K, k16}, {kQ5_K, kQ5_K},      {kQ5_K, kQ5_K, k16}, {kQ4_1, kQ4_1},      {kQ4_1, kQ4_1, k16},
            {kQ5_0, kQ5_0},      {kQ5_0, kQ5_0, k16}, {kQ5_1, kQ5_1},      {kQ5_1, kQ5_1, k16}, {kQ4S, kQ4S},
            {kQ4S, kQ4S, k16}};
}

void feed(Engine& engine, Conversation& conversation, std::span<const uint32_t> tokens) {
    for (size_t at = 0; at < tokens.size(); at += kMaxStepTokens) {
        const size_t count = std::min<size_t>(kMaxStepTokens, tokens.size() - at);
        BatchItem item = conversation.item(engine, tokens.subspan(at, count), false);
        run(engine, {&item, 1});
    }
}

// ---- bits

// Compares and says where two conversations part for the first time.
bool same(const char* title, uint32_t position, Engine& a, const Conversation& x, Engine& b, const Conversation& y) {
    const auto differ = [&](const char* what, const void* p, const void* q, size_t size) {
        if (std::memcmp(p, q, size) == 0) return false;
        size_t at = 0;
        size_t count = 0;
        for (size_t i = size; i-- > 0;) {
            if (static_cast<const uint8_t*>(p)[i] == static_cast<const uint8_t*>(q)[i]) continue;
            at = i;
            ++count;
        }
        std::printf("%s, position %u: %s differ from byte %zu on, %zu of %zu bytes\n", title, position, what, at, count,
                    size);
        return true;
    };
    bool wrong = differ("logits", x.logits.values().data(), y.logits.values().data(), x.logits.values().size_bytes());
    for (size_t i = 0; i < x.blocks.size() && !wrong; ++i) {
        const auto p = a.pool().bytes(x.blocks[i]);
        const auto q = b.pool().bytes(y.blocks[i]);
        wrong |= differ(("block " + std::to_string(i)).c_str(), p.data(), q.data(), p.size());
    }
    return !wrong;
}

// `steps` decodes from each length on: alone on the card, on the host (or, without one, in steps of two).
bool check_decodes(const char* title, const TestShape& shape, const std::string& host_name,
                   std::span<const uint32_t> lengths, uint32_t steps) {
    const TestModel model = make_test_model(shape, 5);
    auto cuda = make_engine("cuda", model.spec, {.kv_blocks = 4096}).value();
    auto host = host_name.empty() ? nullptr : make_engine(host_name, model.spec, {.kv_blocks = 1024}).value();
    const uint32_t most = *std::max_element(lengths.begin(), lengths.end()) + steps;
    const std::vector<uint32_t> tokens = test_tokens(shape.vocab, most, 6);
    uint32_t right = 0;
    uint32_t compared = 0;
    for (const uint32_t length : lengths) {
        const std::span<const uint32_t> prompt = std::span(tokens).first(length);
        Conversation got, want, other;
        Engine& engine = host == nullptr ? *cuda : *host;
        feed(*cuda, got, prompt);
        feed(engine, want, prompt);
        if (host == nullptr) feed(*cuda, other, prompt);
        for (uint32_t i = 0; i < steps; ++i) {
            const auto token = std::span(tokens).subspan(length + i, 1);
            const bool silent = i % 5 == 3;
            BatchItem alone = got.item(*cuda, token, !silent);
            run(*cuda, {&alone, 1});
            std::vector<BatchItem> batch = {want.item(engine, token, !silent)};
            if (host == nullptr) batch.push_back(other.item(*cuda, token, !silent));
            run(engine, batch);
            ++compared;
            if (same(title, length + i, *cuda, got, engine, want)) ++right;
        }
        got.release(*cuda);
        want.release(engine);
        if (host == nullptr) other.release(*cuda);
    }
    std::printf("bits %-44s %3u decodes from %u to %u tokens beside %s: %u the same\n", title, compared, lengths[0],
                most, host == nullptr ? "steps of two" : host_name.c_str(), right);
    std::fflush(stdout);
    return right == compared;
}

bool check_bits(std::span<const Form> wanted, const std::string& host) {
    const TestShape narrow = {.layers = 3,
                              .d_model = 160,
                              .heads = 6,
                              .kv_heads = 2,
                              .head_dim = 64,
                              .d_ff = 352,
                              .vocab = 1003,
                              .context = 40000,
                              .rope_pairs = RopePairs::kHalves,
                              .rope_factors = true};
    const TestShape grouped = {.layers = 2,
                               .d_model = 1056,
                               .heads = 32,
                               .kv_heads = 2,
                               .head_dim = 128,
                               .d_ff = 3200,
                               .vocab = 5000,
                               .context = 4096};
    TestShape wide = kLlama1B;  // Llama 3.1 8B's layers
    wide.layers = 2;
    wide.d_model = 4096;
    wide.head_dim = 128;
    wide.d_ff = 14336;
    wide.vocab = 4000;
    TestShape llama = kLlama1B;
    llama.layers = 4;
    TestShape fewer_logits = llama;
    fewer_logits.vocab = 20000;
    const uint32_t short_lengths[] = {1, 62, 127, 700};
    const uint32_t some[] = {1, 60, 1023};
    const uint32_t long_lengths[] = {5000, 16383, 32990};
    bool right = true;
    for (const Form& form : wanted) {
        const std::string name = ", " + form.name();
        const bool short_rows = cols_fit(form.type, kGroup);
        if (short_rows) right &= check_decodes(("narrow" + name).c_str(), form.of(narrow), host, short_lengths, 5);
        if (short_rows) {
            right &= check_decodes(("groups of 16" + name).c_str(), form.of(grouped), host, short_lengths, 5);
        }
        right &= check_decodes(("Llama 3.1 8B, 2 layers" + name).c_str(), form.of(wide), host, some, 5);
        right &= check_decodes(("Llama 3.2 1B, 4 layers" + name).c_str(), form.of(fewer_logits), host, some, 6);
        if (form.type != form.second || form.bits == ActivationBits::k16) continue;
        right &= check_decodes(("Llama 3.2 1B, 4 layers, long" + name).c_str(), form.of(llama), "", long_lengths, 12);
    }
    return right;
}

// ---- speed

double median_seconds(uint32_t times, const std::function<void()>& body) {
    std::vector<double> seconds(times);
    for (double& one : seconds) {
        const double begin = seconds_now();
        body();
        one = seconds_now() - begin;
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[times / 2];
}

void bench_speed(const Form& form, std::span<const uint32_t> depths) {
    // Layers are copies of one: what they hold does not change how long they take.
    TestShape shape = form.of(kLlama1B);
    shape.layers = 1;
    TestModel model = make_test_model(shape, 1);
    model.spec.layers = kLlama1B.layers;
    model.spec.layer.resize(kLlama1B.layers, model.spec.layer[0]);
    auto engine = make_engine("cuda", model.spec, {.kv_blocks = 1024}).value();
    for (const uint32_t depth : depths) {
        const std::vector<uint32_t> tokens = test_tokens(shape.vocab, depth, 7);
        Conversation one;
        feed(*engine, one, tokens);
        const auto step = [&](bool logits) {
            BatchItem item = one.item(*engine, std::span(tokens).first(1), logits);
            run(*engine, {&item, 1});
        };
        const double seconds = median_seconds(300, [&] { step(true); });
        const double silent = median_seconds(100, [&] { step(false); });
        std::printf("%-9s at %6u tokens: %8.1f us a step, %8.1f tok/s; without logits %.1f us\n", form.name().c_str(),
                    depth, seconds * 1e6, 1.0 / seconds, silent * 1e6);
        std::fflush(stdout);
        one.release(*engine);
    }
}

// The fastest engine that is not the card's.
std::string host_engine() {
    for (const EngineInfo& info : engines()) {
        if (info.available && info.name != "cuda") return std::string(info.name);
    }
    return "reference";
}

int main_of(std::span<char*> arguments) {
    bool bits = false, speed = false;
    std::string host = host_engine();
    std::vector<Form> wanted;
    const std::vector<Form> all = forms();
    for (const std::string argument : arguments) {
        bits |= argument == "bits";
        speed |= argument == "speed";
        if (argument == "bits" || argument == "speed") continue;
        const auto named =
            std::find_if(all.begin(), all.end(), [&](const Form& form) { return form.name() == argument; });
        if (named != all.end()) {
            wanted.push_back(*named);
        } else {
            host = argument;
        }
    }
    if (wanted.empty()) wanted = all;
    if (!bits && !speed) bits = speed = true;
    cudaDeviceProp card{};
    if (cudaGetDeviceProperties(&card, 0) != cudaSuccess) {
        std::fprintf(stderr, "cuda_decode: no NVIDIA card, or no driver for it\n");
        return 2;
    }
    std::printf("card: %s, %d multiprocessors\n", card.name, card.multiProcessorCount);
    const bool right = !bits || check_bits(wanted, host);
    const uint32_t depths[] = {16, 1024, 8192, 32768};
    if (speed) {
        for (const Form& form : wanted) bench_speed(form, depths);
    }
    return right ? 0 : 1;
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) {
    return driftwood::compute::main_of(std::span(argv + 1, static_cast<size_t>(argc - 1)));
}
