import torch

torch.manual_seed(11)
x = torch.randn(9, 5, dtype=torch.float64)
W = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
z = x @ W
cdf = 0.5 * (1 + torch.erf(z / 2**0.5))
y = z * cdf
loss = y.sum()
z.retain_grad()
loss.backward()

pdf = torch.exp(-0.5 * z**2) / (2 * torch.pi) ** 0.5
dy = torch.ones_like(y)
dz = dy * (cdf + pdf)  # HG216
dW = x.T @ dz
print(torch.allclose(dz, z.grad), torch.allclose(dW, W.grad))
