// driftwood inspect: what is in an image or any safetensors file, in a guest module, in a model.
#include <algorithm>
#include <cstdio>

#include "cli/commands.h"
#include "cli/output.h"
#include "file/mapped_file.h"
#include "file/section.h"
#include "model/model_file.h"
#include "node/node.h"
#include "wasm/instance.h"

namespace driftwood::cli {
namespace {

struct InspectOptions {
    std::string path;
    bool verify = false;
    Format format = Format::kText;
};

Json describe_model(const model::Model& model) {
    const compute::DecoderSpec& spec = model.spec();
    return {{"kind", "model"},
            {"name", model.name()},
            {"compute_identity", file::to_hex(model.compute_identity())},
            {"text_identity", file::to_hex(model.text_identity())},
            {"activation_bits", compute::bits_of(spec.activation_bits)},
            {"layers", spec.layers},
            {"d_model", spec.d_model},
            {"heads", spec.heads},
            {"kv_heads", spec.kv_heads},
            {"head_dim", spec.head_dim},
            {"d_ff", spec.d_ff},
            {"vocab", spec.vocab},
            {"context", spec.context}};
}

Result<Json> describe_guest(const std::string& path) {
    DW_ASSIGN(const auto file, file::MappedFile::open(path));
    DW_ASSIGN(const wasm::ModuleFacts facts, wasm::inspect(file.bytes()));
    Json imports = Json::array(), exports = Json::array(), refusals = Json::array();
    for (const auto& item : facts.imports) imports.push_back(item.full_name());
    for (const auto& item : facts.exports) exports.push_back(item.name);
    for (const auto& refusal : facts.refusals) refusals.push_back(refusal.feature + ": " + refusal.why);
    return Json{{"kind", "guest module"},
                {"hash", file::to_hex(facts.hash)},
                {"memory_min_pages", facts.memory_min_pages},
                {"mutates_tables", facts.mutates_tables},
                {"imports", imports},
                {"exports", exports},
                {"refusals", refusals}};
}

Result<Json> describe_sections(const InspectOptions& options) {
    using file::SectionReader;
    auto image = SectionReader::open(options.path, SectionReader::Hashes::kRequired);
    const bool hashed = image.ok();
    if (!hashed) {  // a safetensors file of somebody else, or a damaged one: without hashes only the first can be read
        auto plain = SectionReader::open(options.path, SectionReader::Hashes::kNone);
        if (!plain.ok() || plain->metadata().contains("root_hash")) return std::move(image).error();
        image = std::move(plain);
    }
    const SectionReader& reader = *image;
    if (const auto format = reader.metadata().find("format");
        format != reader.metadata().end() && format->second == model::kModelFormat) {
        DW_ASSIGN(const auto model, node::load_model(options.path));  // checks every hash too
        return describe_model(*model);
    }
    const bool is_image = reader.metadata().contains("module_hash");
    Json tensors = Json::array();
    for (const auto& [name, tensor] : reader.tensors()) {
        tensors.push_back({{"name", name},
                           {"dtype", file::dtype_name(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"file_offset", tensor.file_offset},
                           {"size_bytes", tensor.size_bytes}});
    }
    Json described = {{"kind", is_image ? "actor image" : "safetensors file"},
                      {"file_bytes", reader.file_bytes()},
                      {"hashes", hashed ? "root checked" : "none"},
                      {"metadata", reader.metadata()},
                      {"tensors", tensors}};
    if (options.verify) {
        if (!hashed) return error(ErrorCode::kUnsupported, "[inspect] " + options.path + ": has no hashes to verify");
        DW_TRY(reader.verify_all());
        described["hashes"] = "all checked";
    }
    return described;
}

Result<Json> describe(const InspectOptions& options) {
    if (options.path == "demo") {
        DW_ASSIGN(const auto model, node::load_model(options.path));
        return describe_model(*model);
    }
    std::string start;
    {
        DW_ASSIGN(const auto file, file::MappedFile::open(options.path));
        const auto bytes = file.bytes();
        start.assign(bytes.begin(), bytes.begin() + std::min<ptrdiff_t>(4, std::ssize(bytes)));
    }
    if (start == "GGUF") {
        DW_ASSIGN(const auto model, node::load_model(options.path));
        return describe_model(*model);
    }
    if (start == std::string_view("\0asm", 4)) return describe_guest(options.path);
    return describe_sections(options);
}

std::string join(const Json& list, const char* separator) {
    std::string text;
    for (const Json& entry : list) {
        if (!text.empty()) text += separator;
        text += entry.is_string() ? entry.get<std::string>() : entry.dump();
    }
    return text;
}

void print_text(const Json& described) {
    for (const auto& [key, value] : described.items()) {
        if (key == "tensors") {
            for (const Json& tensor : value) {
                std::printf("  %-28s %-4s [%s] at %llu, %s\n", printable(tensor["name"].get<std::string>()).c_str(),
                            tensor["dtype"].get<std::string>().c_str(), join(tensor["shape"], ", ").c_str(),
                            tensor["file_offset"].get<unsigned long long>(),
                            human_bytes(tensor["size_bytes"].get<uint64_t>()).c_str());
            }
        } else if (value.is_object()) {
            for (const auto& [name, text] : value.items())
                std::printf("  %-18s %s\n", printable(name).c_str(), printable(text.get<std::string>()).c_str());
        } else {
            const std::string text = value.is_array() ? join(value, ", ") : join(Json::array({value}), "");
            std::printf("%-18s %s\n", key.c_str(), printable(text).c_str());
        }
    }
}

Result<void> inspect(const InspectOptions& options) {
    DW_ASSIGN(const Json described, describe(options));
    if (options.format == Format::kJson) {
        print_json(described);
    } else {
        print_text(described);
    }
    return {};
}

}  // namespace

void add_inspect(CLI::App& app, int& exit_code) {
    auto options = std::make_shared<InspectOptions>();
    CLI::App* command = app.add_subcommand("inspect", "Show what is in an actor image, a guest module or a model");
    command->add_option("file", options->path, "Image or other safetensors file, .wasm, .gguf, or 'demo'")->required();
    command->add_flag("--verify", options->verify, "Check every hash of an image");
    command->add_flag_callback(
        "--json", [options] { options->format = Format::kJson; }, "Print JSON");
    command->callback([options, &exit_code] {
        if (const auto done = inspect(*options); !done.ok()) exit_code = report(done.error(), options->format);
    });
}

}  // namespace driftwood::cli
