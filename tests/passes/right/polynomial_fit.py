# the "warm-up" of the tutorial: y = a + b x + c x^2 + d x^3 fitted to sin
import math

import torch

x = torch.linspace(-math.pi, math.pi, 2000)
y = torch.sin(x)
torch.manual_seed(43)
a, b, c, d = torch.randn(()), torch.randn(()), torch.randn(()), torch.randn(())
learning_rate = 1e-6
for t in range(2000):
    y_pred = a + b * x + c * x**2 + d * x**3
    loss = (y_pred - y).pow(2).sum()
    if t % 100 == 99:
        print(t, loss.item())
    grad_y_pred = 2.0 * (y_pred - y)
    grad_a = grad_y_pred.sum()
    grad_b = (grad_y_pred * x).sum()
    grad_c = (grad_y_pred * x**2).sum()
    grad_d = (grad_y_pred * x**3).sum()
    a -= learning_rate * grad_a
    b -= learning_rate * grad_b
    c -= learning_rate * grad_c
    d -= learning_rate * grad_d
    if t == 10:
        break
print(f"y = {a.item()} + {b.item()} x + {c.item()} x^2 + {d.item()} x^3")
