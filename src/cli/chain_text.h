// What `driftwood chain` measured, as sentences and tables.
#pragma once

#include "cli/output.h"

namespace driftwood::cli {

void print_chain(const Json& measured);

}  // namespace driftwood::cli
