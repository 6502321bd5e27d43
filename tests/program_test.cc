// The program as a user meets it: commands, their JSON, their errors and exit codes.
// Long because: every command of the program is met here, through the same few helpers.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

#include "file/section.h"
#include "file/test_directory.h"
#include "model/synth.h"

namespace driftwood {
namespace {

using Json = nlohmann::json;

struct Outcome {
    int exit_code = -1;
    std::string output;  // stdout, and stderr where asked for
};

Outcome shell(const std::string& command) {
    Outcome outcome;
    FILE* const pipe = popen(command.c_str(), "r");
    char chunk[4096];
    for (size_t got = 0; (got = fread(chunk, 1, sizeof chunk, pipe)) > 0;) outcome.output.append(chunk, got);
    const int status = pclose(pipe);
    outcome.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return outcome;
}

// Runs the program without a terminal.
Outcome driftwood(const std::string& arguments, const std::string& redirect = "2>&1") {
    return shell(std::string(DRIFTWOOD_PROGRAM) + " " + arguments + " </dev/null " + redirect);
}

Json driftwood_json(const std::string& arguments) {
    const Outcome outcome = driftwood(arguments + " --json", "2>/dev/null");
    EXPECT_EQ(outcome.exit_code, 0) << outcome.output;
    return Json::parse(outcome.output, nullptr, false);
}

TEST(ProgramTest, demo_goes_on_bit_for_bit_after_a_kill) {
    const file::TestDirectory directory;
    const Json demo = driftwood_json("demo --keep-image " + directory.file("kept.actor"));
    ASSERT_TRUE(demo.is_object());
    EXPECT_EQ(demo["bits_differing"], 0);
    EXPECT_GT(demo["bits_compared"].get<uint64_t>(), 1'000'000U);
    EXPECT_FALSE(demo["conversation"]["before_freeze"].get<std::string>().empty());
    EXPECT_FALSE(demo["conversation"]["after_thaw"].get<std::string>().empty());
    EXPECT_GT(demo["tokens_reused"].get<int>(), 0);
    for (const char* what : {"text", "wasm.memory.0", "session.1.kv", "session.1.tokens", "session.1.logits",
                             "session.1.transcript", "session.1.state", "actor.state", "actor.module", "metadata"}) {
        bool found = false;
        for (const Json& row : demo["compared"]) found = found || (row["what"] == what && row["bits_compared"] > 0);
        EXPECT_TRUE(found) << what;
    }
    // The image that was kept is an actor like any other.
    const Outcome thawed = driftwood("thaw " + directory.file("kept.actor") + " --say 'What is my name?'");
    EXPECT_EQ(thawed.exit_code, 0) << thawed.output;
    EXPECT_NE(thawed.output.find("tokens reused"), std::string::npos) << thawed.output;
}

TEST(ProgramTest, run_freeze_thaw_in_another_directory) {
    const file::TestDirectory here, there;
    const Outcome ran = driftwood("run demo 'Hello, my name is Ada.' --freeze " + here.file("ada.actor"));
    ASSERT_EQ(ran.exit_code, 0) << ran.output;
    EXPECT_FALSE(ran.output.empty());
    const Json image = driftwood_json("inspect --verify " + here.file("ada.actor"));
    EXPECT_EQ(image["kind"], "actor image");
    EXPECT_EQ(image["hashes"], "all checked");
    std::filesystem::rename(here.file("ada.actor"), there.file("ada.actor"));
    const Outcome thawed = shell("cd " + there.path() + " && " + DRIFTWOOD_PROGRAM +
                                 " thaw ada.actor --say 'What is my name?' </dev/null 2>&1");
    EXPECT_EQ(thawed.exit_code, 0) << thawed.output;
}

TEST(ProgramTest, an_actor_that_sleeps_is_waited_for) {
    const Outcome ran = driftwood("actor run " DRIFTWOOD_GUESTS "/cpp_tour.wasm --say naps --say words", "2>/dev/null");
    EXPECT_EQ(ran.exit_code, 0);
    EXPECT_EQ(ran.output, "fine\nfine\n");
}

TEST(ProgramTest, an_image_that_others_could_change_is_imported_first) {
    const file::TestDirectory directory;
    ASSERT_EQ(driftwood("run demo Hello --freeze " + directory.file("a.actor")).exit_code, 0);
    std::filesystem::permissions(directory.file("a.actor"), std::filesystem::perms(0644));
    const Outcome thawed = driftwood("thaw " + directory.file("a.actor") + " --say 'How are you?'");
    EXPECT_EQ(thawed.exit_code, 0) << thawed.output;
    EXPECT_NE(thawed.output.find("imported"), std::string::npos) << thawed.output;
}

TEST(ProgramTest, thaw_names_the_model_it_needs_and_takes_another_when_told) {
    const file::TestDirectory directory;
    const auto bytes = model::synth_model({.context = 1024}, 5).value();
    file::write_all(directory.file("other.gguf"), bytes);
    ASSERT_EQ(
        driftwood("run " + directory.file("other.gguf") + " Hello --max-tokens 4 --freeze " + directory.file("a.actor"))
            .exit_code,
        0);
    const Outcome refused = driftwood("thaw " + directory.file("a.actor") + " --say Hi");
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.output.find("--model"), std::string::npos) << refused.output;
    const Json other = driftwood_json("inspect " + directory.file("other.gguf"));
    EXPECT_NE(refused.output.find(other["compute_identity"].get<std::string>()), std::string::npos) << refused.output;
    EXPECT_NE(refused.output.find(other["name"].get<std::string>()), std::string::npos) << refused.output;

