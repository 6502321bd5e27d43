// prefill_parts [ENGINE] [TYPE] [THREADS] [LAYERS] [TOKENS]: where the time of a prompt goes on the CPU: of one step
// over TOKENS (512) tokens of a model in the shapes of Llama 3.2 1B with random weights of TYPE (q4_0) and LAYERS (16)
// layers, the processor time of each kernel, a linear layer by the shape of its matrix. The best of a few steps: others
// on the machine only make it slower. What is no kernel's is the last line: turning and storing keys and values (too
// short to be timed one by one), the walk itself, and threads that wait for each other.
#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "bench/conversation.h"
#include "compute/cpu/tables.h"
#include "compute/host_engine.h"
#include "compute/reference/reference.h"

namespace driftwood::compute {
namespace {

constexpr int kSteps = 4;

// ---- a table of kernels that takes the time of another's

enum Part : uint32_t { kNorm, kQuantise, kAttention, kSilu, kAdd, kLinear, kPartCount = kLinear + 8 };

struct Shape {
    uint32_t rows, cols;
    bool operator==(const Shape&) const = default;
};

// Kernels are plain functions, so what they share is the program's.
struct Timing {
    Kernels timed;
    std::vector<Shape> shapes;  // of part kLinear + i
    std::array<std::atomic<int64_t>, kPartCount> ns;
};
Timing timing;

class Timer {
  public:
    explicit Timer(uint32_t part) : part_(part), begin_(std::chrono::steady_clock::now()) {}
    ~Timer() {
        const auto time = std::chrono::steady_clock::now() - begin_;
        timing.ns[part_].fetch_add(std::chrono::nanoseconds(time).count(), std::memory_order_relaxed);
    }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

