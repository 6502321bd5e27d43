// A guest that tests the C++ SDK from inside: what `chat` and `picker` do not use. For each message it takes the next
// stop, and replies with "fine", or with the line that is not.
#include <driftwood/actor.h>

#include <array>
#include <cmath>

namespace {

using driftwood::Bf16;
using driftwood::F16;
using driftwood::Matrix;

int wrong = 0;  // the first line at which something is not as it should be

void expect(bool right, int line = __builtin_LINE()) {
    if (!right && wrong == 0) wrong = line;
}

driftwood::Task tensors() {
    std::array<float, 6> a = {1, 2, 3, 4, 5, 6};
    std::array<F16, 6> b = {F16{0x3C00}, {0}, {0}, {0}, {0x4000}, {0}};  // 1 0 0, 0 2 0
    std::array<float, 4> c = {9, 9, 9, 9};
    const Matrix<float> in{a.data(), 2, 3};
    const Matrix<F16> weights{b.data(), 2, 3};
    const Matrix<float> out{c.data(), 2, 2};
    expect(co_await driftwood::gemm(out, in, weights.transpose()) == 0);
    expect(c == std::array<float, 4>{1, 4, 4, 10});
    expect(co_await driftwood::gemm(out, in, weights.transpose(), driftwood::Accumulate::kYes) == 0);
    expect(c == std::array<float, 4>{2, 8, 8, 20});
    std::array<Bf16, 4> narrow = {};
    expect(co_await driftwood::gemm(Matrix<Bf16>{narrow.data(), 2, 2}, in, weights.transpose()) == 0);
    expect(narrow[3].bits == 0x4120);
    expect(co_await driftwood::gemm(out, in, weights) == -DRIFTWOOD_EINVAL);
    expect(co_await driftwood::gemm(out, in, Matrix<float>{c.data(), 3, 2}) == -DRIFTWOOD_EINVAL);  // over itself

    std::array<float, 2> bias = {0.5F, -0.5F};
    const Matrix<float> one_row{bias.data(), 1, 2};
    c = {1, 4, 4, 10};
    expect(co_await driftwood::add(out, out, one_row) == 0);
    expect(c == std::array<float, 4>{1.5F, 3.5F, 4.5F, 9.5F});
    expect(co_await driftwood::multiply(out, out, one_row) == 0);
    expect(c == std::array<float, 4>{0.75F, -1.75F, 2.25F, -4.75F});
    std::array<float, 4> other = {};
    const Matrix<float> there{other.data(), 2, 2};
    expect(co_await driftwood::silu(there, out) == 0);
    expect(std::abs(other[0] - 0.75F / (1 + std::exp(-0.75F))) < 1e-6F);
    expect(co_await driftwood::silu_multiply(out, out, there) == 0);
    expect(co_await driftwood::rms_norm(out, out, one_row, 1e-5F) == 0);
    expect(co_await driftwood::softmax(out, out) == 0);
    expect(std::abs(c[0] + c[1] - 1) < 1e-5F);
}

driftwood::Task naps() {
    const int64_t before = driftwood::now_ns();
    expect(co_await driftwood::sleep(std::chrono::milliseconds(50)) == 0);
    expect(driftwood::now_ns() >= before + 50'000'000);
    expect(co_await driftwood::sleep(std::chrono::seconds(-1)) == -DRIFTWOOD_EINVAL);
}

driftwood::Task words() {
    const auto tokens = driftwood::tokenize("the sea, and all of it");
    expect(tokens.has_value() && driftwood::detokenize(*tokens) == "the sea, and all of it");
    expect(!driftwood::tokenize("\xff"));
    const uint32_t none[] = {driftwood::model_info().vocab};
    expect(!driftwood::detokenize(none));
    auto session = driftwood::Session::open();
    expect(session.append("user", "hello") > 0);
    const int64_t asked = session.tokens();
    std::vector<float> logits(driftwood::model_info().vocab), again(logits.size());
    expect(co_await session.decode(*tokens, logits) == static_cast<int64_t>(logits.size()));
    expect(session.rewind_tokens(static_cast<uint32_t>(asked)) == 0);
    expect(co_await session.decode(*tokens, again) == static_cast<int64_t>(logits.size()));
    expect(again == logits);
    std::array<std::byte, 16> bytes = {};
    expect(driftwood::random(bytes) == 0 && bytes != std::array<std::byte, 16>{});
}

driftwood::Task tour() {
    for (;;) {
        const auto stop = co_await driftwood::receive();
        if (stop == "tensors") co_await tensors();
        if (stop == "naps") co_await naps();
        if (stop == "words") co_await words();
        driftwood::reply(wrong == 0 ? "fine" : "wrong at line " + std::to_string(wrong));
        driftwood::end_reply();
    }
}

}  // namespace

DRIFTWOOD_ACTOR(tour)
