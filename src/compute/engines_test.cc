// Which engine a name makes, the bits that all of them have on every machine, and which specs they refuse.
#include <algorithm>
#include <functional>
#include <limits>
#include <string>

#include "compute/engine.h"
#include "compute/engine_test.h"

namespace driftwood::compute {
namespace {

TEST(engines, auto_is_the_first_that_this_machine_runs) {
    const TestModel model = make_test_model({}, 1);
    const auto engine = test_engine("auto", model.spec);
    const auto all = engines();
    const auto first = std::find_if(all.begin(), all.end(), [](const EngineInfo& info) { return info.available; });
    EXPECT_EQ(engine->name(), first->name);
}

TEST(engines, auto_takes_every_type_of_weights_and_a_card_does_too) {
    for (uint32_t i = 0; i < kWeightTypes; ++i) {
        const auto type = static_cast<WeightType>(i);
        if (is_plain_float(type)) continue;  // these multiply as W16
        for (const ActivationBits bits : {ActivationBits::k8, ActivationBits::k16}) {
            const TestModel model = make_test_model({.d_model = 256,
                                                     .head_dim = 64,
                                                     .d_ff = 256,
                                                     .type = type,
                                                     .second_type = WeightType::kQ6_K,
                                                     .activation_bits = bits},
                                                    1);
            for (const char* name : {"auto", "cuda"}) {
                if (name == std::string_view("cuda") && !engine_available(name)) continue;
                const auto engine = make_engine(name, model.spec, {.threads = 1, .kv_blocks = 4});
                EXPECT_TRUE(engine.ok()) << engine.error().message;
            }
        }
    }
}

TEST(engines, an_unknown_name_is_an_error_that_lists_the_known_ones) {
    const TestModel model = make_test_model({}, 1);
    const auto engine = make_engine("abacus", model.spec, {});
    ASSERT_FALSE(engine.ok());
    EXPECT_EQ(engine.error().code, ErrorCode::kNotFound);
    EXPECT_NE(engine.error().message.find("reference"), std::string::npos);
}

// FNV-1a (Fowler, Noll, Vo).
uint64_t hash_of(const void* bytes, size_t size, uint64_t hash) {
    for (size_t i = 0; i < size; ++i) hash = (hash ^ static_cast<const uint8_t*>(bytes)[i]) * 0x100000001B3U;
    return hash;
}

// Engines are compared with the reference of the same machine elsewhere; this compares machines.
TEST(engines, logits_and_kv_have_these_bits_on_every_machine) {
    const std::pair<WeightType, uint64_t> kKnown[] = {
        {WeightType::kQ8_0, 0xa1372e70cc52036fU}, {WeightType::kQ4_0, 0x1db84c9392b0ec69U},
        {WeightType::kQ5_1, 0xcb02e775957c50feU}, {WeightType::kQ4_K, 0x573c8c3cf02ad2c5U},
        {WeightType::kQ6_K, 0xe7352fca905897feU}, {WeightType::kW16, 0x97355bd896a17767U},
        {WeightType::kQ4_1, 0xa8cdc6a05d0442c1U}, {WeightType::kQ5_0, 0xcd945cad212c8b7fU},
        {WeightType::kQ5_K, 0xd7e319fa3b2b86bcU}, {WeightType::kQ4S, 0x710dcea7cc79248aU},
    };
    for (const auto& [type, known] : kKnown) {
        const TestShape shape{.d_model = 256, .head_dim = 64, .d_ff = 512, .type = type, .second_type = type};
        const TestModel model = make_test_model(shape, 7);
        const auto engine = test_engine("auto", model.spec);
        const TestSequence sequence = run_sequence(*engine, test_tokens(shape.vocab, 70, 8), 70);
        const std::vector<uint8_t> kv = sequence.kv(*engine);
        uint64_t hash = hash_of(sequence.logits.data(), sequence.logits.size() * sizeof(float), 0xCBF29CE484222325U);
        hash = hash_of(kv.data(), kv.size(), hash);
        EXPECT_EQ(hash, known) << weight_type_name(type) << ": 0x" << std::hex << hash;
    }
}

// ---- specs come from files

void expect_refused(const std::function<void(TestModel&)>& spoil, const std::string& named) {
    TestModel model = make_test_model({}, 1);
    ASSERT_TRUE(validate(model.spec).ok());
    spoil(model);
    const Result<void> result = validate(model.spec);
    ASSERT_FALSE(result.ok()) << named;
    EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(result.error().message.find(named), std::string::npos) << result.error().message;
}

TEST(decoder_spec, refuses_shapes_that_do_not_fit) {
    expect_refused([](TestModel& m) { m.spec.head_dim = 15; }, "head_dim");
    expect_refused([](TestModel& m) { m.spec.head_dim = 258; }, "head_dim");
    expect_refused([](TestModel& m) { m.spec.kv_heads = 3; }, "heads");
    expect_refused([](TestModel& m) { m.spec.kv_heads = 0; }, "kv_heads");
    expect_refused([](TestModel& m) { m.spec.heads = 0xFFFFFFFF; }, "heads");
    expect_refused([](TestModel& m) { m.spec.layers = 3; }, "layers");
    expect_refused([](TestModel& m) { m.spec.context = 1U << 30; }, "context");
    expect_refused([](TestModel& m) { m.spec.vocab = 101; }, "embedding");
    expect_refused([](TestModel& m) { m.spec.layer[1].wk.rows = 31; }, "layers.1.wk");
    expect_refused([](TestModel& m) { m.spec.layer[1].w_down.bytes = m.spec.layer[1].w_down.bytes.subspan(1); },
                   "layers.1.w_down");
    expect_refused([](TestModel& m) { m.spec.output_norm = m.spec.output_norm.subspan(1); }, "output_norm");
}

TEST(decoder_spec, refuses_numbers_that_are_not_finite_or_out_of_range) {
    expect_refused([](TestModel& m) { mutable_bytes(m.spec.layer[0].wo)[34 * 3 + 1] = 0x7C; }, "layers.0.wo");
    expect_refused([](TestModel& m) { m.norms[0][5] = std::numeric_limits<float>::quiet_NaN(); }, "layers.0.attn_norm");
    expect_refused([](TestModel& m) { m.spec.norm_eps = 0.0F; }, "norm_eps");
    expect_refused([](TestModel& m) { m.spec.rope_theta = std::numeric_limits<double>::quiet_NaN(); }, "rope_theta");
    expect_refused([](TestModel& m) { m.spec.rope_factors.assign(8, 0.0F); }, "rope_factors");
    expect_refused([](TestModel& m) { m.spec.rope_factors.assign(7, 1.0F); }, "rope_factors");
}

}  // namespace
}  // namespace driftwood::compute
