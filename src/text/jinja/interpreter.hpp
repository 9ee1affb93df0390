// Runs a parsed template.
#pragma once

#include <grist/text/jinja/syntax.hpp>

#include <map>
#include <memory>
#include <string>

namespace grist::text::jinja {

class Namespace final : public Object {
public:
  [[nodiscard]] std::string type() const override { return "namespace"; }
  std::optional<Value> attribute(std::string_view name) override;
  std::map<std::string, Value, std::less<>> values;
};

/// What one rendering may use, so that a template from anywhere comes to an end.
struct Run {
  static constexpr std::int64_t max_steps = 5'000'000;
  static constexpr int max_depth = 200;  // of macros and recursive loops
  static constexpr std::size_t max_output = std::size_t{1} << 28;
  std::int64_t steps = 0;
  int depth = 0;
  std::vector<std::shared_ptr<Namespace>> namespaces;  // emptied at the end: they may hold themselves

  Run() = default;
  ~Run() {
    for (const auto& space : namespaces) space->values.clear();
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
};

/// Variables of a block; what it does not have, the block around it may.
class Scope {
public:
  Scope(Run& run, std::map<std::string, Value, std::less<>> variables) : run_(run), variables_(std::move(variables)) {}
  explicit Scope(Scope& outer) : run_(outer.run_), outer_(&outer) {}
  ~Scope() {
    if (alive_) *alive_ = false;
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

  [[nodiscard]] const Value* find(std::string_view name) const;
  void set(const std::string& name, Value value) { variables_.insert_or_assign(name, std::move(value)); }
  [[nodiscard]] Run& run() const { return run_; }
  /// Turns false when the scope ends.
  std::shared_ptr<const bool> alive();

private:
  Run& run_;
  Scope* outer_ = nullptr;
  std::map<std::string, Value, std::less<>> variables_;
  std::shared_ptr<bool> alive_;
};

std::string render_template(const Block& block, std::map<std::string, Value, std::less<>> variables);

}  // namespace grist::text::jinja
