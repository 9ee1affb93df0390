#include <grist/generate/generation.hpp>

#include <grist/core/errors.hpp>
#include <grist/core/philox.hpp>

#include <algorithm>
#include <map>

namespace grist {
namespace {

/// Positions that a request may come to take.
Index positions_of(const Request& request, Index max_positions) {
  return std::min(static_cast<Index>(request.prompt.size()) + request.max_new_tokens, max_positions);
}

Index longest(std::span<const Request> requests, Index max_positions) {
  Index most = 1;
  for (const auto& request : requests) most = std::max(most, positions_of(request, max_positions));
  return most;
}

void check(const Request& request, std::size_t number, const ModelSpec& spec, Index context) {
  request.sampling.check();
  if (request.max_new_tokens < 1)
    throw UsageError("--max-new-tokens is {}, expected 1 or more", request.max_new_tokens);
  if (request.prompt.empty())
    throw InputError("prompt {} has no tokens, and the model has no BOS token to begin with", number);
  if (static_cast<Index>(request.prompt.size()) >= context)
    throw InputError("prompt {} has {} tokens, the context is {}: one token must be left to generate", number,
                     request.prompt.size(), context);
  for (const int id : request.prompt) {
    if (id < 0 || id >= spec.vocab_size)
      throw InputError("prompt {}: token id {} is out of range, the vocabulary has {}", number, id, spec.vocab_size);
  }
}

/// Draws depend on the prompt, not on its place in the batch; equal prompts are told apart by their count.
std::uint64_t stream_of(const std::vector<int>& prompt, int copy) {
  std::string bytes(reinterpret_cast<const char*>(prompt.data()), prompt.size() * sizeof(int));
  bytes.append(reinterpret_cast<const char*>(&copy), sizeof copy);
  return hash_name(bytes);
}

}  // namespace

ModelLimits limits_for(std::span<const Request> requests, int max_positions, int max_sequences) {
  const int sequences = std::clamp(static_cast<int>(requests.size()), 1, max_sequences);
  return {.cache_tokens = sequences * longest(requests, max_positions),
          .batch_tokens = prefill_chunk + Index{few_tokens} * sequences,
          .batch_sequences = sequences,
          .logit_rows = sequences};
}

Generation::Generation(const Exec& exec, Model& model, const io::Tokenizer* tokenizer, std::vector<Request> requests,
                       Conversation* conversation)
    : exec_(exec),
      model_(model),
      conversation_(conversation),
      sampler_(model.spec().vocab_size),
      completions_(requests.size()),
      start_(std::chrono::steady_clock::now()) {
  const auto& limits = model.limits();
  const Index context = std::min<Index>(model.spec().max_positions, limits.cache_tokens);
  if (conversation != nullptr && requests.size() != 1) throw UsageError("a conversation takes one request at a time");
  std::map<std::vector<int>, int> copies;
  for (std::size_t i = 0; i < requests.size(); ++i) {
    check(requests[i], i, model.spec(), context);
    auto& sequence = sequences_.emplace_back();
    sequence.ids = requests[i].prompt;
    sequence.stream = stream_of(sequence.ids, copies[sequence.ids]++);
    if (tokenizer != nullptr) sequence.decoder.emplace(*tokenizer, true);
    sequence.filter = StopFilter(requests[i].stop);
    waiting_.push_back(static_cast<int>(i));
  }
  const auto sufficient = limits_for(requests, model.spec().max_positions, 1);
  if (limits.batch_tokens < sufficient.batch_tokens || limits.logit_rows < std::min<Index>(limits.batch_sequences, std::ssize(requests)))
    throw UsageError("the model was built for {} tokens and {} rows of logits a pass; limits_for() tells what these requests "
                     "need", limits.batch_tokens, limits.logit_rows);
  slot_tokens_ = conversation != nullptr ? limits.cache_tokens : longest(requests, context);
  for (std::size_t i = 0; i < requests.size(); ++i) sequences_[i].request = std::move(requests[i]);
  if (conversation != nullptr) {
    // The last prompt token is always computed: its logits are needed.
    auto& sequence = sequences_[0];
    const auto differs = std::ranges::mismatch(conversation->cached, sequence.ids);
    sequence.cached = std::min(static_cast<std::size_t>(differs.in1 - conversation->cached.begin()), sequence.ids.size() - 1);
    completions_[0].cached_tokens = sequence.cached;
  }
  const int slots = static_cast<int>(std::min<Index>(limits.batch_sequences, limits.cache_tokens / slot_tokens_));
  for (int slot = slots - 1; slot >= 0; --slot) free_slots_.push_back(slot);
}

std::optional<TokenEvent> Generation::next() {
  while (events_.empty() && !(waiting_.empty() && running_.empty())) step();
  if (events_.empty()) return std::nullopt;
  TokenEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Generation::run(const std::function<void(const TokenEvent&)>& on_token) {
  while (const auto event = next())
    if (on_token) on_token(*event);
}

void Generation::admit() {
  while (!waiting_.empty() && !free_slots_.empty()) {
    sequences_[static_cast<std::size_t>(waiting_.front())].slot = free_slots_.back();
    running_.push_back(waiting_.front());
    waiting_.pop_front();
    free_slots_.pop_back();
  }
}

/// One forward pass: every sequence that decodes, and the next pieces of prompts while the batch has room.
void Generation::step() {
  admit();
  Index prefill_room = prefill_chunk;  // few tokens have room of their own
  std::vector<BatchItem> few, many;
  std::vector<int> few_owners, many_owners;
  for (const int index : running_) {
    auto& sequence = sequences_[static_cast<std::size_t>(index)];
    // Where a piece ends depends on the sequence alone: a piece that does not fit waits whole.
    const auto count = std::min<Index>(prefill_chunk, static_cast<Index>(sequence.ids.size() - sequence.cached));
    if (count > few_tokens) {
      if (count > prefill_room) continue;
      prefill_room -= count;
    }
    const BatchItem item{std::span(sequence.ids).subspan(sequence.cached, static_cast<std::size_t>(count)),
                         static_cast<int>(sequence.cached), sequence.slot * slot_tokens_};
    (count <= few_tokens ? few : many).push_back(item);
    (count <= few_tokens ? few_owners : many_owners).push_back(index);
  }
  few.insert(few.end(), many.begin(), many.end());
  few_owners.insert(few_owners.end(), many_owners.begin(), many_owners.end());

  std::vector<std::size_t> finished;  // items that reached the end of what is known
  for (std::size_t i = 0; i < few.size(); ++i) {
    auto& sequence = sequences_[static_cast<std::size_t>(few_owners[i])];
    sequence.cached += few[i].ids.size();
    if (sequence.cached == sequence.ids.size()) finished.push_back(i);
  }
  const auto logits = model_.forward(exec_, few, !finished.empty());
  if (finished.empty()) return;

  std::vector<int> chosen(finished.size());
  std::optional<NumericalError> broken;
  try {
    const auto vocabulary = static_cast<std::size_t>(model_.spec().vocab_size);
    for (std::size_t i = 0; i < finished.size() && !logits.empty(); ++i) {
      const auto& sequence = sequences_[static_cast<std::size_t>(few_owners[finished[i]])];
      chosen[i] = sampler_.sample(exec_, logits.subspan(finished[i] * vocabulary, vocabulary), sequence.request.sampling,
                                  sequence.ids, sequence.stream, sequence.ids.size());
    }
  } catch (const NumericalError& error) {
    broken = error;
    chosen[0] = -1;  // the other ranks wait for the tokens and must learn of it
  }
  const auto& layout = model_.grid().layout();
  model_.grid().world().broadcast(chosen.data(), static_cast<Index>(chosen.size()), (layout.pp - 1) * layout.tp);
  if (broken) throw *broken;
  if (chosen[0] < 0) throw NumericalError("the last stage's logits are no numbers: the weights or the computation are broken");
  for (std::size_t i = 0; i < finished.size(); ++i) accept(few_owners[finished[i]], chosen[i]);
}

/// A sequence's new token: its text, whether it was the last, the event.
void Generation::accept(int index, int id) {
  auto& sequence = sequences_[static_cast<std::size_t>(index)];
  auto& completion = completions_[static_cast<std::size_t>(index)];
  if (completion.ids.empty()) completion.prefill_seconds = seconds();
  completion.decode_seconds = seconds() - completion.prefill_seconds;
  sequence.ids.push_back(id);
  completion.ids.push_back(id);
  TokenEvent event{index, id, {}, Finish::running};

  const bool ends = std::ranges::find(sequence.request.eos, id) != sequence.request.eos.end();
  if (ends) event.finish = Finish::stop;
  if (sequence.decoder && !ends) event.text = sequence.filter.put(sequence.decoder->put(id));
  if (sequence.filter.stopped()) event.finish = Finish::stop;
  const bool full = static_cast<int>(completion.ids.size()) == sequence.request.max_new_tokens ||
                    static_cast<Index>(sequence.ids.size()) >= slot_tokens_;
  if (event.finish == Finish::running && full) event.finish = Finish::length;
  if (event.finish != Finish::running) {
    if (sequence.decoder && !sequence.filter.stopped()) {
      event.text += sequence.filter.put(sequence.decoder->finish());
      event.text += sequence.filter.finish();
      if (sequence.filter.stopped()) event.finish = Finish::stop;
    }
    free_slots_.push_back(sequence.slot);
    std::erase(running_, index);
    if (conversation_ != nullptr)
      conversation_->cached.assign(sequence.ids.begin(), sequence.ids.begin() + static_cast<std::ptrdiff_t>(sequence.cached));
  }
  completion.text += event.text;
  completion.finish = event.finish;
  events_.push_back(std::move(event));
}

double Generation::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

}  // namespace grist
