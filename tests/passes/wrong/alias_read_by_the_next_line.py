# dh2 and dh1 are one tensor: += changes both
import torch

torch.manual_seed(7)
x = torch.randn(9, 6)
W = torch.randn(6, 6, requires_grad=True)
V = torch.randn(6, 6, requires_grad=True)
h1 = torch.tanh(x @ W)
h2 = torch.tanh(h1 @ V)
out = h1 + h2  # skip
loss = (out**2).sum()
for t in (h1, h2, out):
    t.retain_grad()
loss.backward()

dout = 2 * out
dh2 = dout.clone()
dh1 = dh2  # HG211
dpre2 = dh2 * (1 - h2**2)
dh1 += dpre2 @ V.T
dV = h1.T @ (dh2 * (1 - h2**2))
dW = x.T @ (dh1 * (1 - h1**2))
for name, mine, t in (("out", dout, out), ("h2", dh2, h2), ("h1", dh1, h1), ("V", dV, V), ("W", dW, W)):
    print(name, torch.allclose(mine, t.grad, atol=1e-5))