  private:
    uint32_t part_;
    std::chrono::steady_clock::time_point begin_;
};

template <uint32_t kPair>
void linear(const Linear& args, uint32_t row_begin, uint32_t row_end) {
    const auto shape = std::find(timing.shapes.begin(), timing.shapes.end(), Shape{args.y_stride, args.cols});
    const Timer timer(kLinear + static_cast<uint32_t>(shape - timing.shapes.begin()));
    timing.timed.linear[kPair / kActivationKinds][kPair % kActivationKinds](args, row_begin, row_end);
}

template <uint32_t kKind>
bool quantise(const float* x, uint32_t n, const ActivationRow& out) {
    const Timer timer(kQuantise);
    return timing.timed.quantise[kKind](x, n, out);
}

template <uint32_t... kPairs, uint32_t... kKinds>
Kernels timed_kernels(std::integer_sequence<uint32_t, kPairs...> /*pairs*/,
                      std::integer_sequence<uint32_t, kKinds...> /*kinds*/) {
    Kernels table = timing.timed;
    const auto set = [&](LinearKernel& entry, LinearKernel timed) {
        if (entry != nullptr) entry = timed;
    };
    (set(table.linear[kPairs / kActivationKinds][kPairs % kActivationKinds], linear<kPairs>), ...);
    ((table.quantise[kKinds] = quantise<kKinds>), ...);
    table.rms_norm = [](const float* x, const float* weight, uint32_t n, float eps, float* y) {
        const Timer timer(kNorm);
        return timing.timed.rms_norm(x, weight, n, eps, y);
    };
    table.attention = [](const AttentionKvi& args) {
        const Timer timer(kAttention);
        timing.timed.attention(args);
    };
    table.silu_multiply = [](const float* gate, const float* up, uint32_t n, float* out) {
        const Timer timer(kSilu);
        timing.timed.silu_multiply(gate, up, n, out);
    };
    table.add = [](float* x, const float* y, uint32_t n) {
        const Timer timer(kAdd);
        timing.timed.add(x, y, n);
    };
    return table;
}

// ---- the prompt

struct Arguments {
    std::string engine;
    WeightType type = WeightType::kQ4_0;
    uint32_t threads = available_cores();
    uint32_t layers = kLlama1B.layers;
    uint32_t tokens = 512;
};

void note_shapes(const DecoderSpec& spec) {
    const DecoderLayer& layer = spec.layer[0];
    for (const MatrixView* matrix : {&layer.wq, &layer.wk, &layer.w_gate, &layer.w_down, &spec.output}) {
        timing.shapes.push_back({matrix->rows, matrix->cols});
    }
    CHECK(kLinear + timing.shapes.size() <= kPartCount);
}

std::string name_of(uint32_t part) {
    constexpr const char* kNames[] = {"norm", "quantise", "attention", "silu", "add"};
    if (part < kLinear) return kNames[part];
    const Shape& shape = timing.shapes[part - kLinear];
    return "linear " + std::to_string(shape.rows) + " x " + std::to_string(shape.cols);
}

void print(double seconds, const std::vector<int64_t>& ns, const Arguments& arguments) {
    std::printf("%s, %s, %u thread(s), %u layers: %u tokens in %.1f ms, %.1f tokens/s\n", timing.timed.name,
                kWeightFormats[static_cast<uint32_t>(arguments.type)].name, arguments.threads, arguments.layers,
                arguments.tokens, seconds * 1e3, arguments.tokens / seconds);
    const double all = seconds * 1e9 * arguments.threads;
    double rest = all;
    const auto line = [&](const std::string& name, double part) {
        std::printf("  %-24s %9.2f ms %6.1f %%\n", name.c_str(), part * 1e-6, 100 * part / all);
    };
    for (uint32_t part = 0; part < kPartCount; ++part) {
        if (ns[part] == 0) continue;
        line(name_of(part), static_cast<double>(ns[part]));
        rest -= static_cast<double>(ns[part]);
    }
    line("all else, and waiting", rest);
}

int measure(const Arguments& arguments) {
    const KernelTable* chosen = nullptr;
    for (const KernelTable& table : kernel_tables()) {
        const bool named = arguments.engine.empty() || arguments.engine == table.kernels->name;
        if (chosen == nullptr && table.available && named) chosen = &table;
    }
    if (chosen == nullptr) {
        std::fprintf(stderr, "prefill_parts: no engine %s on this processor\n", arguments.engine.c_str());
        return 2;
    }
    TestShape shape = kLlama1B;
    shape.layers = arguments.layers;
    shape.type = shape.second_type = arguments.type;
    const TestModel model = make_test_model(shape, 1);
    timing.timed = reference::completed(*chosen->kernels);
    note_shapes(model.spec);
    const Kernels kernels = timed_kernels(std::make_integer_sequence<uint32_t, kWeightTypes * kActivationKinds>(),
                                          std::make_integer_sequence<uint32_t, kActivationKinds>());
    const KvLayout layout{.layers = shape.layers, .kv_heads = shape.kv_heads, .head_dim = shape.head_dim};
    auto pool = HostKvPool::create(layout, arguments.tokens / kBlockTokens + 1).value();
    HostEngine engine(kernels, model.spec, {.threads = arguments.threads}, std::move(pool));
    const std::vector<uint32_t> tokens = test_tokens(shape.vocab, arguments.tokens, 2);
    double best = 1e30;
    std::vector<int64_t> ns(kPartCount);
    for (int i = 0; i < kSteps; ++i) {
        for (auto& part : timing.ns) part = 0;
        Conversation conversation;
        BatchItem item = conversation.item(engine, tokens);
        const double begin = seconds_now();
        run(engine, {&item, 1});
        const double seconds = seconds_now() - begin;
        conversation.release(engine);
        if (seconds >= best) continue;
        best = seconds;
        std::copy(timing.ns.begin(), timing.ns.end(), ns.begin());
    }
    print(best, ns, arguments);
    return 0;
}

bool same_name(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
        return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y));
    });
}

int main_of(int argc, char** argv) {
    Arguments arguments;
    const auto number = [&](int i, uint32_t otherwise) {
        return argc > i ? static_cast<uint32_t>(std::max(1L, std::strtol(argv[i], nullptr, 10))) : otherwise;
    };
    if (argc > 1) arguments.engine = argv[1];
    for (uint32_t i = 0; argc > 2 && i < kWeightTypes; ++i) {
        if (same_name(kWeightFormats[i].name, argv[2])) arguments.type = static_cast<WeightType>(i);
    }
    arguments.threads = number(3, arguments.threads);
    arguments.layers = number(4, arguments.layers);
    arguments.tokens = number(5, arguments.tokens);
    return measure(arguments);
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) { return driftwood::compute::main_of(argc, argv); }
