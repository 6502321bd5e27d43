// Node: one process's runtime, model, engine and device, and the actors that live on them.
// Threads: one at a time (the engine's submitting thread). Lifetime: clock and entropy outlive the node; the node
// outlives its LiveActors.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actor/actor.h"
#include "base/ports.h"
#include "compute/device.h"
#include "compute/engine.h"
#include "model/model.h"
#include "session/block_table.h"
#include "wasm/instance.h"

namespace driftwood::node {

// An eighth of the engine's KV blocks, at most 1 GiB.
inline constexpr uint64_t kPrefixBytesAuto = UINT64_MAX;

struct NodeOptions {
    std::string model = "demo";         // a file, or "demo" for the built-in one
    std::string engine = "auto";        // a name of compute::engines(), or "auto"
    std::string device = "cpu";         // for the guests' tensors: a name of compute::make_device
    uint32_t threads = 0;               // 0: the cores this process may use
    wasm::InstanceLimits limits;        // of every guest; turn_fuel other than 0 makes the runtime count fuel
    std::string module_cache = "auto";  // a directory for compiled guests; "auto": the user's own; "off"
    // Bits of the model's activations; nullopt: what its file asks for.
    std::optional<compute::ActivationBits> activations = std::nullopt;
    // Where the processor reads a model file's weights.
    model::WeightsOptions weights = {};
    // Actors of one module share the beginnings of their conversations; this much memory keeps those that no
    // conversation holds. nullopt: each computes its own.
    std::optional<uint64_t> prefix_bytes = kPrefixBytesAuto;
};

// An actor and the module it runs.
struct LiveActor {
    std::unique_ptr<wasm::Module> module;
    std::unique_ptr<actor::Actor> actor;

    LiveActor() = default;
    LiveActor(LiveActor&&) = default;
    LiveActor& operator=(LiveActor&& other) noexcept {
        actor = std::move(other.actor);  // the instance goes before its module
        module = std::move(other.module);
        return *this;
    }
    ~LiveActor() { actor.reset(); }
};

// What a thaw did and how long each part took, in nanoseconds of a monotonic clock.
struct ThawReport {
    std::optional<std::string>
        imported;  // how ("reflinked", "copied"), when the file could not be mapped where it lies
    int64_t import_ns = 0;
    int64_t open_ns = 0;     // header and root hash checked
    int64_t verify_ns = 0;   // module, linear memory and states checked
    int64_t compile_ns = 0;  // the guest's module compiled, or its code read from the cache
    bool module_from_cache = false;
    int64_t map_ns = 0;  // instance made, memory and KV mapped
    uint32_t tokens_reused = 0;
    uint32_t tokens_again = 0;
    actor::ImageSummary summary;
};

class Node {
  public:
    static Result<std::unique_ptr<Node>> create(const NodeOptions& options, Clock& clock, Entropy& entropy);
    ~Node();

    // A newborn actor from a guest's bytes.
    Result<LiveActor> spawn(std::vector<uint8_t> guest, wasm::WasiOptions wasi);
    // The same in two steps, for many actors of one module, which outlives them.
    Result<std::unique_ptr<wasm::Module>> compile(std::vector<uint8_t> guest);
    Result<std::unique_ptr<actor::Actor>> spawn(const wasm::Module& module, wasm::WasiOptions wasi);

    // The actor of an image, with the module stored in it. A file that others could change is imported into a private
    // directory first. `require_same_model`: refuse (kMismatch, naming the recorded model) when the image's compute
    // identity is not this node's model's; else the conversation is prefilled again under this model.
    struct Thawed {
        LiveActor live;
        ThawReport report;
        std::shared_ptr<const file::SectionReader> image;
    };
    Result<Thawed> thaw(const std::string& path, bool require_same_model);
    // The actor of an image that this process wrote, of that module, which outlives it.
    Result<std::unique_ptr<actor::Actor>> thaw(const wasm::Module& module, const std::string& path);

    const model::Model& model() const { return *model_; }
    compute::Engine& engine() { return *engine_; }
    compute::Device& device() { return *device_; }
    session::BlockRefs& blocks() { return *blocks_; }
    wasm::Runtime& runtime() { return *runtime_; }

  private:
    Node(const NodeOptions& options, Clock& clock, Entropy& entropy);
    actor::Context context();

    NodeOptions options_;
    Clock& clock_;
    Entropy& entropy_;
    std::unique_ptr<wasm::Runtime> runtime_;
    std::unique_ptr<model::Model> model_;
    std::unique_ptr<compute::Engine> engine_;
    std::unique_ptr<session::BlockRefs> blocks_;
    std::unique_ptr<compute::Device> device_;
};

// The model of that name: a file, or the built-in one.
Result<std::unique_ptr<model::Model>> load_model(const std::string& name,
                                                 std::optional<compute::ActivationBits> activations = std::nullopt);

// compute::make_engine for that model, whose weights are placed (Model::place_weights) if the engine reads them in
// place. Nobody reads them meanwhile.
Result<std::unique_ptr<compute::Engine>> make_engine(model::Model& model, const std::string& name,
                                                     const compute::EngineOptions& options,
                                                     const model::WeightsOptions& weights);

}  // namespace driftwood::node
