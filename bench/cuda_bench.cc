// cuda_bench [bits] [speed | decode | prefill | batch | shared] [TYPE] [ENGINE] [--like MODEL] | profile: what the CUDA
// engine computes, beside a CPU engine (the fastest unless named), and how fast, all of it or a part: random weights,
// Q4_0 and Q8_0 unless one is named (W16 is what files in F32, F16 and BF16 become), in the shapes of Llama 3.2 1B or
// of MODEL (llama-3.1-8b). Times are of whole Engine::step calls on the host's clock, logits delivered; medians. "of
// the limit" is the bytes a step must read (weights, keys and values) over the time, against the bandwidth of a plain
// copy on the same card; of a prompt, what it multiplies against the time is printed beside it.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "bench/conversation.h"

namespace driftwood::compute {
namespace {

// What is timed of a model's shapes. The peer is llama.cpp of August 2026 on an H200 with these shapes, Q4_0 (it has no
// bits to keep), in tokens per second; 0 where nobody measured it.
struct SpeedTable {
    std::string_view name;
    std::string_view title;
    TestShape shape;
    std::vector<uint32_t> depths, prompts, counts;
    uint32_t kv_blocks;
    double peer_decode = 0, peer_prefill = 0, peer_batch_256 = 0;
};

std::vector<SpeedTable> speed_tables() {
    return {{.name = "llama-3.2-1b",
             .title = "Llama 3.2 1B",
             .shape = kLlama1B,
             .depths = {16, 1024, 8192, 32768},
             .prompts = {512, 4096, 16384},
             .counts = {2, 8, 32, 64, 256},
             .kv_blocks = 8192,
             .peer_decode = 991,
             .peer_prefill = 49200,
             .peer_batch_256 = 17478},
            {.name = "llama-3.1-8b",
             .title = "Llama 3.1 8B",
             .shape = kLlama8B,
             .depths = {16, 1024, 8192},
             .prompts = {512, 4096},
             .counts = {8, 64, 256},
             .kv_blocks = 2048}};
}

// ", 2.30 x llama.cpp (of what)", or nothing where there is no peer.
std::string beside_peer(double tokens_per_s, double peer, const char* of_what) {
    char text[64] = "";
    if (peer > 0) std::snprintf(text, sizeof text, ", %.2f x llama.cpp (%s)", tokens_per_s / peer, of_what);
    return text;
}

double median_seconds(uint32_t times, const std::function<void(uint32_t)>& body) {
    std::vector<double> seconds(times);
    for (uint32_t i = 0; i < times; ++i) {
        const double begin = seconds_now();
        body(i);
        seconds[i] = seconds_now() - begin;
    }
    std::sort(seconds.begin(), seconds.end());
    return seconds[times / 2];
}

void feed(Engine& engine, Conversation& conversation, std::span<const uint32_t> tokens, size_t chunk) {
    for (size_t at = 0; at < tokens.size(); at += chunk) {
        const bool last = at + chunk >= tokens.size();
        BatchItem item = conversation.item(engine, tokens.subspan(at, std::min(chunk, tokens.size() - at)), last);
        run(engine, {&item, 1});
    }
}

// ---- bits

size_t different_bytes(Engine& a, const Conversation& x, Engine& b, const Conversation& y, size_t& compared) {
    size_t wrong = 0;
    const auto compare = [&](const void* p, const void* q, size_t size) {
        compared += size;
        if (std::memcmp(p, q, size) != 0) wrong += size;
    };
    compare(x.logits.values().data(), y.logits.values().data(), x.logits.values().size_bytes());
    for (size_t i = 0; i < x.blocks.size(); ++i) {
        const auto p = a.pool().bytes(x.blocks[i]);
        compare(p.data(), b.pool().bytes(y.blocks[i]).data(), p.size());
    }
    return wrong;
}

bool check_bits(const char* title, const TestShape& shape, std::string_view host_name, uint32_t length) {
    const TestModel model = make_test_model(shape, 5);
    auto cuda = make_engine("cuda", model.spec, {.kv_blocks = 2048}).value();
    auto host = make_engine(host_name, model.spec, {.kv_blocks = 512}).value();
    const std::vector<uint32_t> tokens = test_tokens(shape.vocab, length + 8, 6);
    const std::span<const uint32_t> prompt = std::span(tokens).first(length);

    Conversation want;
    feed(*host, want, prompt, 256);
    size_t wrong = 0, compared = 0;
    for (const size_t chunk : {size_t{512}, size_t{100}, size_t{31}}) {
        Conversation got;
        feed(*cuda, got, prompt, chunk);
        wrong += different_bytes(*cuda, got, *host, want, compared);
        got.release(*cuda);
    }
    // Decodes of many conversations in one step beside prompts: each as if alone.
    std::vector<Conversation> many(7);
    for (uint32_t i = 0; i < many.size(); ++i) feed(*cuda, many[i], prompt.first(length - 50 * i), 512);
    std::vector<BatchItem> batch;
    for (uint32_t i = 0; i < many.size(); ++i) {
        batch.push_back(many[i].item(*cuda, prompt.subspan(length - 50 * i, i == 0 ? 0 : i == 1 ? 50 : i)));
    }
    batch.erase(batch.begin());
    run(*cuda, batch);
    wrong += different_bytes(*cuda, many[1], *host, want, compared);
    for (uint32_t i = 0; i < 8; ++i) {
        std::vector<BatchItem> step;
        for (Conversation& one : many) {
            if (&one == many.data() || &one == &many[1])
                step.push_back(one.item(*cuda, std::span(tokens).subspan(length + i, 1)));
        }
        run(*cuda, step);
        BatchItem item = want.item(*host, std::span(tokens).subspan(length + i, 1));
        run(*host, {&item, 1});
        wrong += different_bytes(*cuda, many[0], *host, want, compared);
        wrong += different_bytes(*cuda, many[1], *host, want, compared);
    }
    std::printf(
        "bits %-34s %5u tokens, chunks of 512, 100, 31, mixed steps, 8 decodes of 2: %.1f MB of logits and KV "
        "compared with %s, %zu bytes differ\n",
        title, length, static_cast<double>(compared) * 1e-6, std::string(host_name).c_str(), wrong);
    std::fflush(stdout);
    return wrong == 0;
}

// ---- speed

double copy_tb_per_s() {
    constexpr size_t kBytes = size_t{4} << 30;
    void* from = nullptr;
    void* to = nullptr;
    cudaStream_t stream = nullptr;
    if (cudaMalloc(&from, kBytes) != cudaSuccess || cudaMalloc(&to, kBytes) != cudaSuccess ||
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) {
        check_failed("no memory for the copy");
    }
    cudaMemsetAsync(from, 0x5A, kBytes, stream);
    cudaStreamSynchronize(stream);
    const double seconds = median_seconds(9, [&](uint32_t) {
        cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice, stream);
        cudaStreamSynchronize(stream);
    });
    cudaFree(from);
    cudaFree(to);
    cudaStreamDestroy(stream);
    return 2.0 * kBytes / seconds * 1e-12;
}

// Of the matrices that every token passes through.
struct Weight {
    size_t bytes = 0, numbers = 0;
};

Weight layer_weights(const DecoderSpec& spec) {
    Weight all;
    for (const DecoderLayer& layer : spec.layer) {
        for (const MatrixView* matrix :
             {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down}) {
            all.bytes += matrix->bytes.size();
            all.numbers += size_t{matrix->rows} * matrix->cols;
        }
    }
    return all;
}

size_t weight_bytes(const DecoderSpec& spec) { return spec.output.bytes.size() + layer_weights(spec).bytes; }

double kv_bytes(Engine& engine, uint32_t tokens) {
    return static_cast<double>(engine.pool().layout().block_bytes()) / kBlockTokens * tokens;
}

void bench_decode(Engine& engine, const SpeedTable& table, uint32_t depth, double limit) {
    const DecoderSpec& spec = engine.spec();
    const std::vector<uint32_t> tokens = test_tokens(spec.vocab, depth, 7);
    Conversation one;
    feed(engine, one, tokens, kMaxStepTokens);
    const double seconds = median_seconds(100, [&](uint32_t) {
        BatchItem item = one.item(engine, std::span(tokens).first(1));
        run(engine, {&item, 1});
    });
    const double silent = median_seconds(30, [&](uint32_t) {
        BatchItem item = one.item(engine, std::span(tokens).first(1), false);
        run(engine, {&item, 1});
    });
    one.release(engine);
    const double floor = (static_cast<double>(weight_bytes(spec)) + kv_bytes(engine, depth)) / (limit * 1e12);
    std::printf(
        "decode, 1 conversation at %6u tokens: %8.1f us a step, %8.1f tok/s, %5.1f %% of the limit%s; without logits "
        "%.1f us\n",
        depth, seconds * 1e6, 1.0 / seconds, 100.0 * floor / seconds,
        beside_peer(1.0 / seconds, table.peer_decode, "Q4_0").c_str(), silent * 1e6);
    std::fflush(stdout);
}

void bench_prefill(Engine& engine, const SpeedTable& table, uint32_t length) {
    const std::vector<uint32_t> tokens = test_tokens(engine.spec().vocab, length, 8);
    const double seconds = median_seconds(length > 8192 ? 3 : 7, [&](uint32_t) {
        Conversation one;
        feed(engine, one, tokens, kMaxStepTokens);
        one.release(engine);
    });
    // Of the linear layers: a multiplication and an addition for each weight and token.
    const double work = 2.0 * static_cast<double>(layer_weights(engine.spec()).numbers) * length;
    std::printf("prefill of %6u tokens, %u a step:      %8.1f ms, %8.0f tok/s, %4.0f TOPS%s\n", length, kMaxStepTokens,
                seconds * 1e3, length / seconds, work / seconds * 1e-12,
                beside_peer(length / seconds, table.peer_prefill, "4,096 tokens").c_str());
    std::fflush(stdout);
}

void bench_batch(Engine& engine, const SpeedTable& table, uint32_t count, double limit) {
    const uint32_t vocab = engine.spec().vocab;
    const std::vector<uint32_t> tokens = test_tokens(vocab, 128 + count, 9);
    std::vector<Conversation> all(count);
    for (uint32_t i = 0; i < count; ++i) feed(engine, all[i], std::span(tokens).subspan(i, 128), 128);
    const double begin = seconds_now();
    for (uint32_t i = 0; i < 128; ++i) {
        std::vector<BatchItem> batch;
        for (uint32_t j = 0; j < count; ++j) batch.push_back(all[j].item(engine, std::span(tokens).subspan(j, 1)));
        run(engine, batch);
    }
    const double seconds = seconds_now() - begin;
    for (Conversation& one : all) one.release(engine);
    // The keys and values of the step in the middle, each conversation's own.
    const double bytes = static_cast<double>(weight_bytes(engine.spec())) + count * kv_bytes(engine, 128 + 64);
    const double floor = bytes / (limit * 1e12);
    std::printf(
        "%3u conversations, 128 + 128 tokens:     %8.1f ms a step, %8.0f tok/s in total, %5.1f %% of the limit%s\n",
        count, seconds * 1e3 / 128, count * 128 / seconds, 100.0 * floor / (seconds / 128),
        beside_peer(count * 128 / seconds, count == 256 ? table.peer_batch_256 : 0, "256").c_str());
    std::fflush(stdout);
}

// Many conversations with a common beginning of 1,024 tokens and 32 of their own, each in a step: what the last of them
// waits for its first token when each computes the beginning, and when the first one's blocks are in all tables.
void bench_shared(Engine& engine) {
    constexpr uint32_t kCount = 64, kCommon = 1024, kOwn = 32;
    const std::vector<uint32_t> tokens = test_tokens(engine.spec().vocab, kCommon + kCount * kOwn, 10);
    const auto beginning = std::span(tokens).first(kCommon);
    const auto seconds = [&](bool shared) {
        return median_seconds(3, [&](uint32_t) {
            std::vector<Conversation> all(kCount);
            for (uint32_t i = 0; i < kCount; ++i) {
                if (shared && i > 0) {
                    all[i].blocks.assign(all[0].blocks.begin(), all[0].blocks.begin() + kCommon / kBlockTokens);
                    all[i].length = kCommon;
                } else {
                    feed(engine, all[i], beginning, kMaxStepTokens);
                }
                feed(engine, all[i], std::span(tokens).subspan(kCommon + i * kOwn, kOwn), kOwn);
            }
            for (uint32_t i = 1; shared && i < kCount; ++i) {
                all[i].blocks.erase(all[i].blocks.begin(), all[i].blocks.begin() + kCommon / kBlockTokens);
            }
            for (Conversation& one : all) one.release(engine);
        });
    };
    const double apart = seconds(false), together = seconds(true);
    std::printf(
        "%u prompts of %u + %u tokens:            %8.1f ms each by itself, %.1f ms with the beginning shared: %.1f x\n",
        kCount, kCommon, kOwn, apart * 1e3, together * 1e3, apart / together);
    std::fflush(stdout);
}

// What to time.
struct Speed {
    bool decode = false, prefill = false, batch = false, shared = false;
    bool any() const { return decode || prefill || batch || shared; }
};

void bench_speed(const SpeedTable& table, WeightType type, const Speed& what, double limit) {
    TestShape shape = table.shape;
    shape.type = shape.second_type = type;
    const TestModel model = make_test_model(shape, 1);
    auto engine = make_engine("cuda", model.spec, {.kv_blocks = table.kv_blocks}).value();
    std::printf("%s shapes, %s, %.2f GB of weights a step\n", std::string(table.title).c_str(),
                std::string(weight_type_name(type)).c_str(), static_cast<double>(weight_bytes(model.spec)) * 1e-9);
    for (const uint32_t depth : table.depths) {
        if (what.decode) bench_decode(*engine, table, depth, limit);
    }
    for (const uint32_t length : table.prompts) {
        if (what.prefill) bench_prefill(*engine, table, length);
    }
    for (const uint32_t count : table.counts) {
        if (what.batch) bench_batch(*engine, table, count, limit);
    }
    if (what.shared) bench_shared(*engine);
}

// A few steps of each kind for a profiler.
void profile() {
    const TestModel model = make_test_model(kLlama1B, 1);
    auto engine = make_engine("cuda", model.spec, {.kv_blocks = 1024}).value();
    const std::vector<uint32_t> tokens = test_tokens(kLlama1B.vocab, 4096, 7);
    Conversation one;
    feed(*engine, one, std::span(tokens).first(1024), kMaxStepTokens);
    for (uint32_t i = 0; i < 2; ++i) feed(*engine, one, std::span(tokens).first(1), 1);
    feed(*engine, one, std::span(tokens).first(2), 2);  // most of a decode's kernels, and not one graph
}

// Of weights that products take.
std::optional<WeightType> weight_type(std::string_view name) {
    for (uint32_t i = 0; i < kWeightTypes; ++i) {
        const auto type = static_cast<WeightType>(i);
        if (!is_plain_float(type) && weight_type_name(type) == name) return type;
    }
    return std::nullopt;
}

std::optional<SpeedTable> speed_table(std::string_view name) {
    for (SpeedTable& table : speed_tables()) {
        if (table.name == name) return std::move(table);
    }
    return std::nullopt;
}

// The fastest engine that is not the card's.
std::string host_engine() {
    for (const EngineInfo& info : engines()) {
        if (info.available && info.name != "cuda") return std::string(info.name);
    }
    return "reference";
}

// Of the shapes of --like; those of 1B stand beside odd ones and two of 8B's layers.
bool check_all_bits(std::string_view like, const std::vector<WeightType>& types, std::string_view host) {
    TestShape wide = kLlama8B;
    wide.layers = 2;
    wide.layers_alike = false;
    wide.vocab = 4000;
    const TestShape odd = {.layers = 2,
                           .d_model = 96,
                           .heads = 16,
                           .kv_heads = 16,
                           .head_dim = 26,
                           .d_ff = 32,
                           .vocab = 33,
                           .context = 4096};
    struct Check {
        const char* title;
        TestShape shape;
        uint32_t length;
    };
    std::vector<Check> checks = {
        {"odd shapes", odd, 700}, {"Llama 3.1 8B layers", wide, 700}, {"Llama 3.2 1B", kLlama1B, 1500}};
    if (like == "llama-3.1-8b") checks = {{"Llama 3.1 8B, layers alike", kLlama8B, 400}};
    bool same = true;
    for (const WeightType type : types) {
        for (Check& check : checks) {
            check.shape.type = check.shape.second_type = type;
            const std::string title = std::string(check.title) + ", " + std::string(weight_type_name(type));
            same &= check_bits(title.c_str(), check.shape, host, check.length);
        }
    }
    return same;
}

struct Wanted {
    bool bits = false;
    Speed speed;
    std::vector<WeightType> types = {WeightType::kQ4_0, WeightType::kQ8_0};
    std::string host = host_engine();
    std::string_view like = "llama-3.2-1b";
};

Wanted wanted(std::span<char*> arguments) {
    Wanted want;
    for (size_t i = 0; i < arguments.size(); ++i) {
        const std::string_view argument = arguments[i];
        const bool all = argument == "speed";
        if (argument == "--like" && i + 1 < arguments.size()) {
            want.like = arguments[++i];
        } else if (const auto type = weight_type(argument)) {
            want.types = {*type};
        } else if (argument == "bits") {
            want.bits = true;
        } else if (all || argument == "decode" || argument == "prefill" || argument == "batch" ||
                   argument == "shared") {
            want.speed.decode |= all || argument == "decode";
            want.speed.prefill |= all || argument == "prefill";
            want.speed.batch |= all || argument == "batch";
            want.speed.shared |= all || argument == "shared";
        } else {
            want.host = argument;
        }
    }
    if (!want.bits && !want.speed.any()) {
        want.bits = true;
        want.speed = {.decode = true, .prefill = true, .batch = true, .shared = true};
    }
    return want;
}

int main_of(std::span<char*> arguments) {
    if (arguments.size() == 1 && std::string_view(arguments[0]) == "profile") {
        profile();
        return 0;
    }
    const Wanted want = wanted(arguments);
    const std::optional<SpeedTable> table = speed_table(want.like);
    if (!table) {
        std::fprintf(stderr, "cuda_bench: --like %s: want llama-3.2-1b or llama-3.1-8b\n",
                     std::string(want.like).c_str());
        return 2;
    }
    cudaDeviceProp card{};
    if (cudaGetDeviceProperties(&card, 0) != cudaSuccess) {
        std::fprintf(stderr, "cuda_bench: no NVIDIA card, or no driver for it\n");
        return 2;
    }
    std::printf("card: %s, %d multiprocessors, %.0f GB\n", card.name, card.multiProcessorCount,
                static_cast<double>(card.totalGlobalMem) * 1e-9);
    const bool same = !want.bits || check_all_bits(want.like, want.types, want.host);
    if (want.speed.any()) {
        const double limit = copy_tb_per_s();
        std::printf("limit: a copy on the card moves %.2f TB/s\n", limit);
        for (const WeightType type : want.types) bench_speed(*table, type, want.speed, limit);
    }
    return same ? 0 : 1;
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) {
    return driftwood::compute::main_of(std::span(argv + 1, static_cast<size_t>(argc - 1)));
}
