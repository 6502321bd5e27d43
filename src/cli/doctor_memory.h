// driftwood doctor --device: how an engine would divide its memory for a model.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/output.h"
#include "model/weights_place.h"

namespace driftwood::cli {

// Makes the engine `name` for the model and places its weights, so that what is printed is what a node gets, and prints
// its plan.
Result<void> show_memory_plan(const std::string& name, const std::string& model, const model::WeightsOptions& weights,
                              Format format);

}  // namespace driftwood::cli
