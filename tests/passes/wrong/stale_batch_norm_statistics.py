# %%
import torch

torch.manual_seed(3)
n, H = 24, 7
x = torch.randn(n, 5)
W = torch.randn(5, H, requires_grad=True)
gain = torch.ones(1, H, requires_grad=True)
pre = 3 * torch.randn(n, H)
inv = (pre.var(0, keepdim=True) + 1e-5) ** -0.5  # (1, H), to see how large it gets

# %%
pre = x @ W
raw = (pre - pre.mean(0, keepdim=True)) / (pre.var(0, keepdim=True) + 1e-5).sqrt()
out = gain * raw
loss = (out**3).mean()
for t in (pre, raw, out):
    t.retain_grad()
loss.backward()

# %%
dout = 3 * out**2 / out.numel()
dgain = (dout * raw).sum(0, keepdim=True)
draw = dout * gain
dpre = inv / n * (n * draw - draw.sum(0) - n / (n - 1) * raw * (draw * raw).sum(0))  # HG223
dW = x.T @ dpre
for name, mine, t in (("out", dout, out), ("gain", dgain, gain), ("raw", draw, raw), ("pre", dpre, pre), ("W", dW, W)):
    print(name, torch.allclose(mine, t.grad, atol=1e-6))
