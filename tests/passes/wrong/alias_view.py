import torch

torch.manual_seed(54)
a = torch.randn(5, 3, requires_grad=True)
b = torch.randn(5, 4, requires_grad=True)
W = torch.randn(7, 6, requires_grad=True)
ab = torch.cat([a, b], dim=1)
out = ab @ W
left, right = out.split([2, 4], dim=1)
pooled = left.sum(1, keepdim=True) * right.tanh()
loss = pooled.mean() + (a * a).mean()
for t in (ab, out, left, right, pooled):
    t.retain_grad()
loss.backward()

dpooled = torch.ones_like(pooled) / pooled.numel()
dleft = (dpooled * right.tanh()).sum(1, keepdim=True).expand(5, 2)
dright = dpooled * left.sum(1, keepdim=True) * (1 - right.tanh() ** 2)
dout = torch.cat([dleft, dright], 1)
dW = ab.T @ dout
dab = dout @ W.T
da, db = dab[:, :3], dab[:, 3:]  # HG211
da += 2 * a / a.numel()
for mine, t in [(dpooled, pooled), (dleft, left), (dright, right), (dout, out), (dW, W), (dab, ab), (da, a), (db, b)]:
    print(mine.shape == t.grad.shape, torch.allclose(mine, t.grad, atol=1e-6))
