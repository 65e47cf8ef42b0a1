import torch

torch.manual_seed(4)
X = torch.randn(25, 5)
y = torch.randn(25)
w = torch.randn(5, requires_grad=True)
alpha = 0.1

r = X @ w - y  # (25,)
mae = r.abs().mean()
penalty = alpha * w.abs().sum()
loss = mae + penalty
r.retain_grad()
loss.backward()

dmae, dpenalty = 1.0, 1.0
dr = torch.sign(r) / r.numel() * dmae
dw = X.T @ dr + alpha * torch.sign(w) * dpenalty
assert torch.allclose(dr, r.grad)
assert torch.allclose(dw, w.grad)
