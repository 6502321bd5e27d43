// An instance into an image and back. The tensor `wasm.memory.0` is linear memory, borrowed on the way out and mapped
// on the way in. The record "WASM" holds the rest, in this order:
//
//   bytes  blake3 of the module     u32  ABI version     str  kDeterminismSettings     u64  bytes of memory
//   count  mutable globals: u8 kind (WASMTIME_I32…), u64 low bits, u64 high bits (0 but for v128)
//   count  tables (0 unless the module changes tables): count of elements: u32 1 + index of the function, 0 for null
//   count  arguments: str           count  environment: str           count  descriptors: u8 open, u32 flags
//   u8     exited                   i64    exit code
//
// Everything read here is hostile until it has been compared with the module.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "wasm/deps_buffer.h"
#include "wasm/instance_impl.h"
#include "wasm/limits.h"
#include "wasm/runtime_impl.h"

namespace driftwood::wasm {
namespace {

constexpr std::string_view kTag = "WASM";
constexpr uint32_t kVersion = 1;
constexpr std::string_view kMemoryTensor = "wasm.memory.0";
constexpr uint32_t kNull = 0;

struct Bits {
    uint64_t low = 0;
    uint64_t high = 0;
};

Bits bits_of(const wasmtime_val_t& value) {
    Bits bits;
    switch (value.kind) {
        case WASMTIME_I32: std::memcpy(&bits.low, &value.of.i32, sizeof(value.of.i32)); break;
        case WASMTIME_F32: std::memcpy(&bits.low, &value.of.f32, sizeof(value.of.f32)); break;
        case WASMTIME_I64: std::memcpy(&bits.low, &value.of.i64, sizeof(value.of.i64)); break;
        case WASMTIME_F64: std::memcpy(&bits.low, &value.of.f64, sizeof(value.of.f64)); break;
        case WASMTIME_V128: std::memcpy(static_cast<void*>(&bits), &value.of.v128, sizeof(value.of.v128)); break;
        default: CHECK(false);  // the module would have been refused
    }
    return bits;
}

size_t kind_bytes(wasmtime_valkind_t kind) {
    switch (kind) {
        case WASMTIME_I32:
        case WASMTIME_F32: return 4;
        case WASMTIME_I64:
        case WASMTIME_F64: return 8;
        default: return 16;
    }
}

// Whether no bit is set that a value of this kind does not have.
bool fits(const Bits& bits, wasmtime_valkind_t kind) {
    const size_t bytes = kind_bytes(kind);
    return (bytes == 16 || bits.high == 0) && (bytes != 4 || bits.low >> 32 == 0);
}

wasmtime_val_t value_of(const Bits& bits, wasmtime_valkind_t kind) {
    wasmtime_val_t value{};
    value.kind = kind;
    std::memcpy(&value.of, &bits, kind_bytes(kind));  // little-endian; every member starts the union
    return value;
}

Error corrupt(const std::string& problem) { return error(ErrorCode::kCorrupt, "[wasm.restore] " + problem); }

std::string want_got(const std::string& thing, uint64_t want, uint64_t got) {
    return thing + ": want " + std::to_string(want) + ", the image has " + std::to_string(got);
}

void save_strings(file::Encoder& state, const std::vector<std::string>& strings) {
    state.u64(strings.size());
    for (const std::string& string : strings) state.str(string);
}

Result<std::vector<std::string>> load_strings(file::Decoder& state) {
    DW_ASSIGN(const uint64_t count, state.count(sizeof(uint64_t)));
    std::vector<std::string> strings;
    for (uint64_t i = 0; i < count; i++) {
        DW_ASSIGN(strings.emplace_back(), state.str());
    }
    return strings;
}

}  // namespace

Result<void> InstanceImpl::save(file::SectionWriter& image, file::Encoder& state) const {
    CHECK(!running_);
    if (dead_) return error(dead_->code, "[wasm.save] the guest is dead: " + dead_->message);
    image.add(std::string(kMemoryTensor), file::DType::kU8, {memory_.region.size()}, {memory_.region.bytes()});
    image.add_check([this] { return memory_.region.check_intact(0, memory_.region.size()); });
    state.begin_record(kTag, kVersion);
    state.bytes(module_.facts().hash);
    state.u32(DRIFTWOOD_ABI_VERSION);
    state.str(kDeterminismSettings);
    state.u64(memory_.region.size());
    save_globals(state);
    DW_TRY(save_tables(state));
    save_wasi(state);
    state.end_record();
    return {};
}

void InstanceImpl::save_globals(file::Encoder& state) const {
    const auto& globals = module_.layout().globals;
    state.u64(globals.size());
    for (const IndexedExport& slot : globals) {
        const wasmtime_global_t global = state_export(slot.name, WASMTIME_EXTERN_GLOBAL).of.global;
        wasmtime_val_t value;
        wasmtime_global_get(context_, &global, &value);
        const Bits bits = bits_of(value);
        state.u8(value.kind);
        state.u64(bits.low);
        state.u64(bits.high);
    }
}

Result<void> InstanceImpl::save_tables(file::Encoder& state) const {
    const Rewritten& layout = module_.layout();
    state.u64(layout.mutates_tables ? layout.tables.size() : 0);
    if (!layout.mutates_tables) return {};
    // A function is known by the address of Wasmtime's descriptor of it, the same in a table and through an export.
    std::unordered_map<const void*, uint32_t> index_of;
    for (const IndexedExport& slot : layout.functions) {
        const wasmtime_func_t function = state_export(slot.name, WASMTIME_EXTERN_FUNC).of.func;
        index_of.emplace(wasmtime_func_to_raw(context_, &function), slot.index);
    }
    for (const IndexedExport& slot : layout.tables) {
        const wasmtime_table_t table = state_export(slot.name, WASMTIME_EXTERN_TABLE).of.table;
        const uint64_t size = wasmtime_table_size(context_, &table);
        state.u64(size);
        for (uint64_t i = 0; i < size; i++) {
            void* function = nullptr;
            Buffer message;
            if (dwd_table_get(context_, &table, i, &function, message.out()) != DWD_OK) {
                return error(ErrorCode::kInternal, "[wasm.save] " + message.text());
            }
            if (function == nullptr) {
                state.u32(kNull);
                continue;
            }
            const auto found = index_of.find(function);
            if (found == index_of.end()) {
                return error(ErrorCode::kInternal, "[wasm.save] table " + std::to_string(slot.index) + " element " +
                                                       std::to_string(i) + ": not a function of the module");
            }
            state.u32(found->second + 1);
        }
    }
    return {};
}

void InstanceImpl::save_wasi(file::Encoder& state) const {
    save_strings(state, guest_.wasi.args);
    save_strings(state, guest_.wasi.environment);
    state.u64(guest_.wasi.descriptors.size());
    for (const WasiState::Descriptor& descriptor : guest_.wasi.descriptors) {
        state.u8(descriptor.open ? 1 : 0);
        state.u32(descriptor.flags);
    }
    state.u8(guest_.exit_code ? 1 : 0);
    state.i64(guest_.exit_code.value_or(0));
}

Result<void> InstanceImpl::load(const file::SectionReader& image, file::Decoder& state) {
    DW_ASSIGN(auto record, state.record(kTag, kVersion));
    file::Decoder& body = record.second;
    DW_TRY(load_identity(body));
    DW_ASSIGN(const uint64_t memory_bytes, body.u64());
    DW_TRY(load_memory(image, memory_bytes));
    DW_TRY(load_globals(body));
    DW_TRY(load_tables(body));
    DW_TRY(load_wasi(body));
    return body.finish();
}

Result<void> InstanceImpl::load_identity(file::Decoder& state) const {
    DW_ASSIGN(const auto hash, state.bytes());
    const file::Hash& want = module_.facts().hash;
    if (!std::equal(hash.begin(), hash.end(), want.begin(), want.end())) {
        return error(ErrorCode::kMismatch, "[wasm.restore] module: this one is blake3 " + file::to_hex(want) +
                                               ", the image was made by another");
    }
    DW_ASSIGN(const uint32_t abi, state.u32());
    if (abi == 0 || abi > DRIFTWOOD_ABI_VERSION) {
        return error(ErrorCode::kMismatch,
                     "[wasm.restore] " + want_got("guest ABI, at most", DRIFTWOOD_ABI_VERSION, abi));
    }
    DW_ASSIGN(const std::string settings, state.str());
    if (settings != kDeterminismSettings) {
        return error(ErrorCode::kMismatch, "[wasm.restore] settings: want \"" + std::string(kDeterminismSettings) +
                                               "\", the image has others");
    }
    return {};
}

Result<void> InstanceImpl::load_memory(const file::SectionReader& image, uint64_t size_bytes) {
    DW_ASSIGN(const file::TensorInfo tensor, image.require(kMemoryTensor, file::DType::kU8));
    if (tensor.size_bytes != size_bytes) return corrupt(want_got("memory bytes", size_bytes, tensor.size_bytes));
    const uint64_t minimum = module_.layout().memory_min_pages * kWasmPageBytes;
    const uint64_t maximum =
        module_.layout().memory_max_pages.value_or(kMemoryReservationBytes / kWasmPageBytes) * kWasmPageBytes;
    if (size_bytes % kWasmPageBytes != 0 || size_bytes < minimum || size_bytes > maximum) {
        return corrupt("memory: " + std::to_string(size_bytes) + " bytes are no size of this module's memory (" +
                       std::to_string(minimum) + " to " + std::to_string(maximum) + ", in whole pages)");
    }
    if (size_bytes > limits_.memory_bytes) {
        return error(ErrorCode::kLimit, "[wasm.restore] memory: the image has " + std::to_string(size_bytes) +
                                            " bytes, the limit is " + std::to_string(limits_.memory_bytes));
    }
    DW_TRY(image.verify(tensor));
    if (size_bytes == 0) return {};
    if (const uint64_t more = (size_bytes - minimum) / kWasmPageBytes; more != 0) {
        uint64_t before = 0;
        if (const ErrorPtr failure(wasmtime_memory_grow(context_, &wasm_memory_, more, &before)); failure) {
            return error(ErrorCode::kLimit, "[wasm.restore] memory: " + message_of(failure.get()));
        }
    }
    CHECK(memory_.region.size() == size_bytes &&
          wasmtime_memory_data(context_, &wasm_memory_) == memory_.region.base());
    return memory_.region.map_file(0, image.file(), tensor.file_offset, size_bytes);
}

Result<void> InstanceImpl::load_globals(file::Decoder& state) {
    const auto& globals = module_.layout().globals;
    DW_ASSIGN(const uint64_t count, state.count(sizeof(uint8_t) + 2 * sizeof(uint64_t)));
    if (count != globals.size()) return corrupt(want_got("mutable globals", globals.size(), count));
    for (const IndexedExport& slot : globals) {
        const wasmtime_global_t global = state_export(slot.name, WASMTIME_EXTERN_GLOBAL).of.global;
        wasmtime_val_t now;
        wasmtime_global_get(context_, &global, &now);
        DW_ASSIGN(const uint8_t kind, state.u8());
        Bits bits;
        DW_ASSIGN(bits.low, state.u64());
        DW_ASSIGN(bits.high, state.u64());
        const std::string name = "global " + std::to_string(slot.index);
        if (kind != now.kind) return corrupt(want_got(name + " type", now.kind, kind));
        if (!fits(bits, kind)) return corrupt(name + ": more bits than its type has");
        const wasmtime_val_t value = value_of(bits, kind);
        if (const ErrorPtr failure(wasmtime_global_set(context_, &global, &value)); failure) {
            return corrupt(name + ": " + message_of(failure.get()));
        }
    }
    return {};
}

Result<void> InstanceImpl::load_tables(file::Decoder& state) {
    const Rewritten& layout = module_.layout();
    const size_t want = layout.mutates_tables ? layout.tables.size() : 0;
    DW_ASSIGN(const uint64_t count, state.count(sizeof(uint64_t)));
    if (count != want) return corrupt(want_got("tables", want, count));
    for (size_t i = 0; i < want; i++) DW_TRY(load_table(state, layout.tables[i]));
    return {};
}

Result<void> InstanceImpl::load_table(file::Decoder& state, const IndexedExport& slot) {
    const std::string name = "table " + std::to_string(slot.index);
    const wasmtime_table_t table = state_export(slot.name, WASMTIME_EXTERN_TABLE).of.table;
    const uint64_t size = wasmtime_table_size(context_, &table);
    DW_ASSIGN(const uint64_t count, state.count(sizeof(uint32_t)));
    if (count < size) return corrupt(want_got(name + " elements, at least", size, count));
    if (Buffer message; dwd_table_grow(context_, &table, count - size, message.out()) != DWD_OK) {
        return error(ErrorCode::kLimit, "[wasm.restore] " + name + ": " + message.text());
    }
    for (uint64_t i = 0; i < count; i++) {
        DW_ASSIGN(const uint32_t element, state.u32());
        void* value = nullptr;
        if (element != kNull) {
            const IndexedExport* slot_of = module_.find_function(element - 1);
            if (slot_of == nullptr) return corrupt(name + ": it cannot hold function " + std::to_string(element - 1));
            const wasmtime_func_t function = state_export(slot_of->name, WASMTIME_EXTERN_FUNC).of.func;
            value = wasmtime_func_to_raw(context_, &function);
        }
        if (Buffer message; dwd_table_set(context_, &table, i, value, message.out()) != DWD_OK) {
            return corrupt(name + ": " + message.text());
        }
    }
    return {};
}

Result<void> InstanceImpl::load_wasi(file::Decoder& state) {
    WasiState wasi;
    DW_ASSIGN(wasi.args, load_strings(state));
    DW_ASSIGN(wasi.environment, load_strings(state));
    DW_ASSIGN(const uint64_t count, state.count(sizeof(uint8_t) + sizeof(uint32_t)));
    if (count != wasi.descriptors.size()) return corrupt(want_got("descriptors", wasi.descriptors.size(), count));
    for (WasiState::Descriptor& descriptor : wasi.descriptors) {
        DW_ASSIGN(const uint8_t open, state.u8());
        DW_ASSIGN(const uint32_t flags, state.u32());
        if (open > 1 || flags > kMaxFdFlags) return corrupt("descriptor: its flags have unknown bits");
        descriptor = {open == 1, static_cast<uint16_t>(flags)};
    }
    DW_ASSIGN(const uint8_t exited, state.u8());
    DW_ASSIGN(const int64_t code, state.i64());
    if (exited > 1 || (exited == 0 && code != 0) || code != static_cast<int32_t>(code)) {
        return corrupt("exit code: not one");
    }
    if (exited == 1) guest_.exit_code = static_cast<int32_t>(code);
    if (const auto checked = wasi.check(); !checked.ok()) {
        // The same rules as at birth, but the words are a file's, not the caller's.
        return checked.error().code == ErrorCode::kLimit ? checked.error() : corrupt(checked.error().message);
    }
    guest_.wasi = std::move(wasi);
    return {};
}

}  // namespace driftwood::wasm
