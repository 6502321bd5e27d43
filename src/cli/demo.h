// The main job, shown: an actor is frozen in mid-sentence, its process killed, and it goes on elsewhere, bit for bit as
// if nothing had happened. Shared between the parent (demo.cc), its processes (demo_worker.cc) and the final comparison
// (demo_compare.cc).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/output.h"

namespace driftwood::cli {

// One process of the demo. `part`: "first" talks, freezes in the middle of the second answer and waits to be killed;
// "second" thaws, finishes, answers the last message; "whole" does all of it without a break.
struct WorkerOptions {
    std::string part;
    std::string guest;        // first, whole: the guest's file
    std::string image;        // first writes it, second thaws it
    std::string final_image;  // second, whole: written at the end
    std::vector<std::string> messages;
    uint32_t freeze_after_tokens = 0;  // of the second answer
    uint64_t seed = 0;
    int64_t clock_start_ns = 0;
    std::string temperature = "0";
    std::string engine = "auto";
    uint32_t threads = 0;
};

struct Comparison {
    uint64_t bits_compared = 0;
    uint64_t bits_differing = 0;
    struct Row {
        std::string what;
        uint64_t bits_compared = 0;
        uint64_t bits_differing = 0;
    };
    std::vector<Row> rows;  // text, each tensor, metadata
    void add(std::string what, std::string_view a, std::string_view b);
};

// All tensors of two images byte for byte, and their metadata but creation time, parent image and root hash.
Result<Comparison> compare_images(const std::string& path_a, const std::string& path_b);

}  // namespace driftwood::cli
