// The tiles in plain code, for amx_test.cc: what AMX's manual says of each instruction, so that everything around the
// instructions is tested on machines without them. Included by tiles.h alone.
#pragma once

#include <cstdlib>
#include <cstring>

namespace driftwood::compute::amx {

namespace {

struct EmulatedTiles {
    const TileConfig* config = nullptr;
    uint8_t bytes[8][16][64];
};
thread_local EmulatedTiles emulated;

class Tiles {
  public:
    explicit Tiles(const TileConfig& config) {
        emulated.config = &config;
        std::memset(emulated.bytes, 0xAA, sizeof(emulated.bytes));  // nobody may count on zeros
    }
    ~Tiles() { emulated.config = nullptr; }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

template <int kTile>
void tile_zero() {
    std::memset(emulated.bytes[kTile], 0, sizeof(emulated.bytes[kTile]));
}

template <int kTile>
void tile_load(const void* base, size_t stride) {
    tile_zero<kTile>();
    for (size_t r = 0; r < emulated.config->rows[kTile]; ++r) {
        std::memcpy(emulated.bytes[kTile][r], static_cast<const uint8_t*>(base) + r * stride,
                    emulated.config->row_bytes[kTile]);
    }
}

template <int kTile>
void tile_store(void* base, size_t stride) {
    for (size_t r = 0; r < emulated.config->rows[kTile]; ++r) {
        std::memcpy(static_cast<uint8_t*>(base) + r * stride, emulated.bytes[kTile][r],
                    emulated.config->row_bytes[kTile]);
    }
}

template <class Weight, int kSums, int kActivations, int kWeights>
void emulate_multiply() {
    const TileConfig& config = *emulated.config;
    const uint32_t words = config.row_bytes[kActivations] / 4;
    const bool fits = config.rows[kSums] == config.rows[kActivations] && config.rows[kWeights] == words &&
                      config.row_bytes[kSums] == config.row_bytes[kWeights];
    if (!fits) std::abort();  // as the instruction would, by a signal
    for (uint32_t m = 0; m < config.rows[kSums]; ++m) {
        for (uint32_t n = 0; n < config.row_bytes[kSums] / 4U; ++n) {
            uint32_t sum = 0;
            std::memcpy(&sum, &emulated.bytes[kSums][m][4 * n], sizeof(sum));
            for (uint32_t i = 0; i < 4 * words; ++i) {
                const auto a = static_cast<int8_t>(emulated.bytes[kActivations][m][i]);
                const auto b = static_cast<Weight>(emulated.bytes[kWeights][i / 4][4 * n + i % 4]);
                sum += static_cast<uint32_t>(a * b);
            }
            std::memcpy(&emulated.bytes[kSums][m][4 * n], &sum, sizeof(sum));
        }
    }
}

template <int kSums, int kActivations, int kWeights>
void tile_multiply() {
    emulate_multiply<int8_t, kSums, kActivations, kWeights>();
}

template <int kSums, int kActivations, int kWeights>
void tile_multiply_unsigned() {
    emulate_multiply<uint8_t, kSums, kActivations, kWeights>();
}

}  // namespace
}  // namespace driftwood::compute::amx
