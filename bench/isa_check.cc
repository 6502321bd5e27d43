// isa_check [--json]: lists what this processor has, runs every kernel of every table that it can run against the
// reference by memcmp, over random, adversarial and odd cases, and says roughly how fast each is. Exits 1 when a single
// byte differs. Needs nothing but the file itself.
//
// Long because: there is one check per kernel, and each is short.
#include <sys/utsname.h>

#include <cstdarg>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <tuple>

#include "base/fp_environment.h"
#include "compute/cpu/tables.h"
#include "compute/kv.h"
#include "compute/reference/reference.h"
#include "compute/test_numbers.h"

namespace driftwood::compute {
namespace {

// ---- what is reported

struct Line {
    std::string table;
    std::string kernel;
    uint32_t cases = 0;
    uint32_t failed = 0;
    std::string first_failure;
    double speed = 0.0;  // in `unit`
    const char* unit = "";
};

struct Report {
    std::vector<Line> lines;
    const char* table = "";
    bool json = false;

    // Runs `body(line)` for one kernel and prints its line.
    void kernel(const std::string& name, const std::function<void(Line&)>& body) {
        Line line{.table = table, .kernel = name, .first_failure = {}};
        body(line);
        if (!json) {
            std::printf("%-8s %-24s %6u cases  %s  %8.2f %s%s\n", line.table.c_str(), line.kernel.c_str(), line.cases,
                        line.failed == 0 ? "same bits" : "DIFFERENT", line.speed, line.unit,
                        line.failed == 0 ? "" : ("  first: " + line.first_failure).c_str());
            std::fflush(stdout);
        }
        lines.push_back(line);
    }
};

template <class T>
void expect_same(Line& line, const std::vector<T>& got, const std::vector<T>& want, const std::string& what) {
    ++line.cases;
    if (std::memcmp(got.data(), want.data(), want.size() * sizeof(T)) == 0) return;
    if (line.failed++ != 0) return;
    size_t at = 0;
    while (std::memcmp(&got[at], &want[at], sizeof(T)) == 0) ++at;
    std::ostringstream text;
    text << what << ", at " << at << " of " << want.size() << ": got " << +got[at] << ", want " << +want[at];
    line.first_failure = text.str();
}

double cpu_ns() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Units per nanosecond of this thread's time, the best of a few rounds: other programs only make it slower.
template <class Body>
double per_ns(double units, const Body& body) {
    const auto ns_of = [&](uint32_t calls) {
        const double begin = cpu_ns();
        for (uint32_t i = 0; i < calls; ++i) body();
        return cpu_ns() - begin;
    };
    uint32_t calls = 1;  // until they take long enough for the clock
    while (ns_of(calls) < 1e6) calls *= 4;
    double best_ns = ns_of(calls);
    for (int round = 0; round < 4; ++round) best_ns = std::min(best_ns, ns_of(calls));
    return units * calls / best_ns;
}

std::string text_of(const char* format, ...) __attribute__((format(printf, 1, 2)));
std::string text_of(const char* format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    return text;
}

// ---- rows

void for_rows(std::initializer_list<uint32_t> counts,
              const std::function<void(std::vector<float>, std::string)>& body) {
    TestRandom random(31);
    for (const uint32_t n : counts) {
        for (uint32_t style = 0; style <= kStyles; ++style) {
            body(hard_floats(random, n, style), text_of("n %u, style %u", n, style));
        }
    }
}

void check_norm(Report& report, const Kernels& k, const Kernels& reference) {
    report.kernel("rms_norm", [&](Line& line) {
        TestRandom random(1);
        for_rows({1, 7, 16, 31, 33, 96, 255, 256, 257, 1000},
                 [&](const std::vector<float>& x, const std::string& what) {
                     const auto n = static_cast<uint32_t>(x.size());
                     const std::vector<float> weight = hard_floats(random, n, 0);
                     std::vector<float> got(n), want(n);
                     const bool a = k.rms_norm(x.data(), weight.data(), n, 1e-5F, got.data());
                     const bool b = reference.rms_norm(x.data(), weight.data(), n, 1e-5F, want.data());
                     expect_same(line, got, want, what);
                     expect_same<uint8_t>(line, {a}, {b}, what + ", finite");
                 });
        const std::vector<float> x = hard_floats(random, 2048, 0);
        std::vector<float> y(2048);
        line.unit = "values/ns";
        line.speed = per_ns(2048, [&] { k.rms_norm(x.data(), x.data(), 2048, 1e-5F, y.data()); });
    });
}

void check_quantise(Report& report, const Kernels& k, const Kernels& reference) {
    for (const ActivationKind kind : kKinds) {
        const auto index = static_cast<uint32_t>(kind);
        if (k.quantise[index] == nullptr) continue;
        report.kernel(std::string("quantise ") + kKindNames[index], [&](Line& line) {
            for_rows({32, 64, 96, 256, 288, 1024}, [&](const std::vector<float>& x, const std::string& what) {
                const auto n = static_cast<uint32_t>(x.size());
                const Quantised got(k, kind, x, n), want(reference, kind, x, n);
                expect_same(line, got.high, want.high, what);
                if (kind == ActivationKind::kA16) expect_same(line, got.low, want.low, what + ", low");
                expect_same(line, got.scale, want.scale, what + ", scale");
                expect_same(line, got.high_sum, want.high_sum, what + ", sums");
                if (kind == ActivationKind::kA16) expect_same(line, got.low_sum, want.low_sum, what + ", low sums");
            });
            TestRandom random(2);
            const std::vector<float> x = hard_floats(random, 2048, 0);
            Quantised q(reference, kind, x, 2048);
            const ActivationRow out{q.high.data(), q.low.data(), q.scale.data(), q.high_sum.data(), q.low_sum.data()};
            line.unit = "values/ns";
            line.speed = per_ns(2048, [&] { k.quantise[index](x.data(), 2048, out); });
        });
    }
    report.kernel("quantise_16", [&](Line& line) {
        for_rows({2, 16, 26, 64, 80, 96, 128, 250, 256}, [&](const std::vector<float>& x, const std::string& what) {
            const auto n = static_cast<uint32_t>(x.size());
            for (const float max : {kMaxQ16, kMaxV16}) {
                std::vector<int16_t> got(n), want(n);
                std::vector<float> got_scale(1), want_scale(1);
                k.quantise_16(x.data(), n, max, got.data(), got_scale.data());
                reference.quantise_16(x.data(), n, max, want.data(), want_scale.data());
                expect_same(line, got, want, what);
                expect_same(line, got_scale, want_scale, what + ", scale");
            }
        });
        TestRandom random(3);
        const std::vector<float> x = hard_floats(random, 128, 0);
        std::vector<int16_t> q(128);
        float scale = 0.0F;
        line.unit = "values/ns";
        line.speed = per_ns(128, [&] { k.quantise_16(x.data(), 128, kMaxQ16, q.data(), &scale); });
    });
    report.kernel("all_finite", [&](Line& line) {
        for (uint32_t at = 0; at < 97; ++at) {
            std::vector<float> x(96, 1.0F);
            if (at < 96) x[at] = at % 2 == 0 ? std::numeric_limits<float>::infinity() : std::nanf("");
            expect_same<uint8_t>(line, {k.all_finite(x.data(), 96)}, {at == 96}, text_of("at %u", at));
        }
        const std::vector<float> x(2048, 1.0F);
        volatile bool keep = false;
        line.unit = "values/ns";
        line.speed = per_ns(2048, [&] { keep = k.all_finite(x.data(), 2048); });
    });
}

void check_elementwise(Report& report, const Kernels& k, const Kernels& reference) {
    const auto rope = [&](const char* name, auto kernel, auto want_kernel) {
        report.kernel(name, [&](Line& line) {
            TestRandom random(4);
            for_rows({2, 6, 16, 26, 34, 62, 64, 80, 96, 128, 256}, [&](const std::vector<float>& x, const auto& what) {
                const auto n = static_cast<uint32_t>(x.size());
                const std::vector<float> cosine = hard_floats(random, n / 2, 0), sine = hard_floats(random, n / 2, 0);
                std::vector<float> got = x, want = x;
                kernel(got.data(), n, cosine.data(), sine.data());
                want_kernel(want.data(), n, cosine.data(), sine.data());
                expect_same(line, got, want, what);
            });
            std::vector<float> x(64, 0.0F);
            const std::vector<float> angle(32, 0.5F);
            line.unit = "values/ns";
            line.speed = per_ns(64, [&] { kernel(x.data(), 64, angle.data(), angle.data()); });
        });
    };
    rope("rope_adjacent", k.rope_adjacent, reference.rope_adjacent);
    rope("rope_halves", k.rope_halves, reference.rope_halves);
    const auto pairwise = [&](const char* name, auto apply) {
        report.kernel(name, [&](Line& line) {
            TestRandom random(5);
            for_rows({1, 3, 16, 33, 320}, [&](const std::vector<float>& x, const std::string& what) {
                for (const float factor : {1.0F, 100.0F}) {
                    std::vector<float> a = x;
                    for (float& value : a) value = std::isfinite(value * factor) ? value * factor : value;
                    const std::vector<float> b = hard_floats(random, static_cast<uint32_t>(x.size()), 0);
                    expect_same(line, apply(k, a, b), apply(reference, a, b), what);
                }
            });
            const std::vector<float> x = hard_floats(random, 2048, 0);
            line.unit = "values/ns";
            line.speed = per_ns(2048, [&] { apply(k, x, x); });
        });
    };
    pairwise("silu_multiply", [](const Kernels& table, const std::vector<float>& a, const std::vector<float>& b) {
        std::vector<float> out(a.size());
        table.silu_multiply(a.data(), b.data(), static_cast<uint32_t>(a.size()), out.data());
        return out;
    });
    pairwise("add", [](const Kernels& table, std::vector<float> a, const std::vector<float>& b) {
        table.add(a.data(), b.data(), static_cast<uint32_t>(a.size()));
        return a;
    });
}

// ---- linear layers and embeddings

std::vector<float> product(LinearKernel kernel, const LayerPair& pair, const std::vector<uint8_t>& weights,
                           uint32_t rows, uint32_t cols, const Quantised& x, uint32_t cut) {
    const auto tokens = static_cast<uint32_t>(x.high.size() / cols);
    std::vector<float> y(size_t{tokens} * rows, -1.0F);
    const Linear args{weights.data(), row_bytes(pair.type, cols), cols, tokens, x.view(), y.data(), rows};
    if (cut > 0) kernel(args, 0, cut);
    kernel(args, cut, rows);
    return y;
}

void check_layer(Line& line, LinearKernel kernel, LinearKernel want, const LayerPair& pair) {
    TestRandom random(6);
    const auto same = [&](const std::vector<uint8_t>& weights, uint32_t rows, uint32_t cols,
                          const std::vector<float>& x, const std::string& what) {
        const Quantised q(reference::kernels(), pair.kind, x, cols);
        expect_same(line, product(kernel, pair, weights, rows, cols, q, rows / 3),
                    product(want, pair, weights, rows, cols, q, 0), what);
    };
    for (const uint32_t cols : {32U, 64U, 224U, 256U, 288U, 512U, 544U, 1024U}) {
        if (!cols_fit(pair.type, cols)) continue;
        for (const uint32_t rows : {1U, 7U, 16U, 17U, 45U}) {
            const std::vector<uint8_t> weights = test_matrix(random, pair.type, rows, cols);
            for (const uint32_t tokens : {1U, 2U, 5U, 8U, 9U, 16U, 33U, 300U}) {
                if (tokens == 300 && rows != 17) continue;
                same(weights, rows, cols, hard_floats(random, cols * tokens, 0),
                     text_of("%u x %u, %u tokens", rows, cols, tokens));
            }
        }
    }
    // More rows, columns and tokens than kernels take at once.
    for (const auto& [rows, cols, tokens] :
         {std::tuple{150U, 2080U, 40U}, {150U, 2304U, 12U}, {40U, 4352U, 17U}, {17U, 512U, 530U}, {2U, 33024U, 2U}}) {
        if (!cols_fit(pair.type, cols)) continue;
        same(test_matrix(random, pair.type, rows, cols), rows, cols, hard_floats(random, cols * tokens, 0),
             text_of("%u x %u, %u tokens", rows, cols, tokens));
    }
    const uint32_t cols = cols_fit(pair.type, 288) ? 288 : 512;
    for (uint32_t extreme = 0; extreme < static_cast<uint32_t>(Extreme::kCount); ++extreme) {
        for (uint32_t style = 0; style <= kStyles; ++style) {
            const auto weights = extreme_matrix(random, pair.type, 19, cols, static_cast<Extreme>(extreme));
            for (const uint32_t tokens : {1U, 6U, 18U}) {
                same(weights, 19, cols, hard_floats(random, cols * tokens, style),
                     text_of("19 x %u, %u tokens, style %u, extreme %u", cols, tokens, style, extreme));
            }
        }
    }
    const auto weights = extreme_matrix(random, pair.type, 33, 512, Extreme::kLargestIntegers);
    for (const float x : {127.0F, -127.0F, 32639.0F, -32639.0F, 32384.0F, -32384.0F}) {
        for (const uint32_t tokens : {1U, 20U}) {
            std::vector<float> activations(512 * tokens, x);
            for (size_t i = 0; i < activations.size(); i += 256) activations[i] = 32639.0F;  // the scale is 1
            same(weights, 33, 512, activations, text_of("largest numbers, %u tokens of %g", tokens, x));
        }
    }
}

void check_linear(Report& report, const Kernels& k, const Kernels& reference) {
    for (const LayerPair& pair : layer_pairs()) {
        const auto type = static_cast<uint32_t>(pair.type);
        const auto kind = static_cast<uint32_t>(pair.kind);
        const LinearKernel kernel = k.linear[type][kind];
        if (kernel == nullptr) continue;
        const std::string name = std::string("linear ") + kWeightFormats[type].name + " " + kKindNames[kind];
        TestRandom random(7);
        constexpr uint32_t kRows = 256, kCols = 2048;
        const std::vector<uint8_t> weights = test_matrix(random, pair.type, kRows, kCols);
        const auto speed = [&](uint32_t tokens, double units) {
            const Quantised x(reference, pair.kind, hard_floats(random, kCols * tokens, 0), kCols);
            std::vector<float> y(size_t{tokens} * kRows);
            const Linear args{weights.data(), row_bytes(pair.type, kCols), kCols, tokens, x.view(), y.data(), kRows};
            return per_ns(units, [&] { kernel(args, 0, kRows); });
        };
        report.kernel(name, [&](Line& line) {
            check_layer(line, kernel, reference.linear[type][kind], pair);
            line.unit = "products/ns at 128 tokens";
            line.speed = speed(128, 128.0 * kRows * kCols);
        });
        report.kernel(name + ", 1 token", [&](Line& line) {
            line.unit = "GB/s of weights in cache";
            line.speed = speed(1, static_cast<double>(weights.size()));
        });
    }
}

void check_embed(Report& report, const Kernels& k, const Kernels& reference) {
    for (uint32_t i = 0; i < kWeightTypes; ++i) {
        const auto type = static_cast<WeightType>(i);
        if (k.embed[i] == nullptr) continue;
        report.kernel(std::string("embed ") + kWeightFormats[i].name, [&](Line& line) {
            TestRandom random(8);
            std::vector<uint8_t> row;
            for (const uint32_t cols : {32U, 256U, 288U, 1024U}) {
                if (!cols_fit(type, cols)) continue;
                for (uint32_t extreme = 0; extreme <= static_cast<uint32_t>(Extreme::kCount); ++extreme) {
                    const bool plain = extreme == static_cast<uint32_t>(Extreme::kCount) || is_plain_float(type);
                    row = plain ? test_matrix(random, type, 1, cols)
                                : extreme_matrix(random, type, 1, cols, static_cast<Extreme>(extreme));
                    std::vector<float> got(cols), want(cols);
                    k.embed[i](row.data(), cols, got.data());
                    reference.embed[i](row.data(), cols, want.data());
                    expect_same(line, got, want, text_of("n %u, extreme %u", cols, extreme));
                }
            }
            std::vector<float> out(1024);
            line.unit = "values/ns";
            line.speed = per_ns(1024, [&] { k.embed[i](row.data(), 1024, out.data()); });
        });
    }
}

// ---- attention

// The keys and values of one head, and queries on them.
struct Heads {
    uint32_t head_dim;
    std::vector<std::vector<uint8_t>> blocks;
    std::vector<const uint8_t*> pointers;
    std::vector<int16_t> q;
    std::vector<float> cq;
    std::vector<uint32_t> visible;

