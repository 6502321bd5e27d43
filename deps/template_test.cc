// Chat templates through the C interface.
#include <gtest/gtest.h>

#include "shim_test.h"

namespace driftwood::deps {
namespace {

constexpr uint64_t kFuel = 100'000;
constexpr int64_t kNoon = 1'700'000'000;  // 2023-11-14 22:13:20 UTC

struct Rendered {
    int32_t status;
    std::string text;
    std::string error;
};

Rendered render(std::string_view source, std::string_view context, uint64_t fuel = kFuel) {
    Buf text, error;
    int32_t status = dwd_template_render(raw(source), source.size(), raw(context), context.size(), kNoon, fuel,
                                         text.out(), error.out());
    return {status, text.str(), error.str()};
}

// The shape of ChatML templates as models carry them.
constexpr std::string_view kChatMl = R"({%- if messages[0]['role'] == 'system' %}
    {%- set rest = messages[1:] %}
{%- else %}
    {%- set rest = messages %}
{%- endif %}
{%- for message in rest %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant') }}
    {%- endif %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'].strip() + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %})";

TEST(Template, renders_a_conversation) {
    Rendered r = render(kChatMl, R"({"messages":[{"role":"system","content":"Be brief."},
        {"role":"user","content":" Hi "},{"role":"assistant","content":"Hello"},{"role":"user","content":"Bye"}],
        "add_generation_prompt":true})");
    ASSERT_EQ(r.status, DWD_OK) << r.error;
    EXPECT_EQ(
        r.text,
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n");
}

TEST(Template, raise_exception_is_a_refusal_with_the_templates_words_and_line) {
    Rendered r = render(kChatMl, R"({"messages":[{"role":"assistant","content":"me first"}]})");
    EXPECT_EQ(r.status, DWD_REFUSED);
    EXPECT_TRUE(contains(r.error, "roles must alternate")) << r.error;
    EXPECT_TRUE(contains(r.error, "chat template:8")) << r.error;
}

TEST(Template, a_syntax_error_names_its_line) {
    Rendered r = render("fine\nfine\n{% if %}", "{}");
    EXPECT_EQ(r.status, DWD_INVALID);
    EXPECT_TRUE(contains(r.error, "chat template:3")) << r.error;
}

TEST(Template, a_missing_value_used_as_an_object_is_an_error) {
    Rendered r = render("{{ absent }}\n{{ absent.field }}", "{}");
    EXPECT_EQ(r.status, DWD_INVALID);
    EXPECT_TRUE(contains(r.error, ":2")) << r.error;
}

TEST(Template, an_endless_template_runs_out_of_fuel) {
    Rendered r =
        render("{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}", "{}");
    EXPECT_EQ(r.status, DWD_INVALID);
    EXPECT_TRUE(contains(r.error, "fuel")) << r.error;
    EXPECT_EQ(render("{% for a in range(10) %}{{ a }}{% endfor %}", "{}").text, "0123456789");
    EXPECT_EQ(render("{% for a in range(10) %}{{ a }}{% endfor %}", "{}", 5).status, DWD_INVALID);
}

TEST(Template, endless_recursion_is_an_error) {
    Rendered r = render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{}", UINT64_MAX);
    EXPECT_EQ(r.status, DWD_INVALID) << r.text.size();
}

TEST(Template, python_methods_loop_controls_and_block_trimming_work) {
    EXPECT_EQ(render("{{ 'a,b'.split(',')[1].upper() }}{{ {'k': 1}.get('k') }}{{ 'xyz'.startswith('xy') }}", "{}").text,
              "B1True");
    EXPECT_EQ(render("{% for i in [1,2,3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{}").text, "1");
    EXPECT_EQ(render("  {% if true %}\nx\n  {% endif %}\ny\n", "{}").text, "x\ny");
    EXPECT_EQ(render("{{ '<b>&' }}{{ none }}", "{}").text, "<b>&None");
}

TEST(Template, tojson_writes_what_pythons_json_does) {
    std::string_view context = R"({"tool":{"name":"f<'é>","args":[1,2.5,true,null],"z":{},"a":[]}})";
    EXPECT_EQ(render("{{ tool | tojson }}", context).text,
              R"({"name": "f<'é>", "args": [1, 2.5, true, null], "z": {}, "a": []})");
    EXPECT_EQ(render("{{ tool.args | tojson(indent=2) }}", context).text, "[\n  1,\n  2.5,\n  true,\n  null\n]");
    EXPECT_EQ(render("{{ tool | tojson(sort_keys=true) }}", context).status, DWD_INVALID);
}

TEST(Template, time_is_what_the_caller_says) {
    EXPECT_EQ(render("{{ strftime_now('%d %b %Y') }}", "{}").text, "14 Nov 2023");
    EXPECT_EQ(render("{{ strftime_now('%H:%M:%S %A %j') }}", "{}").text, "22:13:20 Tuesday 318");
    EXPECT_EQ(render("{{ strftime_now('%Q') }}", "{}").status, DWD_INVALID);
}

TEST(Template, a_context_that_is_no_object_is_an_error) {
    EXPECT_EQ(render("x", "[1]").status, DWD_INVALID);
    EXPECT_EQ(render("x", "{").status, DWD_INVALID);
    EXPECT_EQ(render("\xff", "{}").status, DWD_INVALID);
}

}  // namespace
}  // namespace driftwood::deps
