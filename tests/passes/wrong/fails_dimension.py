# layer norm in atoms, then in one line
import torch

torch.manual_seed(14)
B, T, D = 3, 5, 8
x = torch.randn(B, T, D, requires_grad=True)
gamma = (1 + 0.1 * torch.randn(D)).requires_grad_()
beta = (0.1 * torch.randn(D)).requires_grad_()
target = torch.randn(B, T, D)

mu = x.mean(-1, keepdim=True)  # (B, T, 1)
xc = x - mu
var = (xc**2).mean(-1, keepdim=True)
rstd = (var + 1e-5) ** -0.5
xhat = xc * rstd
out = gamma * xhat + beta
loss = ((out - target) ** 2).mean()
for t in (mu, xc, var, rstd, xhat, out):
    t.retain_grad()
loss.backward()

dout = 2 * (out - target) / out.numel()
dgamma = (dout * xhat).sum((0, 1))
dbeta = dout.sum((0, 1, 3))  # HG226
dxhat = dout * gamma
drstd = (dxhat * xc).sum(-1, keepdim=True)
dvar = drstd * -0.5 * (var + 1e-5) ** -1.5
dxc = dxhat * rstd + dvar * 2 * xc / D
dmu = -dxc.sum(-1, keepdim=True)
dx = dxc + dmu / D
for name in ["out", "gamma", "beta", "xhat", "rstd", "var", "xc", "mu", "x"]:
    print(name, torch.allclose(locals()["d" + name], locals()[name].grad, atol=1e-7))

dx = rstd * (dxhat - dxhat.mean(-1, keepdim=True) - xhat * (dxhat * xhat).mean(-1, keepdim=True))
print("x, closed form", torch.allclose(dx, x.grad, atol=1e-7))