    Heads(TestRandom& random, uint32_t dim, uint32_t tokens, uint32_t rows, uint32_t style, bool hostile)
        : head_dim(dim) {
        const KvLayout layout{.layers = 1, .kv_heads = 1, .head_dim = head_dim};
        std::vector<int16_t> ints(head_dim);
        const auto row = [&](uint32_t of_style, float max) {
            float scale = 0.0F;
            reference::quantise_16(hard_floats(random, head_dim, of_style).data(), head_dim, max, ints.data(), &scale);
            return scale;
        };
        for (uint32_t t = 0; t < tokens; ++t) {
            if (t % kBlockTokens == 0) blocks.emplace_back(layout.block_bytes(), uint8_t{0});
            const float k_scale = row(style, kMaxQ16);
            store_k_row(blocks.back().data(), head_dim, t % kBlockTokens, ints.data(), k_scale);
            const float v_scale = row(style, kMaxV16);
            store_v_row(blocks.back().data(), head_dim, t % kBlockTokens, ints.data(), v_scale);
        }
        for (auto& block : blocks) {
            for (size_t i = 0; hostile && i < 2 * layout.k_bytes(); ++i) {
                block[i] = random.below(3) == 0 ? 0x80 : static_cast<uint8_t>(random.bits());
            }
            pointers.push_back(block.data());
        }
        for (uint32_t r = 0; r < rows; ++r) {
            const float scale = row(0, kMaxQ16);
            q.insert(q.end(), ints.begin(), ints.end());
            cq.push_back(scale * static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim))));
            visible.push_back(tokens - (rows - 1 - r) % tokens);
        }
    }

    // Every integer sum at its bound: the largest digits by the largest keys, weights of 8192 by the largest values.
    void make_largest(int16_t key) {
        const std::vector<int16_t> k(head_dim, key), v(head_dim, key > 0 ? int16_t{4095} : int16_t{-4095});
        for (auto& block : blocks) {
            for (uint32_t t = 0; t < kBlockTokens; ++t) {
                store_k_row(block.data(), head_dim, t, k.data(), 1.0F);
                store_v_row(block.data(), head_dim, t, v.data(), std::nextafter(2.0F, 0.0F));
            }
        }
        std::fill(q.begin(), q.end(), int16_t{32767});
        std::fill(cq.begin(), cq.end(), 0x1p-37F);  // scores of about 2
    }

    // Rows that left the contract's range count as zero.
    std::vector<float> run(const Kernels& kernels) const {
        std::vector<float> out(q.size());
        std::vector<AttentionRow> rows;
        for (size_t r = 0; r < cq.size(); ++r) {
            rows.push_back({&q[r * head_dim], cq[r], visible[r], &out[r * head_dim], false});
        }
        kernels.attention({head_dim, pointers.data(), rows.data(), static_cast<uint32_t>(rows.size())});
        for (size_t r = 0; r < rows.size(); ++r) {
            if (!rows[r].finite) std::fill_n(rows[r].out, head_dim, 0.0F);
        }
        return out;
    }
};

