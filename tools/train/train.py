#!/usr/bin/env python3
"""Train the small model for a given time on the files that prepare.py wrote.

The learning rate follows the elapsed time, not a step count: the run ends when
its minutes are over, with the schedule complete, on a fast or a busy machine.
"""

import argparse
import dataclasses
import json
import math
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

from model import Config, Llama

BOS = 1


class Corpus:
    """The token stream of one book file."""

    def __init__(self, path):
        self.ids = np.fromfile(path, dtype=np.uint16).astype(np.int64)
        self.starts = np.flatnonzero(self.ids == BOS)

    def window(self, rng, length):
        """Return length + 1 ids; half of the windows begin at a passage."""
        last = len(self.ids) - length - 1
        start = rng.choice(self.starts) if rng.random() < 0.5 else rng.integers(last + 1)
        start = min(start, last)
        return self.ids[start : start + length + 1]


def parse_mix(text):
    """Parse "name=share,name=share" into a dictionary of shares that sum to one."""
    mix = {name: float(share) for name, share in (item.split("=") for item in text.split(","))}
    total = sum(mix.values())
    return {name: share / total for name, share in mix.items()}


def draw_batch(corpora, mix, rng, rows, length):
    """Draw rows of (input, target) from the corpora in the proportions of the mix."""
    names = rng.choice(list(mix), size=rows, p=list(mix.values()))
    windows = torch.from_numpy(np.stack([corpora[name].window(rng, length) for name in names]))
    return windows[:, :-1], windows[:, 1:]


def loss_of(model, inputs, targets, bf16, reduction="mean"):
    """Cross entropy in nats of the targets under the model."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(inputs)
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction=reduction)


@torch.no_grad()
def evaluate(model, data, length, bf16, max_windows=None):
    """Return per corpus {nats, tokens} over consecutive windows of the held-out text."""
    model.eval()
    result = {}
    for path in sorted(data.glob("*.val.bin")):
        ids = torch.from_numpy(np.fromfile(path, dtype=np.uint16).astype(np.int64))
        nats, tokens = 0.0, 0
        for start in list(range(0, len(ids) - 1, length))[:max_windows]:
            window = ids[start : start + length + 1]
            nats += loss_of(model, window[None, :-1], window[None, 1:], bf16, "sum").item()
            tokens += len(window) - 1
        result[path.name.split(".")[0]] = {"nats": nats, "tokens": tokens}
    model.train()
    return result


def mean_loss(result):
    """Loss per token over all corpora of an evaluate() result."""
    return sum(r["nats"] for r in result.values()) / sum(r["tokens"] for r in result.values())


def learning_rate(progress, args):
    """Linear warmup, then a cosine from the peak to a hundredth of it."""
    if progress < args.warmup:
        return args.lr * max(progress, 1e-4) / args.warmup
    phase = min(1.0, (progress - args.warmup) / (1 - args.warmup))
    return args.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * phase)))


def make_optimizer(model, args):
    """AdamW with decay on the matrices only."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": args.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), fused=True)


def save(path, model, optimizer, state):
    """Write a checkpoint so that an interrupted write leaves the old one in place."""
    temporary = path.with_suffix(".tmp")
    torch.save(
        {
            "config": dataclasses.asdict(model.config),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "state": state,
        },
        temporary,
    )
    os.replace(temporary, path)


def final_report(model, args, meta, state):
    """Evaluate the whole held-out text and return the numbers of the model card."""
    result = evaluate(model, args.data, args.length, bf16=False)
    report = {"parameters": sum(p.numel() for p in model.parameters()), **state, "validation": {}}
    chars_total = 0
    for name, r in result.items():
        chars = meta["corpora"][name]["val"]["chars"]
        chars_total += chars
        report["validation"][name] = {
            "nats_per_token": r["nats"] / r["tokens"],
            "nats_per_char": r["nats"] / chars,
        }
    report["validation"]["all"] = {
        "nats_per_token": mean_loss(result),
        "nats_per_char": sum(r["nats"] for r in result.values()) / chars_total,
    }
    return report


def combine(model, workers, *numbers):
    """Average the gradients over the workers in place; return the sums of `numbers`."""
    if workers == 1:
        return numbers
    gradients = [p.grad for p in model.parameters()]
    flat = torch.cat([g.flatten() for g in gradients] + [torch.tensor(numbers)])
    dist.all_reduce(flat)
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient) / workers)
        offset += gradient.numel()
    return flat[offset:].tolist()


