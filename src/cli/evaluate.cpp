// grist evaluate: multiple-choice questions, answered by the likelihood of their choices.
#include "interrupt.hpp"
#include "json_lines.hpp"
#include "model_options.hpp"
#include "output_file.hpp"
#include "packed_json.hpp"
#include "shared_run.hpp"

#include <grist/generate/loglikelihood.hpp>
#include <grist/generate/perplexity.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <format>
#include <map>
#include <optional>

namespace grist::cli {
namespace {

using nlohmann::json;

struct EvaluateOptions {
  ModelOptionsGroup model;
  std::string task;
  std::string output, max_walltime;
  Index limit = 0;
  int context = 0;
  bool as_json = false;
};

/// A line of the task.
struct Question {
  json id;  // a string or a number
  std::string context;
  std::vector<std::string> choices;
  int gold = 0;
  std::vector<Continuation> continuations{};  // [choices]
};

std::vector<std::string> choices_of(const json& list) {
  if (!list.is_array()) throw InputError("'choices': found {}, expected an array of strings", list.type_name());
  std::vector<std::string> choices;
  for (const json& value : list) {
    choices.push_back(string_of(value, std::format("'choices'[{}]", choices.size())));
    if (choices.back().empty()) throw InputError("'choices'[{}] is empty", choices.size() - 1);
  }
  if (choices.size() < 2) throw InputError("'choices' has {}, expected two or more", choices.size());
  return choices;
}

/// One line of the file. `number` counts from 0 and is its id where it has none.
Question question_of(const json& object, Index number) {
  for (const auto& [key, value] : object.items()) {
    if (key != "id" && key != "query" && key != "context" && key != "choices" && key != "gold")
      throw InputError("the key '{}' is not understood: query or context, choices, gold and id are", key);
  }
  if (object.contains("query") == object.contains("context"))
    throw InputError("has {}, expected one of them", object.contains("query") ? "query and context"
                                                                              : "neither query nor context");
  for (const char* key : {"choices", "gold"})
    if (!object.contains(key)) throw InputError("'{}' is missing", key);
  const char* const context = object.contains("query") ? "query" : "context";
  Question question{.id = number, .context = string_of(object[context], std::format("'{}'", context)),
                    .choices = choices_of(object["choices"])};
  const json& gold = object["gold"];
  const auto count = std::ssize(question.choices);
  if (!gold.is_number_integer() || gold < 0 || gold >= count)
    throw InputError("'gold' is {}, expected the number of a choice, 0 to {}", gold.dump(), count - 1);
  question.gold = gold.get<int>();
  if (object.contains("id")) question.id = object["id"];
  if (!question.id.is_string() && !question.id.is_number_integer())
    throw InputError("'id': found {}, expected a string or an integer", question.id.type_name());
  return question;
}

/// The questions with their tokens. Counts the choices that are cut.
std::vector<Question> read_questions(const EvaluateOptions& options, const text::Tokenizer& tokenizer, int context,
                                     Index& cut) {
  std::vector<Question> questions;
  std::map<json, Index> lines;  // of ids
  each_json_line(options.task, [&](json& object, Index number) {
    if (options.limit > 0 && std::ssize(questions) == options.limit) return false;
    questions.push_back(question_of(object, std::ssize(questions)));
    auto& question = questions.back();
    if (const auto [before, first] = lines.emplace(question.id, number); !first)
      throw InputError("id {} is that of line {} too", question.id.dump(), before->second);
    for (const std::string& choice : question.choices) {
      // The harness' default target_delimiter stands between context and choice.
      question.continuations.push_back(encode_continuation(tokenizer, question.context, " " + choice));
      if (cut_left(question.continuations.back(), context)) ++cut;
    }
    return true;
  });
  if (questions.empty()) throw InputError("{}: holds no questions", options.task);
  return questions;
}

// A question on its way from the root to the replica that answers it, and what the model makes of its choices.

std::string packed_question(const Question& question, std::size_t number, Index tokens) {
  json choices = json::array();
  for (const auto& [ids, given] : question.continuations) choices.push_back({{"ids", ids}, {"given", given}});
  return packed({{"number", number}, {"tokens", tokens}, {"choices", choices}});
}

std::vector<Continuation> choices_of_packed(const json& question) {
  std::vector<Continuation> continuations;
  for (const auto& choice : question.at("choices")) continuations.push_back({choice.at("ids"), choice.at("given")});
  return continuations;
}

struct Result {
  Index questions = 0, right = 0, right_by_length = 0, cut = 0;
};

nlohmann::ordered_json number_or_null(double value) {
  return std::isfinite(value) ? nlohmann::ordered_json(value) : nlohmann::ordered_json();
}

void print(const EvaluateOptions& options, const Result& result) {
  const auto mean = [&](Index right) { return static_cast<double>(right) / static_cast<double>(result.questions); };
  const auto error = [&](Index right) { return standard_error(right, result.questions); };
  const std::string task = std::filesystem::path(options.task).stem().string();
  if (options.as_json) {
    JsonLines().write({{"task", task},
                       {"questions", result.questions},
                       {"acc", mean(result.right)},
                       {"acc_stderr", number_or_null(error(result.right))},
                       {"acc_norm", mean(result.right_by_length)},
                       {"acc_norm_stderr", number_or_null(error(result.right_by_length))},
                       {"cut_choices", result.cut}});
    return;
  }
  const std::size_t width = std::max<std::size_t>(task.size(), 4);
  const auto row = [&](const std::string& name, const std::string& questions, const std::string& metric,
                       const std::string& value, const std::string& spread) {
    std::fputs(std::format("{:{}}  {:>9}  {:8}  {:>6}  {:>6}\n", name, width, questions, metric, value, spread).c_str(),
               stdout);
  };
  const auto figure = [](double value) { return std::isfinite(value) ? std::format("{:.4f}", value) : "N/A"; };
  row("task", "questions", "metric", "value", "stderr");
  row(task, std::to_string(result.questions), "acc", figure(mean(result.right)), figure(error(result.right)));
  row("", "", "acc_norm", figure(mean(result.right_by_length)), figure(error(result.right_by_length)));
}

/// What comes of the questions, told in their order.
class Answers {
public:
  Answers(const std::vector<Question>& questions, Result& result, std::optional<JsonLines>& lines)
      : questions_(questions), result_(result), lines_(lines) {}

