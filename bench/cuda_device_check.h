// The parts of cuda_device_check: each prints what it saw and returns whether it was right.
#pragma once

namespace driftwood::compute {

bool check_kv_speed();
bool check_kv_sessions();
bool check_kv_shared();
bool check_out_of_memory();
bool check_parts();
// Breaks the card for this process: nothing on it works afterwards.
bool check_fault();

}  // namespace driftwood::compute