void check_attention(Report& report, const Kernels& k, const Kernels& reference) {
    report.kernel("attention", [&](Line& line) {
        TestRandom random(9);
        const auto same = [&](uint32_t dim, uint32_t tokens, uint32_t rows, uint32_t style, bool hostile) {
            const Heads heads(random, dim, tokens, rows, style, hostile);
            expect_same(line, heads.run(k), heads.run(reference),
                        text_of("head_dim %u, %u keys, %u rows, style %u%s", dim, tokens, rows, style,
                                hostile ? ", hostile" : ""));
        };
        for (const uint32_t dim : {2U, 6U, 16U, 26U, 64U, 80U, 96U, 128U, 130U, 256U}) {
            for (const uint32_t rows : {1U, 3U, 4U, 8U, 16U}) same(dim, 150, rows, 0, false);
        }
        for (uint32_t tokens = 1; tokens <= 200; tokens += 3) same(16, tokens, 1 + tokens % 6, 0, false);
        for (uint32_t style = 0; style <= kStyles; ++style) same(32, 140, 4, style, false);
        for (int repeat = 0; repeat < 10; ++repeat) same(64, 130, 4, 0, true);
        for (const int16_t key : {int16_t{32767}, int16_t{-32767}}) {
            Heads largest(random, 256, 128, 5, 0, false);
            largest.make_largest(key);
            expect_same(line, largest.run(k), largest.run(reference), text_of("largest numbers, keys of %d", key));
        }
        const Heads heads(random, 64, 1024, 4, 0, false);
        line.unit = "products/ns, 4 rows of 1024 keys";
        line.speed = per_ns(2.0 * 4 * 64 * 1024, [&] { heads.run(k); });
    });
}