  void add(std::string_view bytes) {
    const json answer = unpacked(bytes);
    early_[answer.at("number")] = answer.at("sums").get<std::vector<double>>();
    for (auto next = early_.begin(); next != early_.end() && next->first == result_.questions; next = early_.begin()) {
      take(questions_[static_cast<std::size_t>(next->first)], next->second);
      early_.erase(next);
    }
  }

private:
  void take(const Question& question, const std::vector<double>& sums) {
    const auto [choice, by_length] = preferred(sums, question.choices);
    ++result_.questions;
    if (choice == question.gold) ++result_.right;
    if (by_length == question.gold) ++result_.right_by_length;
    if (lines_)
      lines_->write({{"id", question.id},
                     {"loglikelihoods", sums},
                     {"pred", choice},
                     {"pred_norm", by_length},
                     {"gold", question.gold}});
  }

  const std::vector<Question>& questions_;
  Result& result_;
  std::optional<JsonLines>& lines_;
  std::map<Index, std::vector<double>> early_;  // by number: those before are not there yet
};

void score(LogLikelihood& scorer, const std::string& item, SharedRun& shared) {
  const json question = unpacked(item);
  const auto sums = scorer.sums(choices_of_packed(question));
  const Index tokens = question.at("tokens");
  shared.count({.worked_on = tokens, .told = tokens});
  shared.send(packed({{"number", question.at("number")}, {"sums", sums}}), tokens, tokens);
}

void run(Runtime& runtime, const EvaluateOptions& options) {
  const Deadline deadline = deadline_of(runtime, options.max_walltime, Deadline::Clock::now());
  std::vector<Question> questions;
  std::vector<std::string> items;
  Index tokens = 0;
  Result result;
  runtime.together([&] { expect_no_input(options.output, "--output", {options.task}); });
  std::vector<int> longest(1, 1);  // tokens of the longest text that is read
  const auto loaded =
      load_model(runtime, options.model, [&](const ModelFiles& files, const text::Tokenizer* tokenizer) {
        if (tokenizer == nullptr) throw InputError("{}: the model has no tokenizer", options.model.model);
        const int most = files.spec.max_positions;
        if (options.context > most) throw UsageError("--context {} is more than the model's {}", options.context, most);
        questions = read_questions(options, *tokenizer, options.context > 0 ? options.context : most, result.cut);
        for (const auto& question : questions) {
          const Index read = tokens_read(files.spec, question.continuations);
          items.push_back(packed_question(question, items.size(), read));
          tokens += read;
          for (const auto& continuation : question.continuations)
            longest[0] = std::max(longest[0], static_cast<int>(continuation.ids.size()) - 1);
        }
        return limits_for_windows(longest[0]);
      });
  runtime.share(longest);
  if (result.cut > 0)
    note(std::format("{} choices are longer with their context than the model's context: cut from the left",
                     result.cut));
  std::optional<JsonLines> lines;
  std::optional<LogLikelihood> scorer;
  runtime.together([&] {
    if (runtime.root() && !options.output.empty()) lines.emplace(options.output);
    scorer.emplace(runtime.exec(), *loaded.model, longest[0]);
  });
  Answers answers(questions, result, lines);
  bool finished = false;
  {
    SharedRun shared(runtime.world(), loaded.grid->world(), items, tokens, deadline, {"answered", "questions"},
                     [&](std::string_view answer) { answers.add(answer); });
    shared.one_by_one([&](const std::string& item) { score(*scorer, item, shared); });
    finished = shared.finish();
  }
  runtime.together([&] {
    if (!finished)
      throw Error(ended_by_signal, std::format("stopped after {} of {} questions; the same command begins anew",
                                               result.questions, questions.size()));
  });
  if (runtime.root()) print(options, result);
}

}  // namespace

void add_evaluate(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("evaluate", "Answer multiple-choice questions by the likelihood of the choices");
  const auto options = std::make_shared<EvaluateOptions>();
  options->model.add_to(*verb, action);
  verb->add_option("--task", options->task, "Questions as JSON lines, - for stdin")->required()->type_name("FILE");
  verb->add_option("--output", options->output, "What the model makes of each question, as JSON lines")
      ->type_name("FILE");
  verb->add_option("--limit", options->limit, "The first N questions only; 0: all")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  verb->add_option("--context", options->context,
                   "Tokens that the model reads of a question at most, from its end; 0: the model's context")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str();
  verb->add_option_function<int>(
          "--num-fewshot",
          [](int examples) {
            if (examples != 0)
              throw CLI::ValidationError("--num-fewshot", "examples stand in each line's query; expected 0");
          },
          "Examples put in front of each question: none but those in its query")
      ->default_str("0");
  verb->add_flag("--json", options->as_json, "One line of JSON instead of the table");
  add_walltime_to(*verb, options->max_walltime);
  options->model.add_replicas_to(*verb);
  verb->footer(
      "A line of the task:\n"
      "  {\"query\": \"The sky is\", \"choices\": [\"blue\", \"wooden\"], \"gold\": 0, \"id\": \"sky\"}\n"
      "`context` may stand for `query`; `id` may be left out. Choices follow the query behind\n"
      "one blank. Tokens, cutting and figures are those of lm-evaluation-harness:\n"
      "  acc        the right choice has the largest log-likelihood\n"
      "  acc_norm   the same, of log-likelihoods divided by the choice's characters\n"
      "  stderr     sample standard deviation over the root of the number of questions");
  verb->callback([options, &action, verb] {
    options->model.default_to_all_ranks(*verb);
    action.keeps_work = true;
    action.run = [options](Runtime& runtime) { run(runtime, *options); };
  });
}

}  // namespace grist::cli
