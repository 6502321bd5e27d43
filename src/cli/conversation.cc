#include "cli/conversation.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>

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
    while (live_.actor->state() == actor::Actor::State::kReady) {
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

std::optional<std::string> Conversation::read_line() {
    for (;;) {
        if (const size_t end = input_.find('\n'); end != std::string::npos) {
            std::string line = input_.substr(0, end);
            input_.erase(0, end + 1);
            return line;
        }
        char chunk[4096];
        const ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
        if (got > 0) {
            input_.append(chunk, static_cast<size_t>(got));
        } else if (!input_.empty()) {
            return std::exchange(input_, {});
        } else {
            return std::nullopt;
        }
    }
}

void Conversation::freeze(const std::string& path) {
    const auto image = live_.actor->freeze(path, {});
    if (!image.ok()) {
        report(image.error(), Format::kText);
        return;
    }
    std::fprintf(stderr, "frozen: %s (%s, %s on disk). Go on with: driftwood thaw %s\n", path.c_str(),
                 human_bytes(image->file_bytes).c_str(), human_bytes(image->disk_bytes).c_str(), path.c_str());
}

Conversation::Line Conversation::command(const std::string& line) {
    if (line == "/quit" || line == "/exit") return Line::kQuit;
    if (line.rfind("/freeze ", 0) == 0) {
        freeze(line.substr(line.find_first_not_of(' ', 7)));
    } else if (line == "/stats") {
        for (const session::Session* session : live_.actor->sessions()) {
            std::fprintf(stderr, "conversation: %zu tokens, %u computed, %zu KV blocks\n", session->tokens().size(),
                         session->computed(), session->blocks().size());
        }
        std::fprintf(stderr, "guest: %s of linear memory, %llu turns\n",
                     human_bytes(live_.actor->instance().memory().size()).c_str(),
                     static_cast<unsigned long long>(live_.actor->turns()));
    } else {
        std::fprintf(stderr, "%s\n%.*s",
                     line == "/help" ? "Commands:" : "No such command. These are:", static_cast<int>(kHelp.size()),
                     kHelp.data());
    }
    return Line::kContinue;
}

Result<void> Conversation::interact() {
    const bool terminal = isatty(STDIN_FILENO) == 1;
    const auto while_answering = [&](const actor::Step&) {
        if (terminal && line_is_waiting()) {
            if (const auto line = read_line(); !line) {
                quit_ = true;
            } else if (!line->empty() && line->front() == '/') {
                quit_ = command(*line) == Line::kQuit;
            } else if (!line->empty()) {
                if (const auto sent = say(*line); !sent.ok()) report(sent.error(), Format::kText);
            }
        }
        return quit_;
    };
    for (;;) {
        DW_ASSIGN(const Pause pause, advance(while_answering));
        if (std::exchange(mid_line_, false)) std::fputc('\n', stdout);
        if (pause == Pause::kStopped) {
            std::fprintf(stderr, "the actor has stopped (exit code %d)\n", live_.actor->exit_code().value_or(0));
            return {};
        }
        if (quit_) return {};
        if (terminal) std::fputs("> ", stderr);
        const auto line = read_line();
        if (!line) return {};
        if (line->empty()) continue;
        if (line->front() == '/') {
            if (command(*line) == Line::kQuit) return {};
            continue;
        }
        if (const auto sent = say(*line); !sent.ok()) report(sent.error(), Format::kText);
    }
}

}  // namespace driftwood::cli
