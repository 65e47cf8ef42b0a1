# A neural ODE, integrated by Euler steps, fitted to a spiral (Chen et al. 2018).
import torch

torch.manual_seed(16)
steps, dt = 12, 0.1
times = torch.arange(steps) * dt
true = torch.stack((torch.cos(times), torch.sin(times)), dim=1) * torch.exp(-0.1 * times)[:, None]
W1 = (torch.randn(2, 10) * 0.5).requires_grad_()
b1 = torch.zeros(10, requires_grad=True)
W2 = (torch.randn(10, 2) * 0.5).requires_grad_()
b2 = torch.zeros(2, requires_grad=True)


def f(y):
    return torch.tanh(y**3 @ W1 + b1) @ W2 + b2


y = true[:1]
path = [y]
for _ in range(steps - 1):
    y = y + dt * f(y)
    path.append(y)
pred = torch.cat(path, dim=0)
loss = (pred - true).abs().mean()
