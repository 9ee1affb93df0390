#include "train_option_list.hpp"

#include <grist/core/edit_distance.hpp>
#include <grist/core/errors.hpp>

#include <toml++/toml.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <format>
#include <fstream>
#include <sstream>
#include <type_traits>

namespace grist::cli {
namespace {

template <class T>
constexpr bool is_optional = false;
template <class T>
constexpr bool is_optional<std::optional<T>> = true;

template <class T>
struct ValueOf {
  using type = T;
};
template <class T>
struct ValueOf<std::optional<T>> {
  using type = T;
};

/// What is wrong with a number; empty where nothing is, or where CLI11 will say that it is none.
std::string number_fault(const std::string& text, const OptionRule& rule) {
  double value = 0;
  if (!CLI::detail::lexical_cast(text, value)) return {};
  if (rule.positive && !(value > 0)) return std::format("is {}, expected more than 0", text);
  if (value >= rule.least && value <= rule.most) return {};
  if (rule.most == no_limit) return std::format("is {}, expected {} or more", text, rule.least);
  return std::format("is {}, expected {} to {}", text, rule.least, rule.most);
}

template <class T>
void add_option(CLI::App& app, const std::string& group, const char* name, T& member, const char* help,
                const OptionRule& rule) {
  using Value = typename ValueOf<T>::type;
  const std::string flag = std::string("--") + name;
  CLI::Option* option = nullptr;
  if constexpr (std::is_same_v<T, bool>) {
    option = app.add_flag(flag, member, help);
  } else {
    option = app.add_option(flag, member, help)->type_name(rule.type);
    if constexpr (std::is_arithmetic_v<Value>) {
      option->check([rule](const std::string& text) { return number_fault(text, rule); });
      if (!is_optional<T>) option->capture_default_str();
    } else if (!rule.choices.empty()) {
      option->check(CLI::IsMember(rule.choices));
    }
    if constexpr (std::is_same_v<T, std::string>)
      if (!member.empty()) option->capture_default_str();
  }
  option->group(group);
}

/// The words that CLI11 would have found on the command line; nothing where the value is of another kind.
template <class T>
std::optional<std::vector<std::string>> words_of(const toml::node& node) {
  using Value = typename ValueOf<T>::type;
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return words_of<std::string>(node);
    std::vector<std::string> words;
    for (const toml::node& element : *array) {
      if (!element.is_string()) return std::nullopt;
      words.push_back(element.as_string()->get());
    }
    return words;
  } else if constexpr (std::is_same_v<Value, bool>) {
    if (node.is_boolean()) return std::vector<std::string>{node.as_boolean()->get() ? "true" : "false"};
  } else if constexpr (std::is_integral_v<Value>) {
    if (node.is_integer()) return std::vector{std::to_string(node.as_integer()->get())};
  } else if constexpr (std::is_floating_point_v<Value>) {
    if (node.is_number()) return std::vector{std::format("{}", node.value<double>().value_or(0))};
  } else {
    if (node.is_string()) return std::vector{node.as_string()->get()};
  }
  return std::nullopt;
}

template <class T>
constexpr const char* kind_of() {
  using Value = typename ValueOf<T>::type;
  return std::is_same_v<T, std::vector<std::string>> ? "a string or an array of strings"
         : std::is_same_v<Value, bool>               ? "true or false"
         : std::is_integral_v<Value>                 ? "an integer"
         : std::is_floating_point_v<Value>           ? "a number"
                                                     : "a string";
}

std::string place(const std::string& file, const toml::source_region& source) {
  return std::format("{}:{}", file, source.begin.line);
}

toml::table parse_file(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf()))
    throw InputError("{}: cannot be read: {}", file, errno != 0 ? std::strerror(errno) : "it is empty or no file");
  try {
    return toml::parse(text.view(), file);
  } catch (const toml::parse_error& error) {
    throw InputError("{}: not valid TOML: {}", place(file, error.source()), error.description());
  }
}

