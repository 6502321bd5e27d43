#include "cli/weights_option.h"

#include <unistd.h>

#include <cstdio>
#include <map>

#include "cli/output.h"

namespace driftwood::cli {
namespace {

void show_progress(uint64_t done, uint64_t total) {
    if (done < total) {
        std::fprintf(stderr, "\rreading the weights: %3.0f %%", 100.0 * static_cast<double>(done) / total);
    } else {
        std::fprintf(stderr, "\r\033[K");
    }
}

}  // namespace

CLI::Option* add_weights(CLI::App& command, model::WeightsOptions& weights) {
    static const std::map<std::string, model::WeightsChoice> kChoices = {{"auto", model::WeightsChoice::kAuto},
                                                                         {"map", model::WeightsChoice::kMap},
                                                                         {"copy", model::WeightsChoice::kCopy}};
    if (isatty(STDERR_FILENO) != 0) weights.progress = show_progress;
    return command
        .add_option_function<std::string>(
            "--weights", [&weights](const std::string& name) { weights.choice = kChoices.at(name); },
            "Where the processor reads a model file's weights: map (llama.cpp's --mmap: shared with other processes), "
            "copy (its --no-mmap: in huge pages of this process's own), or auto: the map where its pages are huge, "
            "else "
            "a copy if there is memory for it (default: auto)")
        ->check(CLI::IsMember({"auto", "map", "copy"}));
}

std::string weights_text(const model::WeightsPlace& place) {
    if (!place.of_file) return "in the program";
    return std::string(place.copied ? "copied into memory" : "mapped from the file") +
           (place.plan.why.empty() ? "" : " (" + place.plan.why + ")") + ": " + human_bytes(place.huge_bytes) + " of " +
           human_bytes(place.file_bytes) + " in huge pages";
}

void note_weights(const model::Model& model) {
    const model::WeightsPlace place = model.weights_place();
    if (!place.plan.short_of_memory) return;
    std::fprintf(stderr, "the weights stay mapped, which may be slower: %s\n", printable(place.plan.why).c_str());
}

}  // namespace driftwood::cli