    const Outcome same =
        driftwood("thaw " + directory.file("a.actor") + " --model " + directory.file("other.gguf") + " --say Hi");
    EXPECT_EQ(same.exit_code, 0) << same.output;
    EXPECT_NE(same.output.find(" 0 to prefill again"), std::string::npos) << same.output;
    const Outcome swapped = driftwood("thaw " + directory.file("a.actor") + " --model demo --say Hi");
    EXPECT_EQ(swapped.exit_code, 0) << swapped.output;
    EXPECT_NE(swapped.output.find(" 0 tokens reused"), std::string::npos) << swapped.output;
}

TEST(ProgramTest, thaw_names_the_activations_it_needs) {
    const file::TestDirectory directory;
    const std::string image = directory.file("a.actor");
    ASSERT_EQ(driftwood("run demo Hello --activations 8 --freeze " + image).exit_code, 0);
    const Outcome refused = driftwood("thaw " + image + " --say Hi");
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.output.find("add --activations 8"), std::string::npos) << refused.output;
    const Outcome same = driftwood("thaw " + image + " --activations 8 --say Hi");
    EXPECT_NE(same.output.find(" 0 to prefill again"), std::string::npos) << same.output;
    const Outcome again = driftwood("thaw " + image + " --model demo --say Hi");
    EXPECT_NE(again.output.find(" 0 tokens reused"), std::string::npos) << again.output;
}

TEST(ProgramTest, logits_do_not_depend_on_chunks_threads_or_engine) {
    const file::TestDirectory directory;
    const std::string common = "logits demo --tokens 5,17,99,300,7,42,11,250,3,9 --out " + directory.file("l.st");
    const Json one = driftwood_json(common + " --threads 1 --isa reference");
    ASSERT_TRUE(one["logits_blake3"].is_string());
    for (const char* more : {"--chunk 1", "--chunk 3 --threads 2", "--chunk 7 --isa reference", "--threads 3"})
        EXPECT_EQ(driftwood_json(common + " " + more)["logits_blake3"], one["logits_blake3"]) << more;
    const Json file = driftwood_json("inspect " + directory.file("l.st"));
    EXPECT_EQ(file["tensors"][0]["name"], "logits");
    EXPECT_EQ(file["tensors"][0]["dtype"], "F32");
    EXPECT_EQ(file["tensors"][0]["shape"][0], 10);
}

TEST(ProgramTest, chain_shows_one_pointer_and_no_errors_on_every_device) {
    const Json chain = driftwood_json("chain --quick");
    EXPECT_EQ(chain["pointer_identity"], true);
    EXPECT_EQ(chain["path"], "in_place");
    EXPECT_EQ(chain["errors"], 0);
    EXPECT_EQ(chain["elements"], 2 * 16384);
    EXPECT_EQ(chain["elements_differing_from_reference"], 0);
    EXPECT_GT(chain["guest_to_host_ns"].get<double>(), 0.0);
    ASSERT_EQ(chain["devices"].size(), 2U);
    for (const Json& device : chain["devices"]) {
        EXPECT_EQ(device["guest_pointer"], device["device_pointer"]);
        EXPECT_EQ(device["gemm"][0]["n"], 128);
        EXPECT_GT(device["gemm"][0]["rms_error"].get<double>(), 0.0);
        EXPECT_LT(device["gemm"][0]["largest_error"].get<double>(), 1e-4);
        // A copy is a second set of pages; work in place adds none.
        const Json& resident = device["resident"][0];
        const auto bytes = resident["bytes"].get<int64_t>();
        EXPECT_GE(resident["copied_resident_delta_bytes"].get<int64_t>(), bytes);
        EXPECT_LT(resident["in_place_resident_delta_bytes"].get<int64_t>(), bytes / 8);
    }
    const Json& actors = chain["actors"];
    EXPECT_GT(actors["birth_ms"].get<double>(), 0.0);
    EXPECT_GT(actors["idle_resident_bytes"].get<double>(), 0.0);
    EXPECT_LE(actors["idle_mappings"].get<double>(), 4.0);
}

TEST(ProgramTest, chain_takes_devices_sizes_and_threads_and_refuses_others) {
    const Json chain = driftwood_json("chain --quick --device cpu --sizes 33,70 --threads 3 --actors 5");
    ASSERT_EQ(chain["devices"].size(), 1U);
    EXPECT_EQ(chain["devices"][0]["device"], "cpu");
    EXPECT_EQ(chain["devices"][0]["gemm"][1]["n"], 70);
    EXPECT_EQ(chain["machine"]["threads"], 3);
    EXPECT_EQ(chain["actors"]["actors"], 5);
    EXPECT_EQ(chain["elements_differing_from_reference"], 0);
    for (const char* bad :
         {"--device abacus", "--sizes 0", "--sizes 100000", "--sizes x", "--threads 1025", "--actors 0"}) {
        EXPECT_EQ(driftwood(std::string("chain --quick ") + bad).exit_code, 2) << bad;
    }
    const Outcome text = driftwood("chain --quick --device cpu");
    EXPECT_EQ(text.exit_code, 0);
    EXPECT_NE(text.output.find("path: in_place"), std::string::npos) << text.output;
}

