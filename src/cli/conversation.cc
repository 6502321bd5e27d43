#include "cli/conversation.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "actor/limits.h"
#include "cli/output.h"

namespace driftwood::cli {
namespace {

constexpr std::string_view kHelp =
    "  /freeze FILE   write this actor, as it is now, to one file (also while it answers)\n"
    "  /stats         tokens and memory so far\n"
    "  /quit          leave (the actor is gone unless it was frozen)\n";

const char* level_name(int32_t level) {
    switch (level) {
        case DRIFTWOOD_LOG_DEBUG: return "debug";
        case DRIFTWOOD_LOG_INFO: return "info";
        case DRIFTWOOD_LOG_WARN: return "warning";
        default: return "error";
    }
}

// Sleeps for a while, at most this long. With kInput, no longer than until stdin has something: true then.
enum class Until : uint8_t { kTimer, kInput };
bool wait_for_timer(int64_t at_most_ns, Until until) {
    constexpr int64_t kLongestNs = 100'000'000;  // then look at the clock again, and whether somebody wants something
    const int64_t ns = std::min(at_most_ns, kLongestNs);
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const timespec wait{.tv_sec = 0, .tv_nsec = ns};
    return ppoll(&input, until == Until::kInput ? 1 : 0, &wait, nullptr) > 0;
}

}  // namespace

Conversation::Conversation(node::LiveActor live) : live_(std::move(live)) {
    sink_.reply = [this](std::string_view bytes, bool last) {
        std::fputs(printable(bytes).c_str(), stdout);
        mid_line_ = mid_line_ || !bytes.empty();
        if (last && std::exchange(mid_line_, false)) std::fputc('\n', stdout);
        std::fflush(stdout);
    };
    sink_.log = [](int32_t level, std::string_view line) {
        std::fprintf(stderr, "[guest %s] %s\n", level_name(level), printable(line).c_str());
    };
}

Result<Conversation::Pause> Conversation::advance(const std::function<bool(const actor::Step&)>& stop) {
    for (;;) {
        live_.actor->wake();
        if (live_.actor->state() != actor::Actor::State::kReady) {
            const auto timer = live_.actor->next_timer_in_ns();
            if (!timer || live_.actor->listens()) break;
            wait_for_timer(*timer, Until::kTimer);  // it hears nobody meanwhile
            if (stop && stop({})) return Pause::kAsked;
            continue;
        }
        const actor::Step step = live_.actor->step();
        for (const actor::Effect& effect : step.effects) {
            if (effect.kind == actor::Effect::Kind::kReply) {
                sink_.reply(effect.bytes, effect.last);
            } else {
                sink_.log(effect.level, effect.bytes);
            }
        }
        if (step.error) return *step.error;
        if (stop && stop(step)) return Pause::kAsked;
    }
    return live_.actor->state() == actor::Actor::State::kStopped ? Pause::kStopped : Pause::kWaiting;
}

bool Conversation::line_is_waiting() const {
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    return poll(&input, 1, 0) > 0 && (input.revents & POLLIN) != 0;
}

Result<void> Conversation::wait_for_input() {
    constexpr uint64_t kKey = 1;
    if (parking_ == nullptr || input_.find('\n') != std::string::npos || !live_.actor->listens()) return {};
    const int64_t idle_ns = parking_->policy().idle_ns.value_or(0);
    const timespec wait{.tv_sec = idle_ns / 1'000'000'000, .tv_nsec = idle_ns % 1'000'000'000};
    pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (ppoll(&input, 1, &wait, nullptr) != 0) return {};
    size_t bytes = live_.actor->instance().memory().size(), tokens = 0;
    for (const session::Session* session : live_.actor->sessions()) tokens += session->computed();
    if (const auto parked = parking_->park(kKey, live_); !parked.ok()) {
        report(parked.error(), Format::kText);
        parking_ = nullptr;  // it stays from now on
        return {};
    }
    std::fprintf(stderr, "parked: %s of linear memory and the KV of %zu tokens given back, until the next line\n",
                 human_bytes(bytes).c_str(), tokens);
    poll(&input, 1, -1);
    auto fetched = parking_->fetch(kKey);
    if (!fetched.ok()) {
        const std::string image = parking_->keep(kKey);
        return error(fetched.error().code,
                     fetched.error().message + "; the conversation is kept: driftwood thaw " + image);
    }
    live_ = *std::move(fetched);
    return {};
}

Result<std::optional<std::string>> Conversation::read_line() {
    for (;;) {
        const size_t end = input_.find('\n', searched_);
        if (end != std::string::npos) {
            std::string line = input_.substr(0, end);
            input_.erase(0, end + 1);
            searched_ = 0;
            if (line.ends_with('\r')) line.pop_back();
            return std::optional(std::move(line));
        }
        if (input_.size() > actor::kMaxMessageBytes) {
            return error(ErrorCode::kLimit, "[stdin] a line of more than " + std::to_string(actor::kMaxMessageBytes) +
                                                " bytes: one line is one message, and that is its limit");
        }
        searched_ = input_.size();
        char chunk[4096];
        const ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
        if (got > 0) {
            input_.append(chunk, static_cast<size_t>(got));
        } else if (!input_.empty()) {
            searched_ = 0;
            return std::optional(std::exchange(input_, {}));
        } else {
            return std::optional<std::string>();
        }
    }
}

Result<void> Conversation::freeze(const std::string& path) {
    DW_ASSIGN(const auto image, live_.actor->freeze(path, {}));
    std::fprintf(stderr, "frozen: %s (%s, %s on disk). Go on with: driftwood thaw %s%s%s\n", path.c_str(),
                 human_bytes(image.file_bytes).c_str(), human_bytes(image.disk_bytes).c_str(), path.c_str(),
                 thaw_hint_.empty() ? "" : " ", thaw_hint_.c_str());
    return {};
}

Conversation::Line Conversation::command(const std::string& line) {
    if (line == "/quit" || line == "/exit") return Line::kQuit;
    if (line == "/freeze" || line.starts_with("/freeze ")) {
        const size_t begin = line.find_first_not_of(' ', 7);
        if (begin == std::string::npos) {
            std::fprintf(stderr, "/freeze wants the name of a file: /freeze ada.actor\n");
        } else {
            const auto frozen = freeze(line.substr(begin, line.find_last_not_of(' ') + 1 - begin));
            if (!frozen.ok()) report(frozen.error(), Format::kText);
        }
    } else if (line == "/stats") {
        for (const session::Session* session : live_.actor->sessions()) {
            std::fprintf(stderr, "conversation: %zu tokens, %u computed, %zu KV blocks\n", session->tokens().size(),
                         session->computed(), session->blocks().size());
        }
        const memory::Region& memory = live_.actor->instance().memory();
        std::fprintf(stderr, "guest: %s of linear memory, %llu turns\n", human_bytes(memory.size()).c_str(),
                     static_cast<unsigned long long>(live_.actor->turns()));
        if (const auto footprint = memory.footprint(); footprint.ok()) {
            std::fprintf(stderr, "  of it resident: %s, of that pages of its image or shared with forks: %s\n",
                         human_bytes(footprint->resident_bytes).c_str(), human_bytes(footprint->shared_bytes).c_str());
        }
    } else {
        std::fprintf(stderr, "%s\n%.*s",
                     line == "/help" ? "Commands:" : "No such command. These are:", static_cast<int>(kHelp.size()),
                     kHelp.data());
    }
    return Line::kContinue;
}

Conversation::Line Conversation::take(const std::string& line) {
    if (line.starts_with('/')) return command(line);
    if (line.empty()) return Line::kContinue;
    if (const auto sent = say(line); !sent.ok()) report(sent.error(), Format::kText);
    return Line::kContinue;
}

Result<void> Conversation::interact() {
    const bool terminal = isatty(STDIN_FILENO) == 1;
    const auto while_answering = [&](const actor::Step&) {
        if (terminal && line_is_waiting()) {
            const auto read = read_line();
            if (!read.ok()) report(read.error(), Format::kText);
            quit_ = !read.ok() || !*read || take(**read) == Line::kQuit;
        }
        return quit_;
    };
    bool prompted = false;
    for (;;) {
        DW_ASSIGN(const Pause pause, advance(while_answering));
        if (std::exchange(mid_line_, false)) std::fputc('\n', stdout);
        if (pause == Pause::kStopped) {
            std::fprintf(stderr, "the actor has stopped (exit code %d)\n", live_.actor->exit_code().value_or(0));
            return {};
        }
        if (quit_) return {};
        if (terminal && !prompted) std::fputs("> ", stderr);
        prompted = true;
        // A line that is there comes first; else whatever is first, a line or the next timer.
        if (const auto timer = live_.actor->next_timer_in_ns(); timer && input_.find('\n') == std::string::npos) {
            if (!wait_for_timer(*timer, Until::kInput)) continue;
        } else if (!timer) {
            DW_TRY(wait_for_input());
        }
        prompted = false;
        DW_ASSIGN(const auto line, read_line());
        if (!line || take(*line) == Line::kQuit) return {};
    }
}

}  // namespace driftwood::cli
