// Beginnings of prompts that stay in a KV cache when their sequence has ended, for later prompts that begin alike.
#pragma once

#include <grist/model/paged_kv.hpp>

#include <list>
#include <memory>
#include <span>
#include <vector>

namespace grist {

/// Keys and values of whole pages, of which several sequences may have some. They are as good as free: whoever wants
/// pages gives them back, those first that were not used for longest. Of one cache, which is named in each call.
class KeptBeginnings {
public:
  /// The first `length` tokens of a prompt, whose ids all its beginnings share.
  struct Ids {
    std::shared_ptr<const std::vector<int>> prompt;
    int length = 0;
  };
  /// Keeps what `kv` has of its first tokens, `ids`, whole pages of them. Nothing is kept twice.
  void keep(PagedKv& cache, const Ids& ids, const KvSequence& kv);

  struct Found {
    int tokens;  // that it has in common with a prompt, in whole pages
    const KvSequence* kv;
  };
  /// Those that begin like `prompt`; each is valid until the next keep() or give_back(). Compares as many tokens as
  /// each kept prompt has in common with it, once: a prompt that is new here costs next to nothing.
  [[nodiscard]] std::vector<Found> find(std::span<const int> prompt) const;

  /// `kv`, where it is one of these, was taken over.
  void used(const KvSequence* kv);

  /// Gives back the one that was not used for longest: its pages are free where no sequence has them. False where there
  /// is none.
  bool give_back(PagedKv& cache);

private:
  struct Beginning {
    Ids ids;
    KvSequence kv;
  };
  std::list<Beginning> kept_;  // the last used last
};

}  // namespace grist