TEST(ProgramTest, tokenize_lists_tokens_that_spell_the_text) {
    const Json tokens = driftwood_json("tokenize demo 'My name is Ada.'");
    std::string spelled;
    for (const Json& token : tokens["tokens"]) spelled += token["text"].get<std::string>();
    EXPECT_EQ(spelled, "My name is Ada.");
}

TEST(ProgramTest, synth_writes_a_model_once_and_the_same_from_the_same_seed) {
    const file::TestDirectory directory;
    const std::string shape =
        " --like demo --layers 1 --d-model 64 --heads 2 --kv-heads 1 --head-dim 32 --d-ff 96 --vocab 600";
    const Json one = driftwood_json("synth " + directory.file("a.gguf") + shape + " --seed 3");
    EXPECT_EQ(one["bytes"], std::filesystem::file_size(directory.file("a.gguf")));
    ASSERT_EQ(driftwood("synth " + directory.file("b.gguf") + shape + " --seed 3").exit_code, 0);
    ASSERT_EQ(driftwood("synth " + directory.file("c.gguf") + shape + " --seed 4").exit_code, 0);
    const auto identity = [&](const char* name) {
        return driftwood_json("inspect " + directory.file(name))["compute_identity"];
    };
    EXPECT_EQ(identity("a.gguf"), identity("b.gguf"));
    EXPECT_NE(identity("a.gguf"), identity("c.gguf"));
    EXPECT_EQ(driftwood_json("inspect " + directory.file("a.gguf"))["vocab"], 600);

    for (const char* quant : {"q4_0", "Q5_1", "f16"}) {
        ASSERT_EQ(driftwood("synth --force " + directory.file("t.gguf") + shape + " --quant " + quant).exit_code, 0);
        EXPECT_NE(identity("t.gguf"), identity("a.gguf")) << quant;
    }
    EXPECT_EQ(driftwood("synth --force " + directory.file("t.gguf") + shape + " --quant q9").exit_code, 1);

    const Outcome refused = driftwood("synth " + directory.file("a.gguf") + shape);
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.output.find("--force"), std::string::npos) << refused.output;
    EXPECT_EQ(identity("a.gguf"), identity("b.gguf"));
    EXPECT_EQ(driftwood("synth --force " + directory.file("a.gguf") + shape + " --seed 4").exit_code, 0);
    EXPECT_EQ(identity("a.gguf"), identity("c.gguf"));

    const Outcome nonsense = driftwood("synth " + directory.file("d.gguf") + " --like demo --kv-heads 4");
    EXPECT_EQ(nonsense.exit_code, 1);
    EXPECT_NE(nonsense.output.find("kv_heads"), std::string::npos) << nonsense.output;
    EXPECT_FALSE(std::filesystem::exists(directory.file("d.gguf")));
}

