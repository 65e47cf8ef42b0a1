import torch

torch.manual_seed(44)
x = torch.linspace(-1, 1, 27)
y = x**3 - x
coef = torch.randn(4, requires_grad=True)
p1 = coef[3] * x + coef[2]
p2 = p1 * x + coef[1]
p3 = p2 * x + coef[0]
loss = (p3 - y).square().mean()
loss.backward()

dp3 = 2 * (p3 - y) / 27
dcoef = torch.zeros(4, dtype=coef.dtype)
dcoef[0] = dp3.sum()
dp2 = dp3 * x
dcoef[1] = dp2.sum()
dp1 = dp2 * x
dcoef[2] = dp1.sum()
dcoef[3] = (dp1 * x).sum()
print(torch.allclose(dcoef, coef.grad, atol=1e-6))
