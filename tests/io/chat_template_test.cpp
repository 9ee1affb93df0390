// Chat templates: the prompts are those of transformers, to the letter.
#include <grist/core/errors.hpp>
#include <grist/io/chat_template.hpp>
#include <support/files.hpp>
#include <support/refuses.hpp>

#include <nlohmann/json.hpp>

namespace grist::io {
namespace {

using nlohmann::json;
using test::contents_of;
using test::Refuses;

const std::filesystem::path data = test::data_file("chat");

std::string greet(std::string_view jinja) {
  return apply_chat_template(jinja, {{"user", "Hello"}}, true, "<s>", "</s>");
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const json cases = json::parse(contents_of(data / "golden.json"));
  ASSERT_FALSE(cases.empty());
  for (const json& golden : cases) {
    std::vector<Message> messages;
    for (const json& message : golden.at("messages")) messages.push_back({message.at("role"), message.at("content")});
    const auto token = [&](const char* key) {
      return golden.at(key).is_null() ? std::string() : golden.at(key).get<std::string>();
    };
    const std::string jinja = contents_of(data / golden.at("template").get<std::string>());
    const auto render = [&] {
      return apply_chat_template(jinja, messages, golden.at("add_generation_prompt"), token("bos_token"),
                                 token("eos_token"));
    };
    if (golden.contains("text")) {
      EXPECT_EQ(render(), golden.at("text").get<std::string>()) << golden;
    } else {
      EXPECT_THAT(render, Refuses({golden.at("error").get<std::string>()})) << golden;
    }
  }
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
}  // namespace grist::io