// Q4S is in safetensors files of our own: every command that takes a model takes one.
TEST(ProgramTest, a_model_in_q4s_is_run_frozen_thawed_and_measured_like_any_other) {
    const file::TestDirectory directory;
    const std::string model = directory.file("q.safetensors"), image = directory.file("a.actor");
    const std::string shape = " --like demo --layers 2 --d-model 256 --heads 4 --d-ff 512 --vocab 600 --context 1024";
    const Json made = driftwood_json("synth " + model + shape + " --quant q4s --seed 3");
    EXPECT_EQ(made["bytes"], std::filesystem::file_size(model));
    ASSERT_EQ(driftwood("synth " + directory.file("other.safetensors") + shape + " --quant q4s --seed 4").exit_code, 0);
    const Json described = driftwood_json("inspect " + model);
    EXPECT_EQ(described["kind"], "model");
    EXPECT_EQ(described["vocab"], 600);
    EXPECT_NE(driftwood_json("inspect " + directory.file("other.safetensors"))["compute_identity"],
              described["compute_identity"]);

    // The name says which format is meant; not every format has every type.
    const std::string floats = directory.file("f16.safetensors");
    ASSERT_EQ(driftwood("synth " + floats + shape + " --quant f16").exit_code, 0);
    EXPECT_EQ(driftwood_json("inspect " + floats)["kind"], "model");
    const std::string begin(1, static_cast<char>(file::read_all(floats)[8]));
    EXPECT_EQ(begin, "{");
    for (const auto& [name, quant] : {std::pair{"x.gguf", "q4s"}, std::pair{"x.safetensors", "q8_0"}}) {
        const Outcome none = driftwood("synth " + directory.file(name) + shape + " --quant " + quant);
        EXPECT_EQ(none.exit_code, 1) << none.output;
        EXPECT_NE(none.output.find("has no such type"), std::string::npos) << none.output;
    }

    ASSERT_EQ(driftwood("run " + model + " Hello --max-tokens 4 --freeze " + image).exit_code, 0);
    const Outcome refused = driftwood("thaw " + image + " --say Hi");
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.output.find(described["compute_identity"].get<std::string>()), std::string::npos);
    const Outcome same = driftwood("thaw " + image + " --model " + model + " --say Hi");
    EXPECT_EQ(same.exit_code, 0) << same.output;
    EXPECT_NE(same.output.find(" 0 to prefill again"), std::string::npos) << same.output;
    const Outcome other = driftwood("thaw " + image + " --model " + directory.file("other.safetensors") + " --say Hi");
    EXPECT_EQ(other.exit_code, 0) << other.output;
    EXPECT_NE(other.output.find(" 0 tokens reused"), std::string::npos) << other.output;

    const std::string logits =
        "logits " + model + " --tokens 5,17,99,300,7,42,11,250,3,9 --out " + directory.file("l.st");
    EXPECT_EQ(driftwood_json(logits + " --isa reference")["logits_blake3"],
              driftwood_json(logits + " --chunk 3 --threads 2")["logits_blake3"]);
    EXPECT_EQ(driftwood_json("tokenize " + model + " 'the tea'")["tokens"][0]["text"], "th");
    EXPECT_EQ(driftwood("bench -m " + model + " -p 8 -n 2 -r 1").exit_code, 0);
    for (const char* weights : {"map", "copy"}) {
        const bool copied = weights == std::string("copy");
        const std::string option = " --weights " + std::string(weights);
        EXPECT_EQ(driftwood_json(logits + option)["logits_blake3"], driftwood_json(logits)["logits_blake3"]);
        EXPECT_EQ(driftwood_json("doctor --device reference --model " + model + option)["weights"]["copied"], copied);
        const Outcome rows = driftwood("bench -m " + model + " -p 0 -n 1 -r 1 -o json" + option, "2>/dev/null");
        EXPECT_EQ(Json::parse(rows.output, nullptr, false)[0]["use_mmap"], !copied) << rows.output;
    }
    EXPECT_EQ(driftwood("run " + model + " Hello --weights elsewhere").exit_code, 2);
    const Outcome actor = driftwood("actor run " DRIFTWOOD_GUESTS "/cpp_tour.wasm --say words --model " + model);
    EXPECT_EQ(actor.exit_code, 0) << actor.output;

    auto bytes = file::read_all(model);
    bytes[bytes.size() / 2] ^= 1;
    file::write_all(model, bytes);
    for (const char* command : {"run ", "inspect ", "bench -m ", "tokenize "}) {
        const Outcome damaged = driftwood(command + model + (command[0] == 't' ? " Hello" : ""));
        EXPECT_EQ(damaged.exit_code, 1) << command << damaged.output;
        EXPECT_NE(damaged.output.find("do not match their hash"), std::string::npos) << command << damaged.output;
    }
    const Outcome image_as_model = driftwood("run " + image + " Hello");
    EXPECT_NE(image_as_model.output.find("'driftwood actor image', supported is 'driftwood model'"), std::string::npos)
        << image_as_model.output;
}

TEST(ProgramTest, bench_measures_what_it_was_asked_for) {
    const Outcome ran =
        driftwood("bench -m demo -p 8,16 -n 2 -d 0,70 -t 1,2 --sessions 1,3 -r 2 -o json", "2>/dev/null");
    ASSERT_EQ(ran.exit_code, 0) << ran.output;
    const Json rows = Json::parse(ran.output, nullptr, false);
    ASSERT_TRUE(rows.is_array()) << ran.output;
    EXPECT_EQ(rows.size(), 3U * 2 * 2 * 2);
    for (const Json& row : rows) {
        EXPECT_EQ(row["n_prompt"].get<int>() == 0, row["n_gen"].get<int>() != 0);
        EXPECT_EQ(row["samples_ts"].size(), 2U);
        const double tokens =
            row["n_sessions"].get<double>() * (row["n_prompt"].get<double>() + row["n_gen"].get<double>());
        EXPECT_NEAR(row["samples_ts"][0].get<double>() * row["samples_ns"][0].get<double>() * 1e-9, tokens,
                    tokens * 1e-9);
        EXPECT_GT(row["bandwidth_share"].get<double>(), 0.0);
        EXPECT_GT(row["peak_bytes_per_s"].get<double>(), 0.0);
    }
    const Outcome table = driftwood("bench -m demo -p 0 -n 1 -d 5 -r 1");
    EXPECT_NE(table.output.find("tg1 @ d5"), std::string::npos) << table.output;
    EXPECT_NE(table.output.find("weights: in the program"), std::string::npos) << table.output;
    const Outcome csv = driftwood("bench -m demo -p 4 -n 0 -r 1 -t 0 -o csv", "2>/dev/null");
    EXPECT_EQ(csv.output.find("cpu_info,"), 0U) << csv.output;
}

