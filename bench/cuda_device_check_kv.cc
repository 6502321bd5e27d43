// KV blocks between card and host: speed beside the bus's, recycled blocks, more conversations than the card holds,
// memory that ends, and a card that fails.
#include <cuda_runtime_api.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "bench/cuda_device_check.h"
#include "compute/cuda/device.h"
#include "compute/cuda/kv_card.h"
#include "compute/engine.h"
#include "compute/test_spec.h"

namespace driftwood::compute {
namespace {

constexpr KvLayout kLlama1B = {.layers = 16, .kv_heads = 8, .head_dim = 64};

void must(cudaError_t code, const char* what) { cuda::check(what, code).value(); }

double seconds_of(const std::function<void()>& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median_of(int times, const std::function<double()>& measure) {
    std::vector<double> all;
    for (int i = 0; i < times; ++i) all.push_back(measure());
    std::sort(all.begin(), all.end());
    return all[all.size() / 2];
}

struct Bus {
    double to_card, to_host;  // bytes per second
};
Bus measure_bus(const cuda::Stream& stream) {
    constexpr size_t kBytes = size_t{512} << 20;
    cuda::PinnedBytes host;
    cuda::DeviceBytes card;
    host.hold(kBytes).value();
    card.hold(kBytes).value();
    const auto speed = [&](void* to, const void* from, cudaMemcpyKind kind) {
        const auto copy = [&] {
            must(cudaMemcpyAsync(to, from, kBytes, kind, stream.get()), "copy");
            stream.wait().value();
        };
        copy();
        return kBytes / median_of(5, [&] { return seconds_of(copy); });
    };
    return {speed(card.as<void>(), host.as<void>(), cudaMemcpyHostToDevice),
            speed(host.as<void>(), card.as<void>(), cudaMemcpyDeviceToHost)};
}

// What a step of the engine does with blocks, without the engine.
struct Steps {
    PagedKvPool& pool;
    const cuda::Stream& stream;
    size_t bytes = pool.layout().block_bytes();

    void touch(std::span<const BlockId> blocks, int value) {
        pool.begin_step();
        pool.bring(blocks).value();
        for (const BlockId block : blocks) {
            uint8_t* at = pool.on_card(block, PagedKvPool::Use::kWrite);
            must(cudaMemsetAsync(at, value, bytes, stream.get()), "write a block");
        }
        stream.wait().value();
        pool.waited();
    }
    double bring_seconds(std::span<const BlockId> blocks) {
        return seconds_of([&] {
            pool.begin_step();
            pool.bring(blocks).value();
            stream.wait().value();
            pool.waited();
        });
    }
};

std::vector<BlockId> allocate(PagedKvPool& pool, uint32_t count) {
    std::vector<BlockId> blocks;
    for (uint32_t i = 0; i < count; ++i) blocks.push_back(pool.allocate().value());
    return blocks;
}

bool all_are(std::span<const uint8_t> bytes, uint8_t value) {
    return std::ranges::all_of(bytes, [value](uint8_t b) { return b == value; });
}

void show_speed(const char* what, double bytes, double seconds, double bus, bool& fast) {
    const double share = bytes / seconds / bus;
    if (bus > 0) fast &= share >= 0.8;
    std::printf("  %-60s %6.1f GB/s", what, bytes / seconds * 1e-9);
    if (bus > 0) std::printf(", %5.1f %% of the bus's speed", share * 100);
    std::printf("\n");
}

void show_file_speed(Steps& steps, uint32_t count) {
    char path[] = "/tmp/cuda_device_check_XXXXXX";
    const int fd = mkstemp(path);
    unlink(path);
    const std::vector<uint8_t> bytes(steps.bytes, 3);
    for (uint32_t i = 0; i < count; ++i) {
        if (write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
            check_failed("no room for a file");
    }
    const std::vector<BlockId> blocks = steps.pool.adopt(fd, 0, count).value();
    bool ignored = true;
    const double all = static_cast<double>(count) * static_cast<double>(steps.bytes);
    show_speed("from a file in the page cache to the card", all, steps.bring_seconds(blocks), 0, ignored);
    for (const BlockId block : blocks) steps.pool.release(block);
    close(fd);
    const std::vector<BlockId> fresh = allocate(steps.pool, count);
    steps.touch(fresh, 4);
    const double seconds = seconds_of([&] {
        for (const BlockId block : fresh) steps.pool.bytes(block);
    });
    show_speed("from the card into memory that was not touched yet (freeze)", all, seconds, 0, ignored);
    for (const BlockId block : fresh) steps.pool.release(block);
}

bool check_poison(Steps& steps) {
    std::vector<BlockId> blocks = allocate(steps.pool, 40);
    steps.touch(blocks, 0xA5);
    for (const BlockId block : blocks) steps.pool.release(block);
    blocks = allocate(steps.pool, 40);
    steps.pool.begin_step();
    steps.pool.bring(blocks).value();
    bool clean = true;
    std::vector<uint8_t> seen(steps.bytes);
    for (const BlockId block : blocks) {
        const uint8_t* at = steps.pool.on_card(block, PagedKvPool::Use::kRead);
        must(cudaMemcpyAsync(seen.data(), at, seen.size(), cudaMemcpyDeviceToHost, steps.stream.get()), "read a block");
        steps.stream.wait().value();
        clean &= all_are(seen, 0) && all_are(steps.pool.bytes(block), 0);
    }
    for (const BlockId block : blocks) steps.pool.release(block);
    std::printf("  40 blocks full of 0xA5, released and given out again: %s\n", clean ? "all zeros" : "NOT ZERO");
    return clean;
}

}  // namespace

bool check_kv_speed() {
    constexpr uint32_t kCount = 192;
    const auto stream = cuda::Stream::create().value();
    const Bus bus = measure_bus(stream);
    ThreadPool threads(available_cores(), [] {});
    auto pool = cuda::make_kv_pool(kLlama1B, kCount, 4 * kCount, stream, threads).value();
    Steps steps{*pool, stream};
    std::printf("KV blocks of %zu bytes; the bus: %.1f GB/s to the card, %.1f GB/s to the host (512 MB, pinned)\n",
                steps.bytes, bus.to_card * 1e-9, bus.to_host * 1e-9);
    bool right = check_poison(steps);
    const std::vector<BlockId> a = allocate(*pool, kCount), b = allocate(*pool, kCount);
    steps.touch(a, 1);
    steps.touch(b, 2);  // pinned memory is there by now
    steps.touch(a, 1);
    const double bytes = static_cast<double>(kCount) * static_cast<double>(steps.bytes);
    // Fresh blocks are zeros, so they move nothing: one way at a time.
    std::vector<double> in, out, both;
    for (int round = 0; round < 5; ++round) {
        const std::vector<BlockId> fresh = allocate(*pool, kCount);
        out.push_back(steps.bring_seconds(fresh));  // a leaves
        in.push_back(steps.bring_seconds(a));       // fresh ones are dropped
        for (const BlockId block : fresh) pool->release(block);
        both.push_back(steps.bring_seconds(b));
        steps.touch(b, 2);
        both.push_back(steps.bring_seconds(a));
        steps.touch(a, 1);
    }
    for (auto* times : {&in, &out, &both}) std::sort(times->begin(), times->end());
    bool fast = true;
    show_speed("pinned host memory to the card", bytes, in[in.size() / 2], bus.to_card, fast);
    show_speed("card to pinned host memory", bytes, out[out.size() / 2], bus.to_host, fast);
    const double mean = 2 / (1 / bus.to_card + 1 / bus.to_host);
    show_speed("conversations changing places (both, in turns)", 2 * bytes, both[both.size() / 2], mean, fast);
    right &= all_are(pool->bytes(a[7]), 1) && all_are(pool->bytes(b[9]), 2);
    for (const BlockId block : a) pool->release(block);
    for (const BlockId block : b) pool->release(block);
    show_file_speed(steps, 64);
    std::printf("  at least 80 %% of the bus: %s; bytes %s\n", fast ? "yes" : "NO", right ? "as written" : "WRONG");
    return right && fast;
}

namespace {

struct Talk {
    std::vector<BlockId> blocks;
    std::vector<uint32_t> tokens;
    uint32_t computed = 0;
    std::vector<float> logits;

    BatchItem next(Engine& engine, uint32_t count) {
        while (blocks.size() * kBlockTokens < computed + count) blocks.push_back(engine.pool().allocate().value());
        logits.resize(engine.spec().vocab);
        BatchItem item{.tokens = std::span(tokens).subspan(computed, count),
                       .first_position = computed,
                       .blocks = blocks,
                       .logits = logits,
                       .error = {}};
        computed += count;
        return item;
    }
};

constexpr TestShape kSmall = {.layers = 2,
                              .d_model = 256,
                              .heads = 8,
                              .kv_heads = 2,
                              .head_dim = 64,
                              .d_ff = 512,
                              .vocab = 1000,
                              .context = 4096};

// Random prompts of 100 to 500 tokens.
std::vector<Talk> talks(uint32_t count) {
    std::vector<Talk> all(count);
    TestRandom random(5);
    for (Talk& talk : all) {
        talk.tokens.resize(100 + random.below(400) + 40);
        for (uint32_t& token : talk.tokens) token = random.below(kSmall.vocab);
    }
    return all;
}

// Everybody's prompt alone, then steps in which all or some of them go on.
void hold_talks(Engine& engine, std::vector<Talk>& all, uint32_t& failed) {
    const auto run = [&](std::vector<BatchItem>& batch) {
        engine.step(batch);
        for (const BatchItem& item : batch) failed += item.error ? 1 : 0;
    };
    for (Talk& talk : all) {
        std::vector<BatchItem> batch = {talk.next(engine, static_cast<uint32_t>(talk.tokens.size()) - 40)};
        run(batch);
    }
    for (uint32_t round = 0; round < 40; ++round) {
        std::vector<BatchItem> batch;
        for (size_t i = 0; i < all.size(); ++i) {
            if (round % 2 == 0 || i % 5 == round % 5) batch.push_back(all[i].next(engine, 1));
        }
        run(batch);
    }
}

std::string host_engine() {
    for (const EngineInfo& info : engines()) {
        if (info.available && info.name != "cuda") return std::string(info.name);
    }
    return "reference";
}

}  // namespace

bool check_kv_sessions() {
    constexpr uint32_t kCount = 48, kOnCard = 24;
    const TestModel model = make_test_model(kSmall, 3);
    auto cuda = make_engine("cuda", model.spec, {.kv_blocks = kOnCard, .kv_host_blocks = 400}).value();
    auto host = make_engine(host_engine(), model.spec, {.kv_blocks = 600}).value();
    std::vector<Talk> got = talks(kCount), want = talks(kCount);
    uint32_t failed = 0;
    hold_talks(*cuda, got, failed);
    hold_talks(*host, want, failed);
    size_t wrong = 0, tokens = 0;
    for (uint32_t i = 0; i < kCount; ++i) {
        tokens += got[i].computed;
        wrong += got[i].logits != want[i].logits ? 1 : 0;
        for (size_t b = 0; b < got[i].blocks.size(); ++b) {
            const auto x = cuda->pool().bytes(got[i].blocks[b]);
            wrong += std::ranges::equal(x, host->pool().bytes(want[i].blocks[b])) ? 0 : 1;
        }
    }
    auto& pool = dynamic_cast<PagedKvPool&>(cuda->pool());
    const uint32_t used = pool.blocks_in_use();
    const bool lean = used <= tokens / kBlockTokens + kCount;
    std::printf(
        "%u conversations, %u blocks, in steps of 1 to %u of them, on a card with room for %u blocks: %llu to the "
        "host, "
        "%llu back; %zu conversations or blocks differ from '%s', %u items failed; wasted at most one block each: %s\n",
        kCount, used, kCount, kOnCard, static_cast<unsigned long long>(pool.traffic().blocks_to_host),
        static_cast<unsigned long long>(pool.traffic().blocks_to_card), wrong, std::string(host->name()).c_str(),
        failed, lean ? "yes" : "NO");
    // One that is too long for the card is that one's error.
    std::vector<Talk> two = talks(2);
    two[0].tokens.assign(kSmall.context, 7);
    for (uint32_t at = 0; at < kOnCard * kBlockTokens; at += 256) {
        std::vector<BatchItem> batch = {two[0].next(*cuda, 256)};
        cuda->step(batch);
        failed += batch[0].error ? 1 : 0;
    }
    std::vector<BatchItem> batch = {two[0].next(*cuda, 1), two[1].next(*cuda, 50)};
    cuda->step(batch);
    const bool alone = batch[0].error && batch[0].error->code == ErrorCode::kLimit && !batch[1].error;
    std::printf("  longer than the card: %s\n", batch[0].error ? batch[0].error->message.c_str() : "NO ERROR");
    return wrong == 0 && failed == 0 && lean && alone;
}

bool check_kv_shared() {
    constexpr uint32_t kCount = 20, kCommon = 512, kOwn = 90, kOnCard = 24;
    const TestModel model = make_test_model(kSmall, 3);
    auto cuda = make_engine("cuda", model.spec, {.kv_blocks = kOnCard, .kv_host_blocks = 100}).value();
    auto host = make_engine(host_engine(), model.spec, {.kv_blocks = 400}).value();
    std::vector<Talk> got(kCount), want(kCount);
    TestRandom random(6);
    for (uint32_t i = 0; i < kCount; ++i) {
        got[i].tokens.resize(kCommon + kOwn);
        for (uint32_t& token : got[i].tokens) token = random.below(kSmall.vocab);
        std::copy_n(got[0].tokens.begin(), kCommon, got[i].tokens.begin());
        want[i].tokens = got[i].tokens;
    }
    uint32_t failed = 0;
    const auto run = [&](Engine& engine, std::vector<Talk>& talks, uint32_t tokens) {
        std::vector<BatchItem> batch;
        for (Talk& talk : talks) batch.push_back(talk.next(engine, tokens));
        engine.step(batch);
        for (const BatchItem& item : batch) failed += item.error ? 1 : 0;
    };
    // The first computes the beginning; the others' tables begin with its blocks, and nobody writes them again.
    std::vector<BatchItem> first = {got[0].next(*cuda, kCommon)};
    cuda->step(first);
    for (Talk& talk : std::span(got).subspan(1)) {
        talk.blocks = got[0].blocks;
        talk.computed = kCommon;
    }
    run(*host, want, kCommon);
    for (const uint32_t tokens : {70U, 1U, 1U, 18U}) {
        run(*cuda, got, tokens);
        run(*host, want, tokens);
    }
    size_t wrong = 0;
    for (uint32_t i = 0; i < kCount; ++i) {
        wrong += got[i].logits != want[i].logits ? 1 : 0;
        for (size_t b = 0; b < got[i].blocks.size(); ++b) {
            const auto x = cuda->pool().bytes(got[i].blocks[b]);
            wrong += std::ranges::equal(x, host->pool().bytes(want[i].blocks[b])) ? 0 : 1;
        }
    }
    const uint32_t used = cuda->pool().blocks_in_use(), apart = host->pool().blocks_in_use();
    const auto& traffic = dynamic_cast<PagedKvPool&>(cuda->pool()).traffic();
    std::printf(
        "%u conversations that share the blocks of their first %u tokens, on a card with room for %u blocks: %u blocks "
        "in place of %u, %llu to the host, %llu back; %zu conversations or blocks differ from '%s', which shares "
        "nothing, %u items failed\n",
        kCount, kCommon, kOnCard, used, apart, static_cast<unsigned long long>(traffic.blocks_to_host),
        static_cast<unsigned long long>(traffic.blocks_to_card), wrong, std::string(host->name()).c_str(), failed);
    return wrong == 0 && failed == 0 && used == kCommon / kBlockTokens + 2 * kCount && traffic.blocks_to_host > 0;
}

bool check_out_of_memory() {
    TestShape wide = kSmall;
    wide.vocab = 64000;
    const TestModel model = make_test_model(wide, 3);
    auto engine = make_engine("cuda", model.spec, {.kv_blocks = 256, .kv_host_blocks = 64}).value();
    for (const MemoryPart& part : engine->memory()) {
        std::printf("  plan: %-22s %14llu bytes  %s\n", part.what.c_str(), static_cast<unsigned long long>(part.bytes),
                    part.why.c_str());
    }
    // Somebody takes all that is left: a step that needs larger buffers fails, one that does not goes on.
    std::vector<Talk> all = talks(200);
    for (const uint32_t tokens : {10U, 1U}) {
        std::vector<BatchItem> small = {all[0].next(*engine, tokens)};
        engine->step(small);
    }
    std::vector<void*> hog;
    for (size_t size = size_t{16} << 30; size >= (size_t{1} << 20); size /= 2) {
        void* at = nullptr;
        while (cudaMalloc(&at, size) == cudaSuccess) hog.push_back(at);
        cudaGetLastError();
    }
    auto second = make_engine("cuda", model.spec, {.kv_blocks = 64});
    std::vector<BatchItem> large;
    for (size_t i = 1; i < all.size(); ++i) large.push_back(all[i].next(*engine, 1));
    engine->step(large);
    const bool refused = large[0].error && large[0].error->code == ErrorCode::kLimit && !engine->failure();
    std::vector<BatchItem> again = {all[0].next(*engine, 1)};
    engine->step(again);
    for (void* at : hog) cudaFree(at);
    for (BatchItem& item : large) item.error.reset();
    engine->step(large);
    const bool back = !large[0].error && !again[0].error;
    std::printf(
        "memory of the card taken by others: a second engine: %s\n  a step of 199: %s\n  a step of one: %s; the 199 "
        "again when there is memory: %s\n",
        second.ok() ? "MADE" : second.error().message.c_str(),
        large[0].error || refused ? "kLimit, this step's alone" : "NO ERROR", again[0].error ? "FAILED" : "goes on",
        back ? "go on" : "FAILED");
    return refused && back && !second.ok();
}

bool check_fault() {
    const TestModel model = make_test_model(kSmall, 3);
    auto cuda = make_engine("cuda", model.spec, {.kv_blocks = 8, .kv_host_blocks = 64}).value();
    auto host = make_engine(host_engine(), model.spec, {.kv_blocks = 200}).value();
    auto device = cuda::CudaDevice::create().value();
    std::vector<Talk> before = talks(3), sound = talks(3);
    for (Talk& talk : before) {
        std::vector<BatchItem> batch = {talk.next(*cuda, 90)};
        cuda->step(batch);
    }
    // A kernel of this process that reads where nothing is. Whoever waits next for the card, learns of it.
    const auto stream = cuda::Stream::create().value();
    cuda::DeviceBytes some;
    some.hold(4096).value();
    must(cuda::copy_rows(stream.get(),
                         {reinterpret_cast<const uint8_t*>(uintptr_t{4096}), some.as<uint8_t>(), 1, 4096, 4096, 4096}),
         "launch");
    std::vector<BatchItem> batch = {before[0].next(*cuda, 1), before[1].next(*cuda, 1)};
    cuda->step(batch);
    const bool all_failed = batch[0].error && batch[1].error && cuda->failure();
    std::printf("a kernel that reads out of bounds: %s\n",
                all_failed ? batch[0].error->message.c_str() : "NOT NOTICED");
    memory::Region region = memory::Region::reserve(65536).value();
    region.grow(65536).value();
    const Rows rows{.kind = RowKind::kSilu, .rows = 1, .cols = 16, .ldx = 16, .ldout = 16};
    const auto on_device = device->rows(region, rows);
    const auto anew = make_engine("cuda", model.spec, {.kv_blocks = 8});
    const bool kv_lost = !cuda->pool().check_intact(before[0].blocks[0]).ok();
    // From their tokens, on the processor.
    size_t wrong = 0;
    for (uint32_t i = 0; i < 3; ++i) {
        Talk again{.blocks = {}, .tokens = before[i].tokens, .computed = 0, .logits = {}};
        std::vector<BatchItem> moved = {again.next(*host, 91)};
        host->step(moved);
        std::vector<BatchItem> first = {sound[i].next(*host, 90)};
        host->step(first);
        std::vector<BatchItem> last = {sound[i].next(*host, 1)};
        host->step(last);
        wrong += again.logits != sound[i].logits ? 1 : 0;
    }
    std::printf(
        "  tensor work: %s; a new engine: %s; KV of the card %s; 3 conversations went on with '%s' from their "
        "tokens, %zu differ from undisturbed ones\n",
        on_device.ok() ? "GOES ON" : "refused", anew.ok() ? "MADE" : "refused",
        kv_lost ? "is given up by name" : "IS TAKEN FOR GOOD", std::string(host->name()).c_str(), wrong);
    return all_failed && !on_device.ok() && !anew.ok() && kv_lost && wrong == 0;
}

}  // namespace driftwood::compute
