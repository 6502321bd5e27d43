"""Trains the demo model: makes its text on the fly, resumes from its checkpoint, exports it at the end.

    python3 train.py --out OUT [--steps N] [--minutes M] [--begin demo.gguf]

Stops and saves after M minutes even if steps are left; the same command goes on from there. --begin starts from the
vocabulary and weights of a model file instead of random ones.
"""

import argparse
import json
import math
import os
import time

import torch
import torch.nn.functional as F

import data
import export
import gguf_reader
import optimizer
import tokenizer as tk
from model import Config, Decoder, rope_tables


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="folder for tokenizer, checkpoint, curve and exports")
    p.add_argument("--begin", help="model file whose vocabulary and weights to start from")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--steps", type=int, default=4000)
    p.add_argument("--tokens", type=int, default=131072, help="tokens per step")
    p.add_argument("--minutes", type=float, default=1e9)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--warmup", type=int, default=100)
    p.add_argument("--workers", type=int, default=max(0, (os.cpu_count() or 2) - 2))
    p.add_argument("--vocab", type=int, default=4096)
    p.add_argument("--width", type=int, default=384)
    p.add_argument("--layers", type=int, default=8)
    p.add_argument("--ffn", type=int, default=1024)
    p.add_argument("--corpus", type=int, default=12_000_000, help="characters the tokenizer learns from")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p.parse_args()


def loss_of(model, hidden, targets, weights):
    """Weighted mean cross-entropy; returns it and the mean over the assistant's tokens alone."""
    logits = model.logits(hidden).float()
    each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    w = weights.flatten()
    answers = (w == 1).float()
    return (each * w).sum() / w.sum(), (each * answers).sum() / answers.sum()


def learning_rate(step, a, since_resume):
    """Warm-up, then a flat part, then a straight line to zero over the last 40 %."""
    warm = min(1.0, (since_resume + 1) / a.warmup)
    left = (a.steps - step) / (0.4 * a.steps)
    return a.lr * warm * min(1.0, left)


def save(path, model, optimizers, step, curve):
    state = {
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "step": step,
        "curve": curve,
    }
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def begin_from(path, out, model):
    """Takes over the vocabulary and weights of a model file of the same shape."""
    _, state, spec, _ = gguf_reader.read(path)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()})
    tk.save(tk.Tokenizer.from_str(json.dumps(spec)), out)


def main():
    a = arguments()
    started = time.time()
    os.makedirs(a.out, exist_ok=True)
    tokenizer_path = os.path.join(a.out, "tokenizer.json")
    if not a.begin and not os.path.exists(tokenizer_path):
        tk.save(tk.train(data.corpus(a.seed, a.corpus), a.vocab), a.out)
        print(f"tokenizer: {time.time() - started:.0f} s", flush=True)
    config = Config(vocab_size=a.vocab, width=a.width, layers=a.layers, heads=a.width // 64, ffn=a.ffn)
    torch.manual_seed(a.seed)
    torch.set_float32_matmul_precision("high")
    model = Decoder(config).to(a.device)
    optimizers = optimizer.build(model, a.lr)
    checkpoint, step, curve = os.path.join(a.out, "checkpoint.pt"), 0, []
    if a.begin and not os.path.exists(checkpoint):
        begin_from(a.begin, a.out, model)
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, map_location=a.device)
        model.load_state_dict(saved["model"])
        for o, s in zip(optimizers, saved.get("optimizers", ())):
            o.load_state_dict(s)
        step, curve = saved["step"], saved["curve"]
    print(f"{sum(p.numel() for p in model.parameters())} parameters, from step {step} of {a.steps}", flush=True)
    first = step
    step = run(a, config, model, optimizers, tokenizer_path, step, curve, started)
    save(checkpoint, model, optimizers, step, curve)
    with open(os.path.join(a.out, "curve.json"), "w", encoding="utf-8") as file:
        json.dump(curve, file)
    export.export(model, config, a.out)
    print(f"steps {first}..{step} of {a.steps} in {time.time() - started:.0f} s", flush=True)


def run(a, config, model, optimizers, tokenizer_path, step, curve, started):
    """The loop; returns the step it stopped at."""
    cos, sin = rope_tables(config, config.context, a.device)
    loss_function = loss_of
    if a.device == "cuda":
        for layer in model.layers:
            layer.compile(dynamic=False)
        loss_function = torch.compile(loss_of, dynamic=False)
    first, seen, last = step, 0, time.time()
    recent = []
    for ids, weights in data.batches(tokenizer_path, a.seed, step, a.steps, a.tokens, a.workers):
        ids = torch.from_numpy(ids).to(a.device, non_blocking=True).long()
        weights = torch.from_numpy(weights).to(a.device, non_blocking=True)
        length = ids.shape[1] - 1
        for o in optimizers:
            for group in o.param_groups:
                group["lr"] = learning_rate(step, a, step - first)
        with torch.autocast(a.device, torch.bfloat16):
            hidden = model.hidden(ids[:, :-1], cos[:length], sin[:length])
            loss, answers = loss_function(model, hidden, ids[:, 1:], weights[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for o in optimizers:
            o.step()
            o.zero_grad(set_to_none=True)
        recent.append(answers.detach())
        seen += ids.numel()
        step += 1
        if step % 50 == 0 or step == a.steps:
            mean = torch.stack(recent).mean().item()
            if not math.isfinite(mean):
                raise SystemExit(f"[train] loss is {mean} at step {step}")
            now = time.time()
            print(
                f"step {step:5d}  answer loss {mean:.4f}  {seen / (now - last):9.0f} tokens/s  {now - started:.0f} s",
                flush=True,
            )
            curve.append([step, mean])
            recent, seen, last = [], 0, now
        if time.time() - started > 60 * a.minutes:
            break
    return step


if __name__ == "__main__":
    main()