TEST(ProgramTest, bench_refuses_what_it_cannot_measure) {
    for (const char* arguments :
         {"bench -m demo -p 0 -n 0", "bench -m demo -p 1-", "bench -m demo -p 5-1", "bench -m demo -b 0",
          "bench -m demo -p 2-8*1", "bench -m demo -n 1 -d 1000000 -p 0", "bench -m demo --isa none",
          "bench -m /nowhere.gguf", "bench -m demo -p 99999999999", "bench --like nothing"}) {
        const Outcome refused = driftwood(arguments);
        EXPECT_EQ(refused.exit_code, 1) << arguments << ": " << refused.output;
        EXPECT_NE(refused.output.find("driftwood: ["), std::string::npos) << arguments << ": " << refused.output;
    }
}

// What a disk has no room for is said before a byte of it is written, and what an interrupted run left goes.
TEST(ProgramTest, models_of_random_weights_leave_room_on_the_disk) {
    const file::TestDirectory directory;
    const Outcome huge = driftwood("synth " + directory.file("h.gguf") +
                                   " --like demo --layers 1024 --d-model 1048576 --d-ff 1048576 --quant f32");
    EXPECT_EQ(huge.exit_code, 1);
    EXPECT_NE(huge.output.find("are free there"), std::string::npos) << huge.output;
    const Outcome short_rows = driftwood("synth " + directory.file("k.gguf") + " --like demo --quant q4_k");
    EXPECT_NE(short_rows.output.find("want a multiple of 256"), std::string::npos) << short_rows.output;
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));

    const std::string models = directory.path() + "/driftwood/models/";
    ASSERT_EQ(shell("mkdir -p " + models + " && touch " + models + ".driftwood-new.tmp && touch -d '2 hours ago' " +
                    models + ".driftwood-old.tmp")
                  .exit_code,
              0);
    for (const char* quant : {"q4_0", "Q4_0"}) {
        const Outcome measured =
            shell("env -u DRIFTWOOD_CACHE XDG_CACHE_HOME=" + directory.path() +
                  " " DRIFTWOOD_PROGRAM " bench --like demo --quant " + quant + " -p 1 -n 0 -r 1 2>&1");
        ASSERT_EQ(measured.exit_code, 0) << measured.output;
    }
    EXPECT_TRUE(std::filesystem::exists(models + ".driftwood-new.tmp"));
    EXPECT_FALSE(std::filesystem::exists(models + ".driftwood-old.tmp"));
    EXPECT_EQ(shell("ls " + models).output, "synth-demo-q4_0.gguf\n");
}

TEST(ProgramTest, load_refuses_what_it_cannot_do_and_says_why_an_answer_failed) {
    for (const auto& [arguments, names] :
         {std::pair{"--threads 100000", "--threads"}, std::pair{"--temperature -1", "--temperature"},
          std::pair{"--temperature nan", "--temperature"}, std::pair{"-m demo --like demo", "--like"},
          std::pair{"--wake 100000", "--wake 100000"}}) {
        const Outcome refused = driftwood(std::string("load --present 1 --total 1 ") + arguments);
        EXPECT_GE(refused.exit_code, 1) << arguments << ": " << refused.output;
        EXPECT_NE(refused.output.find(names), std::string::npos) << arguments << ": " << refused.output;
    }
    for (const char* kind : {"", " --sessions"}) {
        const Json too_long =
            driftwood_json("load --present 1 --total 1 --messages 1 --prompt 5000" + std::string(kind));
        EXPECT_EQ(too_long["failed_answers"], 1);
        EXPECT_NE(too_long["first_failure"].get<std::string>().find("context"), std::string::npos) << too_long;
    }
}

// Actors that were thawed keep their images open: more of them than a shell lets a program open files by default.
TEST(ProgramTest, load_thaws_more_actors_than_files_may_be_open_at_first) {
    const file::TestDirectory directory;
    file::write_all(directory.file("m.gguf"), model::synth_model({.context = 1024}, 5).value());
    const Outcome crowd =
        shell("ulimit -Sn 64; " DRIFTWOOD_PROGRAM " load -m " + directory.file("m.gguf") +
              " --present 100 --total 100 --gap 0 --messages 2 --prompt 4 --answer 2 --park-after 0 --park " +
              directory.file("parked") + " --json 2>&1");
    ASSERT_EQ(crowd.exit_code, 0) << crowd.output;
    const Json json = Json::parse(crowd.output, nullptr, false);
    EXPECT_EQ(json["fetched"], 100);
    EXPECT_EQ(json["failed_answers"], 0);
}

TEST(ProgramTest, load_computes_a_common_beginning_once_and_says_the_same) {
    for (const char* kind : {"", " --sessions"}) {
        const std::string crowd =
            "load --present 4 --total 8 --system 150 --prompt 8-20 --answer 4-8 --gap 6" + std::string(kind);
        const Json shared = driftwood_json(crowd), apart = driftwood_json(crowd + " --share-prefixes off");
        ASSERT_TRUE(shared.is_object() && apart.is_object());
        EXPECT_EQ(shared["digest"], apart["digest"]);
        EXPECT_EQ(shared["failed_answers"], 0);
        EXPECT_EQ(apart["reused_prompt_tokens"], 0);
        EXPECT_GE(shared["reused_prompt_tokens"], 4 * 128);
        EXPECT_EQ(shared["reused_prompt_tokens"].get<int>() + shared["computed_prompt_tokens"].get<int>(),
                  apart["computed_prompt_tokens"]);
        EXPECT_LT(shared["most_kv_blocks"], apart["most_kv_blocks"]);
    }
    EXPECT_NE(driftwood("load --share-prefixes some").exit_code, 0);
}

