// The tile registers of AMX, as the kernels use them: 16 rows of 16 sums in 32 bits, 16 tokens of 64 activations, 64
// weights of 16 rows. Internal linkage (see cpu/README.md).
//
// In assembler, each instruction with a memory clobber: GCC's own intrinsics do not tell the compiler that they read
// and write memory, and GCC 12 then deletes the stores that fill what they load.
#pragma once

#include <cstddef>
#include <cstdint>

namespace driftwood::compute::amx {

namespace {  // each kernel file gets copies of its own

// As LDTILECFG reads it.
struct TileConfig {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace
}  // namespace driftwood::compute::amx

#if defined(DRIFTWOOD_EMULATED_TILES)
#include "compute/cpu/amx/emulated_tiles.h"
#else

namespace driftwood::compute::amx {

namespace {

// The tiles of the calling thread for as long as the guard lives: shaped as `config` says. Without one the
// tiles hold nothing, and a switch of threads has nothing to save.
class Tiles {
  public:
    explicit Tiles(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config) : "memory"); }
    ~Tiles() { asm volatile("tilerelease" ::: "memory"); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

template <int kTile>
[[maybe_unused]] inline void tile_zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
}

// Rows of the tile lie `stride` bytes apart.
template <int kTile>
[[maybe_unused]] inline void tile_load(const void* base, size_t stride) {
    asm volatile("tileloadd (%1,%2,1), %%tmm%c0" ::"i"(kTile), "r"(base), "r"(stride) : "memory");
}

template <int kTile>
[[maybe_unused]] inline void tile_store(void* base, size_t stride) {
    asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(kTile), "r"(base), "r"(stride) : "memory");
}

// sums += activations · weights, both signed.
template <int kSums, int kActivations, int kWeights>
[[maybe_unused]] inline void tile_multiply() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kActivations), "i"(kWeights));
}

// sums += activations · weights, the weights without sign.
template <int kSums, int kActivations, int kWeights>
[[maybe_unused]] inline void tile_multiply_unsigned() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kActivations), "i"(kWeights));
}

}  // namespace
}  // namespace driftwood::compute::amx

#endif
