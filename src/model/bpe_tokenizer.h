// The tokenizer of a Vocabulary: byte-level BPE by the `tokenizers` library. Immutable, so any thread may use it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/model.h"
#include "model/vocabulary.h"

namespace driftwood::model {

class BpeTokenizer final : public Tokenizer {
  public:
    // `vocabulary` is copied from, its strings need not outlive the tokenizer. kCorrupt: the library refuses it.
    static Result<std::unique_ptr<BpeTokenizer>> make(const std::string& what, const Vocabulary& vocabulary);
    ~BpeTokenizer() override;

    Result<std::vector<uint32_t>> encode(std::string_view text, Special special) const override;
    std::string_view bytes(uint32_t id) const override;
    uint32_t vocab() const override { return static_cast<uint32_t>(bytes_.size()); }
    bool ends_turn(uint32_t id) const override { return id < ends_turn_.size() && ends_turn_[id]; }

  private:
    BpeTokenizer() = default;
    // Whether the ids stand for this text: BPE drops a byte for which the vocabulary has no token without a word.
    bool spells(const std::vector<uint32_t>& ids, std::string_view text) const;

    void* library_ = nullptr;           // dwd_tokenizer
    bool normalises_ = false;           // text may change before it is cut
    std::vector<std::string> bytes_;    // of each token; empty for those that are no text
    std::vector<std::string> control_;  // spelling of each control token, empty for others
    std::vector<bool> ends_turn_;
};

}  // namespace driftwood::model