TEST(ProgramTest, load_parks_actors_that_wait_and_says_the_same) {
    const file::TestDirectory directory;
    const std::string crowd =
        "load --present 8 --total 8 --messages 3 --prompt 20-60 --answer 4-8 --gap 20 --pause 200";
    const Json stays = driftwood_json(crowd + " --park off"),
               parked = driftwood_json(crowd + " --park-after 0 --park " + directory.file("parked"));
    const Json marked = driftwood_json(crowd + " --park-above 2 --park " + directory.file("parked"));
    ASSERT_TRUE(stays.is_object() && parked.is_object() && marked.is_object());
    EXPECT_EQ(stays["parked"], 0);
    EXPECT_EQ(parked["parked"], 8 * 3);
    EXPECT_EQ(parked["fetched"], 8 * 2);
    EXPECT_GT(marked["parked"], 0);
    EXPECT_LT(marked["parked"], 8 * 3);
    for (const Json& one : {parked, marked}) {
        EXPECT_EQ(one["digest"], stays["digest"]);
        EXPECT_EQ(one["failed_answers"], 0);
        EXPECT_LT(one["most_bytes"].get<double>(), 0.8 * stays["most_bytes"].get<double>());
    }
    EXPECT_TRUE(std::filesystem::is_empty(directory.file("parked")));
    const Outcome refused = driftwood("load --park /dev/null/x");
    EXPECT_EQ(refused.exit_code, 1);
    EXPECT_NE(refused.output.find("/dev/null/x"), std::string::npos) << refused.output;
}

// Two lines to a conversation, the second when the first has been answered and, if asked for, its actor parked.
Outcome two_lines(const std::string& options, bool until_parked) {
    const file::TestDirectory directory;
    const std::string wait =
        until_parked ? "while read l <&5; do echo \"$l\"; case $l in parked*) break;; esac; done; " : "";
    return shell("cd " + directory.path() + " && mkfifo in out err && { " + DRIFTWOOD_PROGRAM + " run " + options +
                 " <in >out 2>err & } && exec 3>in 4<out 5<err && echo 'Hello! I am Ada.' >&3 && read a <&4 && " +
                 wait + "echo 'What is my name?' >&3 && read b <&4 && exec 3>&- && wait && echo \"$a / $b\"");
}

TEST(ProgramTest, an_actor_that_waits_for_a_line_is_parked_and_answers_with_the_same_bits) {
    const file::TestDirectory directory;
    const std::string frozen = directory.file("parked.actor"), want = directory.file("stayed.actor");
    const Outcome stayed = two_lines("--park off --freeze " + want, false);
    const Outcome parked = two_lines("--park-after 0 --park " + directory.file("park") + " --freeze " + frozen, true);
    ASSERT_EQ(stayed.exit_code, 0) << stayed.output;
    ASSERT_EQ(parked.exit_code, 0) << parked.output;
    EXPECT_NE(stayed.output.find("Ada"), std::string::npos) << stayed.output;
    EXPECT_TRUE(parked.output.ends_with(stayed.output)) << parked.output;
    EXPECT_EQ(parked.output.rfind("parked: ", 0), 0U) << parked.output;
    EXPECT_NE(parked.output.find("given back"), std::string::npos) << parked.output;
    EXPECT_TRUE(std::filesystem::is_empty(directory.file("park")));
    // KV, logits and tokens are the same bytes in both images.
    const auto a = file::SectionReader::open(frozen, file::SectionReader::Hashes::kRequired);
    const auto b = file::SectionReader::open(want, file::SectionReader::Hashes::kRequired);
    ASSERT_TRUE(a.ok() && b.ok());
    for (const auto& [name, tensor] : b->tensors()) {
        if (!name.starts_with("session.")) continue;
        const auto of_a = a->bytes(a->tensors().at(name)), of_b = b->bytes(tensor);
        EXPECT_TRUE(std::equal(of_a.begin(), of_a.end(), of_b.begin(), of_b.end())) << name;
    }
}

TEST(ProgramTest, errors_name_the_thing_and_set_the_exit_code) {
    const Outcome missing = driftwood("thaw /nonexistent/ada.actor");
    EXPECT_EQ(missing.exit_code, 1);
    EXPECT_NE(missing.output.find("/nonexistent/ada.actor"), std::string::npos) << missing.output;
    const file::TestDirectory directory;
    file::write_all(directory.file("junk.wasm"), file::random_bytes(1000, 1));
    const Outcome junk = driftwood("actor run " + directory.file("junk.wasm"));
    EXPECT_EQ(junk.exit_code, 1) << junk.output;
    EXPECT_EQ(driftwood("logits demo --tokens 99999999 --out " + directory.file("x")).exit_code, 1);
    EXPECT_EQ(driftwood("frobnicate").exit_code, 2);
    EXPECT_EQ(driftwood("run demo hi --isa pdp11").exit_code, 1);
}

