"""Writes tests/unit/optimizer_reference.h: steps of PyTorch's optimizers and schedules.

    python tests/reference/optimizers.py > tests/unit/optimizer_reference.h
"""
import torch

STEPS = 6
weights = torch.linspace(-1, 1, 5, dtype=torch.float32)


def gradient(step):
    return torch.cos(torch.arange(5, dtype=torch.float32) * 0.7 + step)


def numbers(values):
    return ", ".join(f"{float(v):.9g}" for v in values)


def steps(make):
    w = weights.clone().requires_grad_()
    optimizer = make([w])
    for step in range(STEPS):
        w.grad = gradient(step)
        optimizer.step()
    return w.detach()


def rates(make, count):
    w = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=1.0)
    schedule = make(optimizer, count)
    seen = []
    for _ in range(count):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


print("/* Made by tests/reference/optimizers.py with PyTorch. */")
print(f"enum {{ REFERENCE_STEPS = {STEPS} }};")
print(f"static const float reference_gradients[{STEPS}][5] = {{")
for step in range(STEPS):
    print(f"    {{{numbers(gradient(step))}}},")
print("};")
for name, make in [
    ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01)),
    ("nesterov", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True,
                                           weight_decay=0.01)),
    ("adamw", lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.999), weight_decay=0.01)),
]:
    print(f"static const float reference_{name}[5] = {{{numbers(steps(make))}}};")
for name, make in [
    ("cosine", lambda o, n: torch.optim.lr_scheduler.CosineAnnealingLR(o, n)),
    ("one_cycle", lambda o, n: torch.optim.lr_scheduler.OneCycleLR(
        o, max_lr=1.0, total_steps=n, div_factor=25, final_div_factor=1e4)),
]:
    print(f"static const double reference_{name}[20] = {{{numbers(rates(make, 20))}}};")
