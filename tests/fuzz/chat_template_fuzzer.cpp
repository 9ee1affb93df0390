// A chat template of any bytes: it renders in bounded time, or is refused with an Error.
#include <grist/core/errors.hpp>
#include <grist/text/chat_template.hpp>

#include <cstdint>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    static_cast<void>(grist::text::apply_chat_template({reinterpret_cast<const char*>(data), size},
                                                       {{"system", "Be brief."}, {"user", "H\xC3\xA9llo\n"}}, true,
                                                       {{"bos_token", "<s>"}, {"eos_token", "</s>"}}));
  } catch (const grist::Error&) {
  }
  return 0;
}