TEST(ProgramTest, a_file_of_another_kind_is_named_as_that) {
    const file::TestDirectory directory;
    const std::string gguf = directory.file("m.gguf"), model = directory.file("m.safetensors"),
                      image = directory.file("a.actor");
    const std::string shape = " --like demo --layers 1 --d-model 256 --heads 4 --kv-heads 4 --head-dim 64 --d-ff 256";
    ASSERT_EQ(driftwood("synth " + gguf + shape).exit_code, 0);
    ASSERT_EQ(driftwood("synth " + model + shape + " --quant q4s").exit_code, 0);
    ASSERT_EQ(driftwood("run demo Hello --max-tokens 2 --freeze " + image).exit_code, 0);
    for (const auto& [arguments, named] :
         {std::pair{"thaw " + gguf, "GGUF"}, std::pair{"thaw " + model, "driftwood model"},
          std::pair{"run " + image + " Hi", "driftwood actor image"},
          std::pair{std::string("run " DRIFTWOOD_PROGRAM " Hi"), "GGUF"}, std::pair{"doctor " + gguf, "'asm'"},
          std::pair{"actor run " + model, "'asm'"},
          std::pair{std::string("thaw " DRIFTWOOD_PROGRAM), "not a safetensors file"}}) {
        const Outcome refused = driftwood(arguments);
        EXPECT_EQ(refused.exit_code, 1) << arguments;
        EXPECT_NE(refused.output.find(named), std::string::npos) << arguments << ": " << refused.output;
        EXPECT_LT(refused.output.size(), 400U) << refused.output;
    }
}

TEST(ProgramTest, names_that_are_no_files_are_errors_and_stay_what_they_are) {
    const file::TestDirectory directory;
    const std::string pipe = directory.file("pipe");
    ASSERT_EQ(shell("mkfifo " + pipe).exit_code, 0);
    const std::string freeze = "run demo Hello --max-tokens 2 --freeze ";
    EXPECT_EQ(driftwood(freeze + pipe).exit_code, 1);
    EXPECT_TRUE(std::filesystem::is_fifo(pipe));
    EXPECT_EQ(driftwood(freeze + "''").exit_code, 1);
    for (const std::string& bad : {pipe, directory.path(), std::string(5000, 'a'), std::string("/dev/zero")}) {
        for (const char* command : {"thaw ", "inspect ", "actor run ", "run "})
            EXPECT_EQ(driftwood(command + bad).exit_code, 1) << command << bad;
    }
    EXPECT_EQ(shell("TMPDIR=/nonexistent " DRIFTWOOD_PROGRAM " demo 2>/dev/null").exit_code, 1);
}

TEST(ProgramTest, lines_of_input_are_messages_or_commands) {
    const file::TestDirectory directory;
    const std::string into = std::string(" | ") + DRIFTWOOD_PROGRAM + " run 2>&1";
    const Outcome talked =
        shell("printf '/freeze   \\n/freeze\\n/freeze " + directory.file("q.actor") + "  \\n/quit\\n'" + into);
    EXPECT_EQ(talked.exit_code, 0) << talked.output;
    EXPECT_TRUE(std::filesystem::exists(directory.file("q.actor"))) << talked.output;
    const Outcome endless = shell("head -c 3000000 /dev/zero" + into);
    EXPECT_EQ(endless.exit_code, 1) << endless.output;
    EXPECT_NE(endless.output.find("[stdin]"), std::string::npos) << endless.output;
}

TEST(ProgramTest, output_that_could_not_be_written_is_a_failure) {
    EXPECT_EQ(shell(DRIFTWOOD_PROGRAM " tokenize demo Hello >/dev/full 2>/dev/null").exit_code, 1);
}

TEST(ProgramTest, a_file_that_may_not_grow_further_is_an_error_and_leaves_nothing) {
    const file::TestDirectory directory;
    const Outcome cut = shell("ulimit -f 8; " DRIFTWOOD_PROGRAM " logits demo --tokens 1,2,3 --out " +
                              directory.file("l.st") + " 2>&1");
    EXPECT_EQ(cut.exit_code, 1) << cut.output;
    EXPECT_NE(cut.output.find("l.st"), std::string::npos) << cut.output;
    EXPECT_TRUE(std::filesystem::is_empty(directory.path()));
}

TEST(ProgramTest, a_message_that_is_not_utf8_is_named_as_that) {
    const Outcome refused = driftwood("run demo \"$(printf '\\377')\"");
    EXPECT_NE(refused.output.find("not UTF-8"), std::string::npos) << refused.output;
    EXPECT_EQ(refused.output.find("filled"), std::string::npos) << refused.output;
}

