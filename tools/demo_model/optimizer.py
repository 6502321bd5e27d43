"""Muon for the matrices of the layers (orthogonalised momentum), AdamW for embedding and norms."""

import torch


def orthogonal(g, rounds=5):
    """Nearest semi-orthogonal matrices of a stack [n, rows, cols], by a quintic Newton-Schulz iteration in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        y = x @ x.transpose(1, 2)
        x = a * x + (b * y + c * (y @ y)) @ x
    return x.transpose(1, 2) if tall else x


class Muon(torch.optim.Optimizer):
    """Update = orthogonal(momentum), scaled to the size of an Adam step (0.2 rms), with decoupled weight decay."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                grads = [p.grad for p in params]
                momenta = [self.state[p]["momentum"] for p in params]
                torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
                update = torch.stack(torch._foreach_lerp(grads, momenta, group["momentum"]))
                update = orthogonal(update).to(params[0].dtype) * (0.2 * max(shape) ** 0.5)
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(params, list(update.unbind(0)), alpha=-group["lr"])


def build(model, lr):
    """(Muon, AdamW) over all parameters of the model."""
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    embedding = [p for n, p in model.named_parameters() if "embed" in n]
    norms = [p for n, p in model.named_parameters() if p.dim() == 1]
    adam = torch.optim.AdamW(
        [{"params": embedding, "weight_decay": 0.01}, {"params": norms, "weight_decay": 0.0}],
        lr=lr, betas=(0.9, 0.95), eps=1e-9,
    )  # fmt: skip
    return Muon(matrices, lr), adam