void expect_known(const toml::table& table, const std::vector<std::string>& names, const std::string& file) {
  for (const auto& [key, node] : table) {
    const std::string given(key.str());
    if (std::ranges::find(names, given) != names.end()) continue;
    const auto best = std::ranges::min_element(names, {}, [&](const auto& name) { return edit_distance(given, name); });
    const bool near = edit_distance(given, *best) <= std::max<std::size_t>(1, given.size() / 2);
    throw InputError("{}: unknown key '{}'{}", place(file, key.source()), given,
                     near ? std::format(", did you mean {}?", *best) : "; `grist train --print-config` shows all");
  }
}

/// The option takes the value as if it stood on the command line.
template <class T>
void take(CLI::Option& option, const std::string& name, const toml::node& node, const std::string& file) {
  const auto words = words_of<T>(node);
  if (!words) throw InputError("{}: '{}' is not {}", place(file, node.source()), name, kind_of<T>());
  try {
    for (const std::string& word : *words) option.add_result(word);
    option.run_callback();
  } catch (const CLI::Error& error) {
    std::string what = error.what();
    std::ranges::replace(what, '\n', ' ');
    throw InputError("{}: {}", place(file, node.source()), what);
  }
}

std::string toml_text(const std::string& value) {
  std::ostringstream out;
  out << toml::value<std::string>(value);
  return out.str();
}

/// A value as TOML; empty where it was not given.
template <class T>
std::string toml_value(const T& value) {
  if constexpr (is_optional<T>) {
    return value ? toml_value(*value) : std::string();
  } else if constexpr (std::is_same_v<T, std::string>) {
    return value.empty() ? std::string() : toml_text(value);
  } else if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    std::string all;
    for (const std::string& one : value) all += (all.empty() ? "[" : ", ") + toml_text(one);
    return all.empty() ? all : all + "]";
  } else if constexpr (std::is_same_v<T, bool>) {
    return value ? "true" : "false";
  } else {
    return std::format("{}", value);
  }
}

}  // namespace

void TrainOptions::add_to(CLI::App& app) {
  std::string title;
  each_train_option(
      *this, [&](const char* group) { title = group; },
      [&](const char* name, auto& member, const char* help, const OptionRule& rule) {
        add_option(app, title, name, member, help, rule);
      });
  app.add_option("--options", options_file, "TOML file of these options; what the command line says comes before it")
      ->type_name("FILE")
      ->group("All of this in a file");
  app.add_flag("--print-config", print_config, "Print all options as such a file, and do nothing")
      ->group("All of this in a file");
  app.footer(
      "Examples:\n"
      "  grist train --config config.json --tokenizer DIR --data book.txt --save-hf out\n"
      "  grist train --model SmolLM2 --data chats.tokens --lr 2e-5 --steps 500 --save-hf out\n"
      "  mpirun -n 8 grist train --options run.toml --tp 2 --pp 2   (dp is 2 then)\n"
      "  srun grist train --options run.toml --checkpoint ckpt --save-every 500 --resume auto\n"
      "A run that a signal or the wall time ends is saved and ends with code 75: start it\n"
      "again with --resume auto, at any number of ranks.");
}

void read_options_file(TrainOptions& options, CLI::App& app) {
  const std::string file = options.options_file;
  const toml::table table = parse_file(file);
  std::vector<std::string> names;
  const auto no_group = [](const char*) {};
  each_train_option(options, no_group,
                    [&](const char* name, auto&, const char*, const OptionRule&) { names.emplace_back(name); });
  expect_known(table, names, file);
  each_train_option(options, no_group,
                    [&]<class T>(const char* name, T&, const char*, const OptionRule&) {
                      const toml::node* node = table.get(name);
                      CLI::Option* option = app.get_option(std::string("--") + name);
                      if (node != nullptr && option->count() == 0) take<T>(*option, name, *node, file);
                    });
}

std::string TrainOptions::to_toml() const {
  std::string text = "# grist train --options FILE\n", title;
  each_train_option(
      *this, [&](const char* group) { title = group; },
      [&](const char* name, const auto& member, const char*, const OptionRule& rule) {
        if (!title.empty()) text += std::format("\n# {}\n", title);
        title.clear();
        const std::string value = toml_value(member);
        text += value.empty() ? std::format("# {} = {}\n", name, rule.type) : std::format("{} = {}\n", name, value);
      });
  return text;
}

}  // namespace grist::cli