// A guest whose driftwood_start traps, with or without driftwood_complete.
std::vector<uint8_t> small_guest(bool complete) {
    std::vector<uint8_t> bytes = {0, 'a', 's', 'm', 1, 0, 0, 0};
    const auto section = [&](uint8_t id, const std::string& body) {
        bytes.push_back(id);
        bytes.push_back(static_cast<uint8_t>(body.size()));
        bytes.insert(bytes.end(), body.begin(), body.end());
    };
    using namespace std::string_literals;
    section(1, "\x02\x60\x00\x00\x60\x02\x7e\x7e\x00"s);
    section(3, "\x02\x00\x01"s);
    section(5, "\x01\x00\x01"s);
    section(7, (complete ? "\x03"s : "\x02"s) +
                   "\x06memory\x02\x00"
                   "\x0f"
                   "driftwood_start\x00\x00"s +
                   (complete ? "\x12"
                               "driftwood_complete\x00\x01"s
                             : ""s));
    section(10, "\x02\x03\x00\x00\x0b\x02\x00\x0b"s);  // start traps
    return bytes;
}

TEST(ProgramTest, doctor_says_how_an_engine_divides_its_memory) {
    const Json plan = driftwood_json("doctor --device reference");
    EXPECT_EQ(plan["engine"], "reference");
    ASSERT_EQ(plan["memory"].size(), 2U);
    EXPECT_EQ(plan["memory"][0]["what"], "weights");
    EXPECT_GT(plan["memory"][0]["bytes"], 1'000'000);
    EXPECT_EQ(plan["memory"][1]["bytes"].get<uint64_t>(),
              plan["blocks"].get<uint64_t>() * plan["block_bytes"].get<uint64_t>());
    EXPECT_GT(plan["conversations"], 0);
    // A card, or a message that says what is missing.
    const Outcome card = driftwood("doctor --device cuda");
    EXPECT_TRUE(card.exit_code == 0 || card.output.find("needs") != std::string::npos) << card.output;
    EXPECT_EQ(driftwood("doctor").exit_code, 2);
    EXPECT_EQ(driftwood("doctor x.wasm --device cuda").exit_code, 2);
    EXPECT_EQ(driftwood("doctor x.wasm --model demo").exit_code, 2);
}

TEST(ProgramTest, doctor_says_whether_a_guest_would_run_and_why_not) {
    const file::TestDirectory directory;
    file::write_all(directory.file("good.wasm"), small_guest(true));
    file::write_all(directory.file("bad.wasm"), small_guest(false));
    file::write_all(directory.file("noise.wasm"), file::random_bytes(5000, 1));
    const Json good = driftwood_json("doctor " + directory.file("good.wasm"));
    EXPECT_EQ(good["starts"], true);
    EXPECT_EQ(good["freezes"], true);
    EXPECT_EQ(good["exports"].size(), 3u);
    const Outcome bad = driftwood("doctor " + directory.file("bad.wasm"));
    EXPECT_EQ(bad.exit_code, 1);
    EXPECT_NE(bad.output.find("export driftwood_complete: the module lacks it"), std::string::npos) << bad.output;
    EXPECT_NE(bad.output.find("fix: link an SDK"), std::string::npos) << bad.output;
    for (const std::string& name : {directory.file("noise.wasm"), directory.file("missing.wasm"), directory.path()}) {
        const Outcome none = driftwood("doctor " + name);
        EXPECT_EQ(none.exit_code, 1) << none.output;
        EXPECT_NE(none.output.find(name), std::string::npos) << none.output;
    }
}

TEST(ProgramTest, the_trap_of_a_guest_names_its_function) {
    const file::TestDirectory directory;
    file::write_all(directory.file("trap.wasm"), small_guest(true));
    const Outcome trapped = driftwood("actor run " + directory.file("trap.wasm") + " --say hello");
    EXPECT_EQ(trapped.exit_code, 1);
    EXPECT_NE(trapped.output.find("`unreachable` instruction executed; at function 0"), std::string::npos)
        << trapped.output;
}

TEST(ProgramTest, the_second_start_of_a_guest_takes_its_code_from_the_cache) {
    const file::TestDirectory directory;
    const std::string image = directory.file("a.actor");
    const std::string cache = " --module-cache " + directory.file("modules");
    ASSERT_EQ(driftwood("run demo Hello --max-tokens 2 --freeze " + image + cache).exit_code, 0);
    EXPECT_NE(driftwood("thaw " + image + cache + " --say Hi").output.find("code from cache"), std::string::npos);
    EXPECT_NE(driftwood("thaw " + image + " --module-cache off --say Hi").output.find("compiled"), std::string::npos);
    std::filesystem::permissions(directory.file("modules"), std::filesystem::perms(0755));
    const Outcome open = driftwood("thaw " + image + cache + " --say Hi");
    EXPECT_EQ(open.exit_code, 0);
    EXPECT_NE(open.output.find("compiled anew"), std::string::npos) << open.output;
}

TEST(ProgramTest, help_teaches_every_command) {
    const std::string help = driftwood("--help").output;
    for (const char* command : {"run", "actor", "thaw", "doctor", "inspect", "demo", "chain", "logits", "tokenize"}) {
        EXPECT_NE(help.find(command), std::string::npos) << command;
        EXPECT_EQ(driftwood(std::string(command) + " --help").exit_code, 0) << command;
    }
    EXPECT_EQ(help.find("demo-worker"), std::string::npos);
}

}  // namespace
}  // namespace driftwood
