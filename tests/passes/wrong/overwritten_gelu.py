# GELU by the tanh formula, as in GPT-2
import math

import torch

torch.manual_seed(10)
x = torch.randn(4, 5, 8)
W = (torch.randn(8, 12) * 0.5).requires_grad_()
b = (torch.randn(12) * 0.1).requires_grad_()
k = math.sqrt(2 / math.pi)

pre = x @ W + b  # (4, 5, 12)
inner = k * (pre + 0.044715 * pre**3)
t = torch.tanh(inner)
out = 0.5 * pre * (1 + t)
loss = (out**2).mean()
for v in (pre, inner, t, out):
    v.retain_grad()
loss.backward()

dout = 2 * out / out.numel()
dt = 0.5 * pre * dout
dinner = (1 - t**2) * dt
dpre = 0.5 * (1 + t) * dout
dpre = k * (1 + 3 * 0.044715 * pre**2) * dinner  # HG209
dW = x.reshape(-1, 8).T @ dpre.reshape(-1, 12)
db = dpre.sum((0, 1))
for name, mine, v in [("out", dout, out), ("t", dt, t), ("inner", dinner, inner), ("pre", dpre, pre), ("W", dW, W), ("b", db, b)]:
    print(f"{name:6s} {torch.allclose(mine, v.grad, atol=1e-6)}")
