#include "node/node.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "compute/cpu/thread_pool.h"
#include "file/fd.h"
#include "file/private_file.h"
#include "node/builtin.h"
#include "node/stopwatch.h"

namespace driftwood::node {
namespace {

std::string import_directory() {
    const char* runtime = std::getenv("XDG_RUNTIME_DIR");
    const char* home = std::getenv("HOME");
    if (runtime != nullptr && *runtime != 0) return std::string(runtime) + "/driftwood-import";
    if (home != nullptr && *home != 0) return std::string(home) + "/.cache/driftwood/import";
    std::error_code none;
    const auto temporary = std::filesystem::temp_directory_path(none);
    return (none ? std::filesystem::path("/tmp") : temporary).string() + "/driftwood-import";
}

// Where compiled guests are kept; empty: nowhere. A relative XDG_CACHE_HOME is to be ignored, its specification says.
std::string module_cache(const std::string& option) {
    if (option == "off") return {};
    if (option != "auto") return option;
    const char* cache = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    if (cache != nullptr && *cache == '/') return std::string(cache) + "/driftwood/modules";
    if (home != nullptr && *home == '/') return std::string(home) + "/.cache/driftwood/modules";
    return {};
}

// The blocks that keep beginnings of conversations which nobody holds.
std::optional<uint32_t> idle_prefixes(const std::optional<uint64_t>& bytes, const compute::KvPool& pool) {
    if (!bytes) return std::nullopt;
    constexpr uint64_t kMost = uint64_t{1} << 30;
    const uint64_t blocks = (*bytes == kPrefixBytesAuto ? kMost : *bytes) / pool.layout().block_bytes();
    const uint32_t most = *bytes == kPrefixBytesAuto ? pool.capacity() / 8 : pool.capacity();
    return static_cast<uint32_t>(std::min<uint64_t>(blocks, most));
}

struct OpenImage {
    std::shared_ptr<const file::SectionReader> reader;
    std::optional<std::string> imported;
    int64_t import_ns = 0;
    int64_t open_ns = 0;
};

// Opens an image where it lies if nobody else can change it, else a private copy of it. The copy's name goes at once:
// the open file keeps its bytes.
Result<OpenImage> open_image(const std::string& path) {
    OpenImage open;
    Stopwatch watch;
    std::string mapped = path;
    std::error_code ignored;  // whatever is wrong with the path, opening it says so
    const bool import = std::filesystem::is_regular_file(path, ignored) && !file::is_committed_by_us(path);
    if (import) {
        // Down to the parent as usual; the directory itself is made private by the import, which says what is wrong.
        std::filesystem::create_directories(std::filesystem::path(import_directory()).parent_path(), ignored);
        DW_ASSIGN(const file::Imported copy, file::import_file(path, import_directory()));
        open.imported = std::string(file::import_method_name(copy.method));
        mapped = copy.path;
    }
    open.import_ns = watch.lap_ns();
    auto reader = file::SectionReader::open(mapped, file::SectionReader::Hashes::kRequired);
    if (import) std::filesystem::remove(mapped, ignored);
    if (!reader.ok()) {
        Error failure = std::move(reader).error();  // about the file that was named, not about its copy
        if (const size_t at = failure.message.find(mapped); at != std::string::npos)
            failure.message.replace(at, mapped.size(), path);
        return failure;
    }
    open.reader = std::make_shared<const file::SectionReader>(*std::move(reader));
    open.open_ns = watch.lap_ns();
    return open;
}

}  // namespace

Result<std::unique_ptr<model::Model>> load_model(const std::string& name,
                                                 std::optional<compute::ActivationBits> activations) {
    if (name == kDemoModel) return model::load_gguf("demo", demo_model_gguf(), activations);
    return model::load_model(name, activations);
}

Result<std::unique_ptr<compute::Engine>> make_engine(model::Model& model, const std::string& name,
                                                     const compute::EngineOptions& options,
                                                     const model::WeightsOptions& weights) {
    DW_ASSIGN(auto engine, compute::make_engine(name, model.spec(), options));
    if (!engine->reads_weights_in_place()) return engine;
    DW_ASSIGN(const bool copied, model.place_weights(weights));
    if (!copied) return engine;
    // Its KV blocks counted on the memory that the copy has taken.
    engine.reset();
    return compute::make_engine(name, model.spec(), options);
}

Node::Node(const NodeOptions& options, Clock& clock, Entropy& entropy)
    : options_(options), clock_(clock), entropy_(entropy) {}

Node::~Node() = default;

Result<std::unique_ptr<Node>> Node::create(const NodeOptions& options, Clock& clock, Entropy& entropy) {
    std::unique_ptr<Node> node(new Node(options, clock, entropy));
    DW_ASSIGN(node->runtime_, wasm::Runtime::create({.fuel = options.limits.turn_fuel != 0,
                                                     .module_cache = module_cache(options.module_cache)}));
    DW_ASSIGN(node->model_, load_model(options.model, options.activations));
    DW_ASSIGN(node->engine_, make_engine(*node->model_, options.engine, {.threads = options.threads}, options.weights));
    node->blocks_ = std::make_unique<session::BlockRefs>(
        node->engine_->pool(), options.threads != 0 ? options.threads : compute::available_cores(),
        idle_prefixes(options.prefix_bytes, node->engine_->pool()));
    DW_ASSIGN(node->device_, compute::make_device(options.device, options.threads));
    return node;
}

actor::Context Node::context() {
    return {.model = *model_,
            .engine = *engine_,
            .blocks = *blocks_,
            .device = *device_,
            .clock = clock_,
            .entropy = entropy_};
}

Result<std::unique_ptr<wasm::Module>> Node::compile(std::vector<uint8_t> guest) {
    return wasm::Module::compile(*runtime_, std::move(guest));
}

Result<std::unique_ptr<actor::Actor>> Node::spawn(const wasm::Module& module, wasm::WasiOptions wasi) {
    return actor::Actor::create(context(), module, {.limits = options_.limits, .wasi = std::move(wasi)});
}

Result<LiveActor> Node::spawn(std::vector<uint8_t> guest, wasm::WasiOptions wasi) {
    LiveActor live;
    DW_ASSIGN(live.module, compile(std::move(guest)));
    DW_ASSIGN(live.actor, spawn(*live.module, std::move(wasi)));
    return live;
}

Result<std::unique_ptr<actor::Actor>> Node::thaw(const wasm::Module& module, const std::string& path) {
    DW_ASSIGN(OpenImage open, open_image(path));
    DW_ASSIGN(auto restored,
              actor::Actor::thaw(context(), module, {.limits = options_.limits, .wasi = {}}, open.reader));
    return std::move(restored.actor);
}

Result<Node::Thawed> Node::thaw(const std::string& path, bool require_same_model) {
    Thawed thawed;
    DW_ASSIGN(OpenImage open, open_image(path));
    thawed.image = open.reader;
    thawed.report.imported = open.imported;
    thawed.report.import_ns = open.import_ns;
    thawed.report.open_ns = open.open_ns;
    DW_ASSIGN(thawed.report.summary, actor::summarize(*open.reader));

    const std::string ours = file::to_hex(model_->compute_identity());
    const actor::ImageSummary& recorded = thawed.report.summary;
    if (require_same_model && recorded.compute_identity != ours) {
        const bool same_bits = recorded.activation_bits == compute::bits_of(model_->spec().activation_bits);
        const std::string bits = "--activations " + std::to_string(recorded.activation_bits);
        std::string fix = "name its model with --model FILE";
        if (!same_bits) fix = recorded.model_name == model_->name() ? "add " + bits : fix + " and add " + bits;
        return error(ErrorCode::kMismatch, "[thaw] " + path + ": the conversation was held with model '" +
                                               recorded.model_name + "' (compute identity " +
                                               recorded.compute_identity + "), this is '" + model_->name() + "' (" +
                                               ours + "): " + fix);
    }
    Stopwatch watch;
    DW_TRY(actor::verify_guest(*open.reader));
    thawed.report.verify_ns = watch.lap_ns();
    DW_ASSIGN(const auto guest, open.reader->read("actor.module", file::DType::kU8));
    DW_ASSIGN(thawed.live.module, wasm::Module::compile(*runtime_, {guest.begin(), guest.end()}));
    thawed.report.compile_ns = watch.lap_ns();
    thawed.report.module_from_cache = thawed.live.module->compile_report().from_cache;
    DW_ASSIGN(auto restored,
              actor::Actor::thaw(context(), *thawed.live.module, {.limits = options_.limits, .wasi = {}}, open.reader));
    thawed.report.map_ns = watch.lap_ns();
    thawed.report.tokens_reused = restored.tokens_reused;
    thawed.report.tokens_again = restored.tokens_again;
    thawed.live.actor = std::move(restored.actor);
    return thawed;
}

}  // namespace driftwood::node