// ---- the machine

// The value of the first line of /proc/cpuinfo that begins so.
std::string cpu_info(const std::string& key) {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.rfind(key, 0) != 0) continue;
        const size_t colon = line.find(": ");
        return colon == std::string::npos ? "" : line.substr(colon + 2);
    }
    return "";
}

// Of the processor's many features those that some kernel has a use for.
std::string known_features() {
    std::istringstream all(cpu_info("flags") + " " + cpu_info("Features"));
    std::string known;
    for (std::string word; all >> word;) {
        for (const char* want : {"avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512dq", "avx512vl",
                                 "avx512_vnni", "amx_tile", "amx_int8", "asimd", "asimddp", "i8mm", "sve"}) {
            if (word == want) known += (known.empty() ? "" : " ") + word;
        }
    }
    return known;
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
    return out + "\"";
}

void print_json(const Report& report, const std::string& processor, const std::string& machine, uint32_t failed) {
    std::printf("{\"processor\": %s, \"machine\": %s, \"features\": %s, \"compiler\": %s,\n \"tables\": [",
                quoted(processor).c_str(), quoted(machine).c_str(), quoted(known_features()).c_str(),
                quoted(__VERSION__).c_str());
    const char* comma = "";
    for (const KernelTable& table : kernel_tables()) {
        std::printf("%s{\"name\": %s, \"available\": %s, \"needs\": %s}", comma, quoted(table.kernels->name).c_str(),
                    table.available ? "true" : "false", quoted(table.needs).c_str());
        comma = ", ";
    }
    std::printf("],\n \"kernels\": [");
    comma = "";
    for (const Line& line : report.lines) {
        std::printf(
            "%s\n  {\"table\": %s, \"kernel\": %s, \"cases\": %u, \"failed\": %u, \"first_failure\": %s, "
            "\"speed\": %.3f, \"unit\": %s}",
            comma, quoted(line.table).c_str(), quoted(line.kernel).c_str(), line.cases, line.failed,
            quoted(line.first_failure).c_str(), line.speed, quoted(line.unit).c_str());
        comma = ",";
    }
    std::printf("],\n \"same_bits\": %s}\n", failed == 0 ? "true" : "false");
}

