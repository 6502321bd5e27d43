#include "model/weights_place.h"

#include <algorithm>
#include <initializer_list>

#include "memory/available.h"
#include "memory/huge_pages.h"

namespace driftwood::model {

namespace {

using Step = WeightsPlan::Step;

constexpr uint64_t kLookBytes = uint64_t{256} << 20;

// The part of a map that may be in small pages without a copy being worth its memory.
uint64_t may_be_small(uint64_t file_bytes) { return file_bytes / 8; }

std::string bytes_text(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

WeightsPlan stay(std::string why) { return {.step = Step::kStay, .why = std::move(why)}; }

// Brings the map's pages in, but no more than it takes to see that too many are small. nullopt: this system cannot.
Result<std::optional<uint64_t>> look(file::MappedFile& file, const WeightsOptions& options) {
    const file::MappedFile::Progress progress = [&](uint64_t done) {
        if (options.progress) options.progress(done, file.size());
    };
    uint64_t huge = 0;
    for (uint64_t at = 0; at < file.size();) {
        const uint64_t end = std::min<uint64_t>(file.size(), at + kLookBytes);
        DW_ASSIGN(const bool able, file.populate(at, end, progress));
        if (!able) return std::optional<uint64_t>();
        at = end;
        huge = memory::bytes_in_huge_pages(file.bytes().data(), file.size());
        if (at - std::min(at, huge) > may_be_small(file.size())) break;
    }
    return std::optional(huge);
}

}  // namespace

WeightsPlan plan_weights(WeightsChoice choice, const WeightsFacts& facts) {
    const std::string copy = "a copy of " + bytes_text(facts.file_bytes);
    const std::string available = bytes_text(facts.available_bytes) + " of memory are available";
    if (choice == WeightsChoice::kMap) return stay("as asked for");
    if (choice == WeightsChoice::kCopy) {
        if (facts.available_bytes == 0 || facts.file_bytes <= facts.available_bytes)
            return {Step::kCopy, "as asked for"};
        return {Step::kStay, copy + " is asked for, but " + available, true};
    }
    if (facts.token_bytes < kLeastCopiedBytes) return stay("few weights are read from the file");
    if (facts.token_bytes < facts.file_bytes / 2) return stay("less than half of the file is read for a token");
    if (!facts.huge_pages_given) return stay("the system has no huge pages to give");
    if (facts.available_bytes == 0) return stay("the system does not say how much memory is available");
    const uint64_t left = std::max(kLeastLeftBytes, facts.available_bytes / 4);
    if (facts.available_bytes < left || facts.file_bytes > facts.available_bytes - left) {
        return {Step::kStay, copy + " in huge pages would leave less than " + bytes_text(left) + ": " + available,
                true};
    }
    if (!facts.huge_bytes) return {Step::kLook, "its pages are still to be seen"};
    if (facts.file_bytes - std::min(facts.file_bytes, *facts.huge_bytes) <= may_be_small(facts.file_bytes)) {
        return stay("the page cache has it in huge pages");
    }
    return {Step::kCopy, "the page cache has it in small pages"};
}

WeightsFacts weights_facts(const compute::DecoderSpec& spec, std::span<const uint8_t> file) {
    WeightsFacts facts{.file_bytes = file.size(),
                       .available_bytes = memory::available_bytes(),
                       .huge_pages_given = memory::huge_pages_given(),
                       .huge_bytes = std::nullopt};
    const auto count = [&](const compute::MatrixView& matrix) {
        const bool in_file = matrix.bytes.data() >= file.data() && matrix.bytes.data() < file.data() + file.size();
        if (in_file) facts.token_bytes += matrix.bytes.size();
    };
    count(spec.output);
    for (const compute::DecoderLayer& layer : spec.layer) {
        for (const auto* matrix :
             {&layer.wq, &layer.wk, &layer.wv, &layer.wo, &layer.w_gate, &layer.w_up, &layer.w_down}) {
            count(*matrix);
        }
    }
    return facts;
}

Result<WeightsPlan> place_weights(file::MappedFile& file, WeightsFacts facts, const WeightsOptions& options) {
    if (file.is_copy()) return WeightsPlan{Step::kCopy, "copied before"};
    WeightsPlan plan = plan_weights(options.choice, facts);
    if (plan.step == Step::kLook) {
        DW_ASSIGN(const std::optional<uint64_t> huge, look(file, options));
        facts.huge_bytes = huge.value_or(0);
        plan = plan_weights(options.choice, facts);
    }
    if (plan.short_of_memory && options.choice == WeightsChoice::kCopy) {
        return error(ErrorCode::kLimit, "[model.weights] " + file.path() + ": " + plan.why + ": use --weights map");
    }
    if (plan.step != Step::kCopy) return plan;
    const auto copied = file.copy_into_memory([&](uint64_t done) {
        if (options.progress) options.progress(done, file.size());
    });
    const bool able =
        copied.ok() || (copied.error().code != ErrorCode::kLimit && copied.error().code != ErrorCode::kUnsupported);
    if (!able && options.choice == WeightsChoice::kAuto) {
        return WeightsPlan{.step = Step::kStay, .why = copied.error().message, .short_of_memory = true};
    }
    DW_TRY(copied);
    return plan;
}

}  // namespace driftwood::model
