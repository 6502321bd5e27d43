// Model: a file as weights (a DecoderSpec of views), tokenizer, chat template and identity.
//
// Immutable once loaded; shared by any number of sessions and threads. Weights stay where the file is mapped, or where
// place_weights puts them, at the same addresses.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "compute/decoder_spec.h"
#include "file/hash.h"
#include "model/weights_place.h"

namespace driftwood::model {

// Text to tokens and back. Thread-safe.
class Tokenizer {
  public:
    virtual ~Tokenizer() = default;
    enum class Special {
        kText,   // text from people: spelled special tokens stay text
        kParse,  // text from the chat template: special tokens are recognised
    };
    virtual Result<std::vector<uint32_t>> encode(std::string_view text, Special special) const = 0;
    // The raw bytes of a token (may be part of a UTF-8 character); empty for special tokens. Precondition: id <
    // vocab().
    virtual std::string_view bytes(uint32_t id) const = 0;
    virtual uint32_t vocab() const = 0;
    virtual bool ends_turn(uint32_t id) const = 0;
};

struct Message {
    std::string role;
    std::string text;
};

class Model {
  public:
    virtual ~Model() = default;
    virtual const std::string& name() const = 0;
    virtual const compute::DecoderSpec& spec() const = 0;
    virtual const Tokenizer& tokenizer() const = 0;

    // The conversation as the model's chat template writes it; `open_answer` adds the beginning of an assistant
    // message.
    virtual Result<std::string> render(std::span<const Message> messages, bool open_answer) const = 0;

    // Same compute identity: KV may be used again, bits continue. Covers canonical weights, architecture, rope,
    // numerics and KV layout versions. Same text identity: tokenizer and template agree.
    virtual const file::Hash& compute_identity() const = 0;
    virtual const file::Hash& text_identity() const = 0;

    // For an engine that reads the weights where they lie: brings them into huge pages, as the options say, with the
    // same bytes at the same addresses. True: this call has copied them. Precondition: nobody reads them meanwhile.
    // After an error the model is no good.
    virtual Result<bool> place_weights(const WeightsOptions& options) = 0;
    // Where they are now.
    virtual WeightsPlace weights_place() const = 0;
};

// Loads a file by mapping it: GGUF, or safetensors in the layout of docs/model-format.md; its first bytes tell which.
// Errors name file, key or tensor, want and got; what is not supported is refused by name.
// `activations`: the bits of activations in linear layers (docs/numerics.md, rule 2), part of the compute identity;
// what the file asks for when it says nothing, else 8.
Result<std::unique_ptr<Model>> load_model(const std::string& path,
                                          std::optional<compute::ActivationBits> activations = std::nullopt);
// GGUF from bytes that outlive the model (the embedded demo model).
Result<std::unique_ptr<Model>> load_gguf(const std::string& name, std::span<const uint8_t> bytes,
                                         std::optional<compute::ActivationBits> activations = std::nullopt);

}  // namespace driftwood::model
