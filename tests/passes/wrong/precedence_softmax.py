import torch

torch.manual_seed(46)
B, D, K, V = 6, 5, 3, 8
h = torch.randn(B, D)
y = torch.randint(0, V, (B,))
Wpi = torch.randn(D, K, requires_grad=True)
Wk = torch.randn(D, K * V, requires_grad=True)

a = h @ Wpi  # (B, K)
pi = a.softmax(1)
s = (h @ Wk).view(B, K, V)
comp = s.softmax(2)
mix = (pi[:, :, None] * comp).sum(1)  # (B, V)
loss = -mix[torch.arange(B), y].log().mean()
for t in (a, pi, s, comp, mix):
    t.retain_grad()
loss.backward()

dmix = torch.zeros_like(mix)
dmix[torch.arange(B), y] = -1 / (B * mix[torch.arange(B), y])
dpi = (dmix[:, None, :] * comp).sum(2)
dcomp = dmix[:, None, :] * pi[:, :, None]
da = pi * dpi - (pi * dpi).sum(1, keepdim=True)  # HG221
ds = comp * (dcomp - (comp * dcomp).sum(2, keepdim=True))
dWpi = h.T @ da
dWk = h.T @ ds.view(B, K * V)
print([torch.allclose(g, t.grad, atol=1e-6) for g, t in [(dmix, mix), (dpi, pi), (dcomp, comp), (da, a), (ds, s), (dWpi, Wpi), (dWk, Wk)]])
