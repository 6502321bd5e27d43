// --weights: where the weights of a model lie while the processor computes with them; and how commands speak of it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "model/model.h"

namespace driftwood::cli {

// Adds --weights. On a terminal, reading a file shows how far it is.
CLI::Option* add_weights(CLI::App& command, model::WeightsOptions& weights);

// "copied into memory (the page cache has it in small pages): 697.3 MB of 699.1 MB in huge pages"
std::string weights_text(const model::WeightsPlace& place);

// A line on stderr when the weights would be read faster from a copy that there is no memory for.
void note_weights(const model::Model& model);

}  // namespace driftwood::cli
