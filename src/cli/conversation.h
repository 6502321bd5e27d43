// Talking with one actor: drives its steps, performs its effects (replies to stdout, logs to stderr) and,
// interactively, reads lines and commands from stdin.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "node/node.h"
#include "node/parking.h"

namespace driftwood::cli {

class Conversation {
  public:
    explicit Conversation(node::LiveActor live);

    struct Sink {
        std::function<void(std::string_view bytes, bool last)> reply;
        std::function<void(int32_t level, std::string_view line)> log;
    };
    // Where effects go; the default writes to stdout and stderr.
    void set_sink(Sink sink) { sink_ = std::move(sink); }

    // Steps the actor until it waits for a message, has stopped, or `stop` (asked after each step) says so. An actor
    // that sleeps and does not listen is waited for. A failed actor is an error.
    enum class Pause { kWaiting, kStopped, kAsked };
    Result<Pause> advance(const std::function<bool(const actor::Step&)>& stop = {});

    Result<void> say(std::string_view message) { return live_.actor->send(message); }
    actor::Actor& actor() { return *live_.actor; }
    // Writes the actor's image and says on stderr how to go on with it.
    Result<void> freeze(const std::string& path);
    // How `thaw` has to be told the model ("--model m.gguf"); empty when it need not be.
    void set_thaw_hint(std::string hint) { thaw_hint_ = std::move(hint); }

    // Parks the actor while it waits for a line for longer than the policy's idle time. `parking` outlives interact().
    void set_parking(node::Parking& parking) { parking_ = &parking; }

    // Reads messages from stdin until its end or /quit; /help lists the commands. With a terminal, commands also work
    // while the actor is answering.
    Result<void> interact();

  private:
    enum class Line { kContinue, kQuit };
    Line command(const std::string& line);
    Line take(const std::string& line);  // a command or a message
    // Nothing at the end of input; kLimit for a line that cannot be a message.
    Result<std::optional<std::string>> read_line();
    bool line_is_waiting() const;
    // Until there is input; the actor is parked meanwhile if that takes long.
    Result<void> wait_for_input();

    node::LiveActor live_;
    node::Parking* parking_ = nullptr;
    Sink sink_;
    std::string thaw_hint_;
    bool mid_line_ = false;  // stdout is inside an answer
    bool quit_ = false;
    std::string input_;    // read and not yet taken
    size_t searched_ = 0;  // of it, without a newline
};

}  // namespace driftwood::cli
