#include "session/batch.h"

namespace driftwood::session {

std::vector<BatchOutcome> run_batch(compute::Engine& engine, std::span<Session* const> sessions, uint32_t chunk) {
    std::vector<BatchOutcome> outcomes(sessions.size());
    std::vector<compute::BatchItem> items;
    std::vector<size_t> owners;
    for (size_t i = 0; i < sessions.size(); ++i) {
        auto item = sessions[i]->plan(chunk);
        if (!item.ok()) {
            outcomes[i].error = std::move(item).error();
        } else if (*item) {
            items.push_back(**item);
            owners.push_back(i);
        }
    }
    if (items.empty()) return outcomes;
    engine.step(items);
    for (size_t j = 0; j < items.size(); ++j) {
        BatchOutcome& outcome = outcomes[owners[j]];
        if (auto done = sessions[owners[j]]->commit(items[j]); done.ok()) {
            outcome.tokens = static_cast<uint32_t>(items[j].tokens.size());
        } else {
            outcome.error = std::move(done).error();
        }
    }
    return outcomes;
}

}  // namespace driftwood::session
