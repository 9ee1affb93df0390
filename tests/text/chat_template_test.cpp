// Chat templates: the prompts are those of transformers, to the letter.
#include <grist/core/errors.hpp>
#include <grist/text/chat_template.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <nlohmann/json.hpp>

namespace grist::text {
namespace {

using nlohmann::json;
using test::contents_of;
using test::Refuses;

const std::filesystem::path data = test::data_file("chat");

std::string greet(std::string_view jinja) {
  return apply_chat_template(jinja, {{"user", "Hello"}}, true, {{"bos_token", "<s>"}, {"eos_token", "</s>"}});
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const json cases = json::parse(contents_of(data / "golden.json"));
  ASSERT_FALSE(cases.empty());
  for (const json& golden : cases) {
    std::vector<Message> messages;
    for (const json& message : golden.at("messages")) messages.push_back({message.at("role"), message.at("content")});
    SpecialTokens tokens;
    for (const char* const key : {"bos_token", "eos_token"}) {
      if (!golden.at(key).is_null()) tokens.emplace(key, golden.at(key));
    }
    const std::string jinja = contents_of(data / golden.at("template").get<std::string>());
    const auto render = [&] {
      return apply_chat_template(jinja, messages, golden.at("add_generation_prompt"), tokens);
    };
    if (golden.contains("text")) {
      EXPECT_EQ(render(), golden.at("text").get<std::string>()) << golden;
    } else {
      EXPECT_THAT(render, Refuses({golden.at("error").get<std::string>()})) << golden;
    }
  }
}

/// Cases of {template, text}, or {template, error} where transformers refuses too, or {template, refused} where grist
/// alone does, with that word.
TEST(ChatTemplate, EveryConstructOfJinjaIsRenderedAsTransformersDoesOrRefused) {
  const json all = json::parse(contents_of(data / "constructs.json"));
  std::vector<Message> messages;
  for (const json& message : all.at("messages")) messages.push_back({message.at("role"), message.at("content")});
  const SpecialTokens tokens = all.at("special_tokens");
  ASSERT_GT(all.at("cases").size(), 200U);
  for (const json& golden : all.at("cases")) {
    const auto render = [&] {
      return apply_chat_template(golden.at("template").get<std::string>(), messages, true, tokens);
    };
    if (golden.contains("refused")) {
      EXPECT_THAT(render, Refuses({"chat template", golden.at("refused").get<std::string>()})) << golden;
    } else if (golden.contains("error")) {
      EXPECT_THAT(render, Refuses({"chat template"})) << golden;
    } else {
      try {
        EXPECT_EQ(render(), golden.at("text").get<std::string>()) << golden;
      } catch (const InputError& error) {
        ADD_FAILURE() << error.what() << " " << golden;
      }
    }
  }
}

TEST(ChatTemplate, EndsWhateverItIs) {
  EXPECT_THAT([] { greet("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"); }, Refuses({"200 times"}));
  EXPECT_THAT([] { greet("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"); },
              Refuses({"steps"}));
  EXPECT_THAT([] { greet("{{ 'a' * 999999999 }}"); }, Refuses({"'*' makes more than"}));
  EXPECT_THAT([] { greet("{{ " + std::string(4000, '(') + "1" + std::string(4000, ')') + " }}"); },
              Refuses({"nested deeper"}));
  std::string chain = "{{ 1";
  for (int i = 0; i < 100'000; ++i) chain += "+1";
  EXPECT_THAT([&] { greet(chain + " }}"); }, Refuses({"operators"}));
  EXPECT_THAT(
      [] { greet("{% set n = namespace() %}{% for i in [1] %}{% set n.l = loop %}{% endfor %}{{ n.l.last }}"); },
      Refuses({"after the loop's end"}));
  EXPECT_EQ(greet("{% set n = namespace() %}{% for i in [1] %}{% set n.f = loop.changed %}{% endfor %}{{ n.f(1) }}"),
            "True");
  EXPECT_EQ(greet("{% set n = namespace() %}{% set n.me = n %}{% macro m() %}{% endmacro %}{% set n.m = m %}x"), "x");
}

TEST(ChatTemplate, NamesTheLineOfAMistake) {
  EXPECT_THAT([] { greet("a\n\n{{ foo.bar }}"); }, Refuses({"line 3", "'foo' is undefined"}));
  EXPECT_THAT([] { greet("a\n{% if true %}\n{{ 'x' | nothing }}{% endif %}"); }, Refuses({"line 3", "nothing"}));
}

TEST(ChatTemplate, ItsOwnComplaintIsTheMessage) {
  EXPECT_THAT([] { greet("{{ raise_exception('roles must alternate') }}"); }, Refuses({"roles must alternate"}));
}

TEST(ChatTemplate, ThatIsBrokenIsRefused) {
  for (const char* const broken :
       {"{% if %}", "{% for m in messages %}", "{{ messages[ }}", "{{ nothing.here() }}", "{% endfor %}"}) {
    EXPECT_THAT([&] { greet(broken); }, Refuses({"chat template"})) << broken;
  }
}

TEST(ChatTemplate, CanWriteTheDate) {
  EXPECT_EQ(greet("{% if strftime_now is defined %}{{ strftime_now('%Y') | length }}{% endif %}"), "4");
}

}  // namespace
}  // namespace grist::text