def train(rank, args, rendezvous):
    """Run one worker; the first one keeps the clock, evaluates and saves."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    if args.workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=args.workers)
    meta = json.loads((args.data / "meta.json").read_text())
    mix = parse_mix(args.mix)
    corpora = {name: Corpus(args.data / f"{name}.train.bin") for name in mix}

    model = Llama(Config(vocab_size=meta["vocab_size"], context=2 * args.length), args.dropout)
    optimizer = make_optimizer(model, args)
    state = {"steps": 0, "tokens": 0, "seconds": 0.0}
    checkpoint_path = args.out / "checkpoint.pt"
    if args.resume:
        checkpoint = torch.load(checkpoint_path, weights_only=True)
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        state = checkpoint["state"]
    shape_rng = np.random.default_rng([args.seed, state["steps"]])
    rng = np.random.default_rng([args.seed, state["steps"], rank])

    step_loss = torch.compile(loss_of, dynamic=False) if args.compile else loss_of
    rows = args.rows // args.workers
    shapes = [(rows, args.length), (rows // 2, args.length * 2)]
    if args.compile:  # before the clock starts
        for shape in shapes:
            step_loss(model, *draw_batch(corpora, mix, rng, *shape), args.bf16).backward()
        optimizer.zero_grad()

    total = args.minutes * 60
    begun = time.monotonic() - state["seconds"]
    last_save = state["seconds"]
    recent = []
    model.train()
    while state["seconds"] < total:
        rate = learning_rate(state["seconds"] / total, args)
        for group in optimizer.param_groups:
            group["lr"] = rate
        inputs, targets = draw_batch(corpora, mix, rng, *shapes[shape_rng.random() < args.long_share])
        loss = step_loss(model, inputs, targets, args.bf16)
        loss.backward()
        elapsed = time.monotonic() - begun if rank == 0 else 0.0
        loss_sum, elapsed = combine(model, args.workers, loss.item(), elapsed)
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        optimizer.zero_grad()

        state["steps"] += 1
        state["tokens"] += inputs.numel() * args.workers
        state["seconds"] = elapsed
        recent.append(loss_sum / args.workers)
        if rank == 0 and elapsed - last_save >= args.save_every * 60:
            last_save = elapsed
            save(checkpoint_path, model, optimizer, state)
            held = mean_loss(evaluate(model, args.data, args.length, args.bf16, max_windows=args.check_windows))
            line = (
                f"{elapsed / 60:6.1f} min  step {state['steps']:6d}  {state['tokens'] / 1e6:7.2f} M tokens"
                f"  lr {rate:.2e}  train {sum(recent) / len(recent):.4f}  held-out {held:.4f}"
            )
            recent = []
            print(line, flush=True)
            with open(args.out / "log.txt", "a", encoding="utf-8") as log:
                print(line, file=log)
    if rank == 0:
        save(checkpoint_path, model, optimizer, state)
        report = final_report(model, args, meta, state)
        (args.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
        print(json.dumps(report, indent=2))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder that prepare.py wrote")
    parser.add_argument("out", type=Path, help="folder for checkpoint.pt, log.txt and report.json")
    parser.add_argument("--minutes", type=float, default=75.0, help="length of the run")
    parser.add_argument("--rows", type=int, default=16, help="windows per step, over all workers")
    parser.add_argument("--length", type=int, default=256, help="tokens per window")
    parser.add_argument("--long-share", type=float, default=0.25, help="share of steps with half the rows of twice the length")
    parser.add_argument("--mix", default="bronte=0.62,darwin=0.23,shakespeare=0.15", help="share of the windows per corpus")
    parser.add_argument("--lr", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=float, default=0.02, help="share of the time spent warming up")
    parser.add_argument("--weight-decay", type=float, default=0.1, help="AdamW decay of the matrices")
    parser.add_argument("--dropout", type=float, default=0.0, help="dropout on embeddings and residual branches")
    parser.add_argument("--clip", type=float, default=1.0, help="gradient norm limit")
    parser.add_argument("--save-every", type=float, default=3.0, help="minutes between checkpoints")
    parser.add_argument("--check-windows", type=int, default=20, help="held-out windows per corpus to evaluate at a checkpoint")
    parser.add_argument("--workers", type=int, default=1, help="processes that share each step; on a busy machine, "
                        "workers of one thread wait for each other far less than the threads of one worker")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads per worker")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and batches")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="multiply matrices in bfloat16")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True, help="compile the training step")
    parser.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = Path(folder) / "rendezvous"
        if args.workers == 1:
            train(0, args, rendezvous)
        else:
            torch.multiprocessing.spawn(train, args=(args, rendezvous), nprocs=args.workers)


if __name__ == "__main__":
    main()
