import torch

torch.manual_seed(33)
x = torch.randn(17, 4) * 3
t = (torch.rand(17) > 0.4).to(x.dtype)
w = torch.randn(4, requires_grad=True)
z = x @ w
loss_each = z.clamp(min=0) - z * t + torch.log1p(torch.exp(-z.abs()))
loss = loss_each.mean()
z.retain_grad()
loss.backward()

e = torch.exp(-z.abs())
dloss_each = torch.ones_like(z) / z.numel()
dz = dloss_each * ((z > 0).to(z.dtype) - t - torch.sign(z) * e / (1 + e))
dw = x.T @ dz
print(torch.allclose(dz, z.grad, atol=1e-7), torch.allclose(dw, w.grad, atol=1e-7))
