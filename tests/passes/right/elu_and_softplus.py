import torch

torch.manual_seed(9)
x = torch.randn(10, 6)
A = torch.randn(6, 6, requires_grad=True)
B = torch.randn(6, 6, requires_grad=True)

u = x @ A
e = torch.where(u > 0, u, u.exp() - 1)  # elu
v = e @ B
s = torch.log(1 + torch.exp(v))  # softplus
loss = s.mean()
for t in [u, e, v, s]:
    t.retain_grad()
loss.backward()

ds = torch.full_like(s, 1 / s.numel())
dv = ds * torch.sigmoid(v)
de = dv @ B.T
dB = e.T @ dv
du = de * torch.where(u > 0, torch.ones_like(u), u.exp())
dA = x.T @ du
for name, mine, t in zip("s v e B u A".split(), [ds, dv, de, dB, du, dA], [s, v, e, B, u, A]):
    print(name, torch.allclose(mine, t.grad))
