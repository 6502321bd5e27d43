// A FileOps over a model of a disk that can fail at any call or lose power there. What was not synced survives a power
// loss only by chance: each pending write or name change is kept, lost or (a write) torn, as a seed decides. One
// directory; a rename is one step, as journaling file systems promise. For tests.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "file/file_ops.h"

namespace driftwood::file {

class DiskModel : public FileOps {
  public:
    enum class Fault { kError, kPowerLoss };

    // The call with this number (from 0) fails; after a power loss all later ones do too.
    void fail_at(size_t call, Fault fault) {
        fail_at_ = calls_ + call;
        fault_ = fault;
    }
    void heal() {
        fail_at_ = kNever;
        dead_ = false;
    }
    size_t calls() const { return calls_; }
    size_t names() const { return names_.size(); }

    // The power comes back: what chance left becomes the state of the disk. Open files are gone.
    void restart(uint64_t seed) {
        std::mt19937_64 rng(seed);
        const auto kept = [&] { return seed == kKeepNothing ? false : seed == kKeepAll || rng() % 2 == 0; };
        for (const auto& change : pending_names_) {
            if (kept()) apply(durable_names_, change);
        }
        pending_names_.clear();
        names_ = durable_names_;
        for (const auto& [name, node] : names_) {
            for (const Change& change : node->pending) {
                if (!kept()) continue;
                Change torn = change;
                if (seed != kKeepAll && !torn.bytes.empty()) torn.bytes.resize(rng() % (torn.bytes.size() + 1));
                apply(node->durable, torn);
            }
            node->pending.clear();
            node->bytes = node->durable;
        }
        open_.clear();
        heal();
    }
    static constexpr uint64_t kKeepNothing = 0;
    static constexpr uint64_t kKeepAll = 1;

    // The bytes under a name, or null.
    const std::vector<uint8_t>* read(const std::string& path) const {
        const auto found = names_.find(path);
        return found == names_.end() ? nullptr : &found->second->bytes;
    }

    Result<int> create(const std::string& path) override {
        DW_TRY(enter());
        if (names_.contains(path)) return error(ErrorCode::kAlreadyExists, path);
        const auto node = std::make_shared<Node>();
        rename_to({{}, path, node});
        open_.push_back(node);
        return static_cast<int>(open_.size() - 1);
    }
    Result<void> truncate(int fd, uint64_t size) override { return change(fd, {size, 0, {}}); }
    Result<void> write(int fd, uint64_t offset, std::span<const uint8_t> bytes) override {
        return change(fd, {0, offset, {bytes.begin(), bytes.end()}});
    }
    Result<uint64_t> disk_bytes(int fd) override {
        DW_TRY(enter());
        return open_.at(static_cast<size_t>(fd))->bytes.size();
    }
    Result<void> sync(int fd) override {
        DW_TRY(enter());
        Node& node = *open_.at(static_cast<size_t>(fd));
        node.durable = node.bytes;
        node.pending.clear();
        return {};
    }
    Result<void> close(int fd) override {
        if (!dead_) open_.at(static_cast<size_t>(fd)).reset();
        return enter();
    }
    Result<void> rename(const std::string& from, const std::string& to) override {
        DW_TRY(enter());
        rename_to({from, to, names_.at(from)});
        return {};
    }
    Result<void> link(const std::string& from, const std::string& to) override {
        DW_TRY(enter());
        if (names_.contains(to)) return error(ErrorCode::kAlreadyExists, to);
        rename_to({{}, to, names_.at(from)});
        return {};
    }
    Result<void> unlink(const std::string& path) override {
        DW_TRY(enter());
        rename_to({path, {}, {}});
        return {};
    }
    Result<void> sync_directory(const std::string&) override {
        DW_TRY(enter());
        durable_names_ = names_;
        pending_names_.clear();
        return {};
    }
    bool exists(const std::string& path) override { return names_.contains(path); }
    bool is_special(const std::string&) override { return false; }

  protected:
    // Counts a call; an error when it is the one to fail.
    Result<void> enter() {
        const size_t call = calls_++;
        if (call == fail_at_ && fault_ == Fault::kPowerLoss) dead_ = true;
        if (dead_ || call == fail_at_) return error(ErrorCode::kIo, "[disk] call " + std::to_string(call) + " failed");
        return {};
    }

  private:
    static constexpr size_t kNever = ~size_t{0};
    // A write of `bytes` at `offset`, or, without bytes, the length `size`.
    struct Change {
        uint64_t size;
        uint64_t offset;
        std::vector<uint8_t> bytes;
    };
    struct Node {
        std::vector<uint8_t> bytes;
        std::vector<uint8_t> durable;
        std::vector<Change> pending;
    };
    using Names = std::map<std::string, std::shared_ptr<Node>>;  // shared: two names may be one file
    // Removes the name `from` and makes `to` name `node`; either may be empty.
    struct NameChange {
        std::string from;
        std::string to;
        std::shared_ptr<Node> node;
    };

    static void apply(std::vector<uint8_t>& content, const Change& change) {
        if (change.bytes.empty()) {
            content.resize(change.size);
            return;
        }
        content.resize(std::max<size_t>(content.size(), change.offset + change.bytes.size()));
        std::copy(change.bytes.begin(), change.bytes.end(), content.begin() + static_cast<ptrdiff_t>(change.offset));
    }
    static void apply(Names& names, const NameChange& change) {
        if (!change.from.empty()) names.erase(change.from);
        if (!change.to.empty()) names[change.to] = change.node;
    }
    Result<void> change(int fd, Change change) {
        Node& node = *open_.at(static_cast<size_t>(fd));
        DW_TRY(enter());
        apply(node.bytes, change);
        node.pending.push_back(std::move(change));
        return {};
    }
    void rename_to(NameChange change) {
        apply(names_, change);
        pending_names_.push_back(std::move(change));
    }

    size_t calls_ = 0;
    size_t fail_at_ = kNever;
    Fault fault_ = Fault::kError;
    bool dead_ = false;
    Names names_;
    Names durable_names_;
    std::vector<NameChange> pending_names_;
    std::vector<std::shared_ptr<Node>> open_;
};

}  // namespace driftwood::file
