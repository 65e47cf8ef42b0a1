# two mistakes: the mean of the data loss, and the penalty that overwrites
import torch

torch.manual_seed(6)
n, d = 27, 4
X, y = torch.randn(n, d), torch.randn(n)
w = torch.randn(d, requires_grad=True)
lam = 0.1
pred = X @ w
loss = ((pred - y) ** 2).mean() + lam * (w**2).sum()
pred.retain_grad()
loss.backward()

dpred = 2 * (pred - y)  # HG214
dw = X.T @ dpred
dw = 2 * lam * w  # HG209
print((dpred - pred.grad).abs().max().item(), (dw - w.grad).abs().max().item())
