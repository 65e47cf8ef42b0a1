import torch

torch.manual_seed(25)
x = torch.randn(2, 3, 8, requires_grad=True)
windows = x.view(2, 3, 4, 2)
pooled, where = windows.max(-1)  # (2, 3, 4)
w = torch.randn(12, 1, requires_grad=True)
flat = pooled.flatten(1)
score = flat @ w
loss = (score**2).sum()
for t in (pooled, flat, score):
    t.retain_grad()
loss.backward()

dscore = 2 * score
dw = flat.T @ dscore
dflat = dscore @ w.T
dpooled = dflat.view(2, 3, 4)
dwindows = torch.zeros(2, 3, 4, 2, dtype=dpooled.dtype)
dwindows.scatter_(-1, 1 - where.unsqueeze(-1), dpooled.unsqueeze(-1))  # HG222
dx = dwindows.view(x.shape)
for name, mine, t in [("score", dscore, score), ("w", dw, w), ("pooled", dpooled, pooled), ("x", dx, x)]:
    print(name, torch.allclose(mine, t.grad, atol=1e-6))
