import torch

torch.manual_seed(35)
B, D, Z = 10, 7, 3
x = torch.randn(B, D)
eps = torch.randn(B, Z)
Wm = (torch.randn(D, Z) * 0.3).requires_grad_()
Wv = (torch.randn(D, Z) * 0.3).requires_grad_()
Wd = (torch.randn(Z, D) * 0.3).requires_grad_()

mu = x @ Wm
logvar = x @ Wv
std = torch.exp(0.5 * logvar)
z = mu + std * eps
xr = z @ Wd
rec = ((xr - x) ** 2).sum() / B
kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum() / B
loss = rec + kl
for t in (mu, logvar, std, z, xr):
    t.retain_grad()
loss.backward()

dxr = 2 * (xr - x) / B
dz = dxr @ Wd.T
dWd = z.T @ dxr
dmu = dz - mu / B  # HG213
dstd = dz * eps
dlogvar = dstd * 0.5 * std  # HG207
dWm = x.T @ dmu
dWv = x.T @ dlogvar
for name in ["xr", "z", "Wd", "mu", "std", "logvar", "Wm", "Wv"]:
    print(name, torch.allclose(globals()[f"d{name}"], globals()[name].grad, atol=1e-6))
