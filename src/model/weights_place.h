// Where the weights of a model file lie while an engine of the host reads them, every token, from one end to the other:
// in the file's map, shared with other processes and there at once, or in a copy in this process's memory. What decides
// is huge pages: with pages of 4 KiB up to a third of the time goes into looking up addresses, and whether a map has
// huge ones depends on the file system and on how the file once came into the page cache
// (docs/decisions/0011-weights-lie-in-huge-pages.md).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "compute/decoder_spec.h"
#include "file/mapped_file.h"

namespace driftwood::model {

enum class WeightsChoice : uint8_t {
    kAuto,  // the map if it is in huge pages, else a copy if there is memory for it
    kMap,
    kCopy,
};

struct WeightsOptions {
    WeightsChoice choice = WeightsChoice::kAuto;
    // How far reading is, in bytes of the file; may be empty.
    std::function<void(uint64_t done, uint64_t total)> progress = nullptr;
};

// What the choice is made from.
struct WeightsFacts {
    uint64_t file_bytes = 0;
    uint64_t token_bytes = 0;            // of them, what every token reads
    uint64_t available_bytes = 0;        // memory that may be taken; 0: not known
    bool huge_pages_given = false;       // to anonymous memory that asks
    std::optional<uint64_t> huge_bytes;  // of the map; nullopt: nobody has looked
};

struct WeightsPlan {
    enum class Step : uint8_t { kStay, kLook, kCopy };  // kLook: bring the map's pages in and see what they are
    Step step = Step::kStay;
    std::string why;
    bool short_of_memory = false;  // a copy would be faster, but there is no room for it
};

// A file of fewer bytes stays mapped: its weights are read in a few milliseconds with any pages.
inline constexpr uint64_t kLeastCopiedBytes = uint64_t{32} << 20;
// What stays available beside a copy, at least: this, and a quarter of what was available before.
inline constexpr uint64_t kLeastLeftBytes = uint64_t{1} << 30;

WeightsPlan plan_weights(WeightsChoice choice, const WeightsFacts& facts);

// The facts about a model whose file is mapped at `file`, without a look at its pages.
WeightsFacts weights_facts(const compute::DecoderSpec& spec, std::span<const uint8_t> file);

// Plans and does it; the plan that it ended with. kLimit: kCopy is asked for, and there is no room for it.
Result<WeightsPlan> place_weights(file::MappedFile& file, WeightsFacts facts, const WeightsOptions& options);

struct WeightsPlace {
    bool of_file = false;  // else they are the program's own
    bool copied = false;
    uint64_t file_bytes = 0;
    uint64_t huge_bytes = 0;  // of the map or the copy, in huge pages now
    WeightsPlan plan;
};

}  // namespace driftwood::model
