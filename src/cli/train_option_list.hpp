// The list itself, and what walks it.
#pragma once

#include "train_options.hpp"

#include <string>
#include <vector>

namespace grist::cli {

constexpr double no_limit = 1e30;

/// What a value must be, and how the help calls it.
struct OptionRule {
  std::string type;                   // FILE, DIR, N, X ...
  std::vector<std::string> choices;   // of a word
  double least = 0, most = no_limit;  // of a number
  bool positive = false;              // 0 is too little
};

/// visit(name, member, help, rule) for every option, in groups: group(title) comes before each.
template <class Options, class Group, class Visit>
void each_train_option(Options& o, Group&& group, Visit&& visit) {
  using Rule = OptionRule;
  group("Model and data");
  visit("model", o.model, "Model to train further: a Hugging Face folder", Rule{"DIR"});
  visit("config", o.config, "config.json of a model to train from random weights, drawn by --seed", Rule{"FILE"});
  visit("tokenizer", o.tokenizer, "Folder of the tokenizer that reads texts; without it that of --model or --config",
        Rule{"DIR"});
  visit("data", o.data, "Token files of `grist tokenize`, or texts, which are tokenized at once", Rule{"FILE"});
  visit("order", o.order, "Samples in a new order each epoch, or one after the other as they stand in the data",
        Rule{"WORD", {"shuffled", "sequential"}});
  visit("steps", o.steps, "Updates of the weights", Rule{"N", {}, 1});
  visit("batch", o.batch, "Sequences of a step, all ranks together", Rule{"N", {}, 1});
  visit("micro-batch", o.micro_batch,
        "Sequences that a rank computes at once; less takes less memory and gives the same step. Without it, or 0: all "
        "that the rank has of a step, with --pp one",
        Rule{"N", {}, 0, 1e9});
  visit("sequence", o.sequence,
        "Tokens of a sequence. Without it, or 0: the context of the model, 1024 at most", Rule{"N", {}, 0, 1e9});
  visit("seed", o.seed, "Of the order of the data, and of random weights", Rule{"N", {}, 0, 9e18});

  group("Optimizer");
  visit("optimizer", o.optimizer, "AdamW, LAMB for very large batches, or SGD with momentum",
        Rule{"WORD", {"adamw", "lamb", "sgd"}});
  visit("lr", o.lr, "Learning rate at its peak", Rule{"X", {}, 0, 1e3, true});
  visit("schedule", o.schedule,
        "What the learning rate does after its warm-up: stay; go down to --min-lr along a cosine or a line; stay, and "
        "go down in the last --decay steps (wsd)",
        Rule{"WORD", {"constant", "linear", "cosine", "wsd"}});
  visit("min-lr", o.min_lr, "Learning rate of the last step; without it a tenth of --lr", Rule{"X", {}, 0, 1e3});
  visit("warmup", o.warmup, "Steps in which the learning rate rises to its peak; without it a tenth, 100 at most",
        Rule{"N"});
  visit("decay", o.decay, "Last steps, in which wsd goes down; without it a fifth of all", Rule{"N"});
  visit("beta1", o.beta1, "Decay of the first moment; the momentum of SGD", Rule{"X", {}, 0, 0.999999});
  visit("beta2", o.beta2, "Decay of the second moment", Rule{"X", {}, 0, 0.99999999});
  visit("eps", o.eps, "Added to the root of the second moment", Rule{"X", {}, 0, 1, true});
  visit("weight-decay", o.weight_decay, "Decoupled; norms and biases have none", Rule{"X", {}, 0, 1e3});
  visit("clip", o.clip, "Gradients of a larger norm, over all tensors and ranks, are scaled to it; 0: none are",
        Rule{"X", {}, 0});
  visit("router-aux-loss", o.router_aux_loss,
        "Factor of the loss that keeps experts equally busy, of models that have some; 0: none. Without it "
        "router_aux_loss_coef of config.json where output_router_logits is true there, as in transformers, else none",
        Rule{"X", {}, 0, 1e3});
  visit("max-skipped", o.max_skipped,
        "A step whose loss or gradients are not finite is left out; after so many in a row the run ends with code 5",
        Rule{"N", {}, 0, 1e9});

  group("Numbers and memory");
  visit("dtype", o.dtype, "What is computed with; weights, sums and moments are f32", Rule{"WORD", {"f32", "bf16"}});
  visit("recompute", o.recompute,
        "What the backward pass computes again instead of keeping it: nothing; what is cheap: norms, rotations and "
        "activations (selective); whole blocks",
        Rule{"WORD", {"none", "selective", "block"}});

  group("Ranks");
  visit("dp", o.dp, "Ranks that share each batch (data parallel). Without it, or 0: what --pp and --tp leave",
        Rule{"N", {}, 0, 1 << 20});
  visit("pp", o.pp, "Ranks that share the layers (pipeline parallel)", Rule{"N", {}, 1, 1 << 20});
  visit("tp", o.tp, "Ranks that share each layer (tensor parallel); they should be on one node",
        Rule{"N", {}, 1, 1 << 20});
  visit("pipeline", o.pipeline,
        "Order of micro-batches with --pp: all forward, then all backward; one of each in turn, which keeps fewer; or "
        "that over several --chunks of layers, which waits less",
        Rule{"WORD", {"gpipe", "1f1b", "interleaved"}});
  visit("chunks", o.chunks, "Chunks of layers on each rank with --pipeline interleaved; without it 2",
        Rule{"N", {}, 1, 1024});
  visit("zero", o.zero, "1: ranks of --dp share the state of the optimizer", Rule{"N", {}, 0, 1});
  visit("sequence-parallel", o.sequence_parallel, 
        "Ranks of --tp share the tokens of what lies between products: the residual stream, norms. Less memory",
        Rule{});
  visit("check-replicas", o.check_replicas, "Compare after each step, bit by bit, what ranks must hold alike; slow",
        Rule{});
  visit("gemm", o.gemm, "Matrix product; `grist info` lists them", Rule{"NAME"});

  group("What is seen");
  visit("eval-data", o.eval_data, "Held-out token file or text, whose loss is computed at the end", Rule{"FILE"});
  visit("eval-every", o.eval_every, "... and every so many steps", Rule{"N", {}, 1});
  visit("log-every", o.log_every, "Steps from one line of a log to the next; a terminal shows each", Rule{"N", {}, 1});
  visit("metrics", o.metrics, "Each step as a line of JSON: step, loss, lr, grad_norm, tokens_per_second, ...",
        Rule{"FILE"});
  visit("trace", o.trace, "What every rank did when, for chrome://tracing or ui.perfetto.dev", Rule{"FILE"});

  group("What is kept");
  visit("checkpoint", o.checkpoint, "Where the run is saved: at its end, when a signal or the wall time ends it, and "
        "every --save-every steps", Rule{"DIR"});
  visit("save-every", o.save_every, "Steps from one checkpoint to the next; 0: at the end alone", Rule{"N"});
  visit("keep", o.keep, "Checkpoints that stay, the newest ones; 0: all", Rule{"N", {}, 0, 1e9});
  visit("keep-every", o.keep_every, "Checkpoints of a multiple of so many steps stay too; 0: none", Rule{"N"});
  visit("io-hint", o.io_hints,
        "Hints to MPI-IO for writing checkpoints, as striping_factor=8; the system ignores those that it does not know",
        Rule{"KEY=VALUE"});
  visit("resume", o.resume,
        "Go on from a checkpoint, at any number of ranks. auto: from the newest whole one in --checkpoint, or begin "
        "where there is none",
        Rule{"auto|PATH"});
  visit("max-walltime", o.max_walltime,
        "Save and end with code 75 in time to be done after HH:MM:SS; without it when Slurm says that the job ends",
        Rule{"HH:MM:SS"});
  visit("save-hf", o.save_hf, "Hugging Face folder to write the trained model to", Rule{"DIR"});
}

/// Reads options.options_file; an option that the command line gave stays. Throws InputError naming file, line and key.
void read_options_file(TrainOptions& options, CLI::App& app);

}  // namespace grist::cli
