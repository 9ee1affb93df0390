#include <grist/generate/generation.hpp>

#include <algorithm>
#include <numeric>

namespace grist {
ModelLimits limits_for(std::span<const Request> requests, Index context, int max_sequences,
                       std::optional<Index> kv_tokens, int draft_tokens) {
  std::vector<Index> lengths;
  Index prompt_tokens = 1;
  for (const auto& request : requests) {
    prompt_tokens += std::ssize(request.prompt);
    lengths.push_back(std::min(std::ssize(request.prompt) + request.max_new_tokens, context));
  }
  std::ranges::sort(lengths, std::greater());
  const int sequences = std::clamp(static_cast<int>(lengths.size()), 1, std::max(1, max_sequences));
  lengths.resize(static_cast<std::size_t>(sequences), 1);
  const Index all = std::accumulate(lengths.begin(), lengths.end(), Index{0});
  // A whole piece of a prompt, while all others decode.
  return {.batch_tokens = std::min<Index>(prefill_tokens, prompt_tokens) + sequences - 1 + sequences * draft_tokens,
          .batch_sequences = sequences,
          .logit_rows = sequences * (1 + draft_tokens),
          .context = context,
          .kv_tokens = std::clamp(kv_tokens.value_or(all), std::min(lengths.front(), all), all)};
}

Generation::Generation(const Exec& exec, Model& model, SchedulerOptions options, std::vector<Request> requests)
    : scheduler_(exec, model, std::move(options)) {
  std::map<std::vector<int>, int> copies;
  for (auto& request : requests) {
    request.copy += copies[request.prompt]++;
    scheduler_.submit(std::move(request));
  }
}

std::optional<TokenEvent> Generation::next() {
  while (events_.empty() && !scheduler_.idle())
    for (auto& event : scheduler_.step()) events_.push_back(std::move(event));
  if (events_.empty()) return std::nullopt;
  TokenEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Generation::run(const std::function<void(const TokenEvent&)>& on_token) {
  while (const auto event = next())
    if (on_token) on_token(*event);
}

}  // namespace grist
