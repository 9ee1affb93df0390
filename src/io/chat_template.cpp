#include <grist/io/chat_template.hpp>

#include <grist/core/errors.hpp>

#include <minja/minja.hpp>

#include <ctime>
#include <iomanip>
#include <sstream>

namespace grist::io {
namespace {

/// What transformers gives to templates that write today's date.
minja::Value strftime_now() {
  return minja::simple_function("strftime_now", {"format"},
                                [](const std::shared_ptr<minja::Context>&, minja::Value& arguments) {
                                  const std::time_t now = std::time(nullptr);
                                  std::tm local{};
                                  localtime_r(&now, &local);
                                  std::ostringstream text;
                                  text << std::put_time(&local, arguments.at("format").get<std::string>().c_str());
                                  return minja::Value(text.str());
                                });
}

/// minja's complaint without the lines of the template that it quotes.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

std::string apply_chat_template(std::string_view jinja, const std::vector<Message>& messages,
                                bool add_generation_prompt, std::string_view bos_text, std::string_view eos_text) {
  auto conversation = nlohmann::ordered_json::array();
  for (const Message& message : messages) {
    conversation.push_back({{"role", message.role}, {"content", message.content}});
  }
  nlohmann::ordered_json values{{"messages", std::move(conversation)},
                                {"add_generation_prompt", add_generation_prompt},
                                {"bos_token", bos_text},
                                {"eos_token", eos_text}};
  // The options are those of transformers.
  const minja::Options options{.trim_blocks = true, .lstrip_blocks = true, .keep_trailing_newline = false};
  try {
    const auto root = minja::Parser::parse(std::string(jinja), options);
    const auto context = minja::Context::make(minja::Value(values));
    context->set("strftime_now", strftime_now());
    return root->render(context);
  } catch (const std::exception& error) {
    throw InputError("chat template: {}", first_line(error.what()));
  }
}

}  // namespace grist::io