int check_all(bool json) {
    const FpEnvironment environment;
    utsname system{};
    uname(&system);
    const std::string processor = cpu_info("model name").empty() ? "unnamed" : cpu_info("model name");
    const std::string machine = std::string(system.machine) + ", " + system.sysname + " " + system.release;
    if (!json) {
        std::printf("processor  %s\nmachine    %s\nfeatures   %s\ncompiler   %s\n", processor.c_str(), machine.c_str(),
                    known_features().c_str(), __VERSION__);
    }
    Report report;
    report.json = json;
    const Kernels& reference = reference::kernels();
    const Kernels* above = nullptr;  // the table before: what a table has from it is checked there alone
    const auto tables = kernel_tables();
    for (auto table = tables.rbegin(); table != tables.rend(); ++table) {
        if (!json)
            std::printf("table %-10s %s: %s\n", table->kernels->name, table->available ? "runs" : "--", table->needs);
        if (!table->available || table->kernels == &reference) continue;
        Kernels own = *table->kernels;
        report.table = own.name;
        const bool shares = above != nullptr && own.attention == above->attention;
        if (!shares) {
            check_norm(report, own, reference);
            check_quantise(report, own, reference);
            check_elementwise(report, own, reference);
            check_embed(report, own, reference);
            check_attention(report, own, reference);
        }
        for (uint32_t i = 0; shares && i < kWeightTypes; ++i) {
            for (uint32_t kind = 0; kind < kActivationKinds; ++kind) {
                if (own.linear[i][kind] == above->linear[i][kind]) own.linear[i][kind] = nullptr;
            }
        }
        check_linear(report, own, reference);
        above = table->kernels;
    }
    uint32_t cases = 0, failed = 0;
    for (const Line& line : report.lines) cases += line.cases, failed += line.failed;
    if (json) {
        print_json(report, processor, machine, failed);
    } else {
        std::printf("%s: %u of %u cases differ from the reference\n", failed == 0 ? "same bits" : "DIFFERENT", failed,
                    cases);
    }
    return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace driftwood::compute

int main(int argc, char** argv) {
    const bool json = argc == 2 && std::strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json) {
        std::fprintf(stderr, "usage: isa_check [--json]\n");
        return 2;
    }
    return driftwood::compute::check_all(json);
}
