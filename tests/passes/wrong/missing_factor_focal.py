import torch

torch.manual_seed(36)
n, gamma = 27, 2.0
x = torch.randn(n, 4)
y = torch.randint(0, 2, (n,)).to(x.dtype)
w = torch.randn(4, requires_grad=True)

z = x @ w
p = torch.sigmoid(z)
pt = y * p + (1 - y) * (1 - p)
logpt = pt.log()
mod = (1 - pt) ** gamma
loss = -(mod * logpt).mean()
for t in (z, p, pt, logpt, mod):
    t.retain_grad()
loss.backward()

dmod = -logpt / n
dlogpt = -mod / n
dpt = dlogpt / pt
dpt -= dmod * gamma * (1 - pt) ** (gamma - 1)
dp = dpt.clone()  # HG216
dz = dp * p * (1 - p)
dw = x.T @ dz
print(*(torch.allclose(a, b.grad, atol=1e-6) for a, b in [(dmod, mod), (dlogpt, logpt), (dpt, pt), (dp, p), (dz, z), (dw, w)]))
