import torch

torch.manual_seed(15)
x = torch.randn(5, 27, requires_grad=True)
g = torch.randn(27, requires_grad=True)
c = torch.randn(5, 27)

ms = (x**2).mean(dim=-1, keepdim=True)
inv = torch.rsqrt(ms + 1e-6)
normed = x * inv
y = normed * g
loss = (y * c).sum()
for t in (ms, inv, normed, y):
    t.retain_grad()
loss.backward()

d_y = c
d_normed = (d_y * g).sum(0)  # HG206
d_g = (d_y * normed).sum(0)
d_inv = (d_normed * x).sum(-1, keepdim=True)
d_ms = d_inv * -0.5 * inv**3
d_x = d_normed * inv
d_x = d_x + d_ms * 2 * x / x.shape[-1]
for a, b in [(d_y, y), (d_normed, normed), (d_g, g), (d_inv, inv), (d_ms, ms), (d_x, x)]:
    print(torch.allclose(a, b.grad, rtol=1e-4, atol=1e-6))
