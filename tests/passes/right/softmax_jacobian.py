# the Jacobian of softmax written out, a row at a time
import torch

torch.manual_seed(57)
W = torch.randn(5, 4, requires_grad=True)
x = torch.randn(6, 5)
t = torch.softmax(torch.randn(6, 4), 1)
z = x @ W
p = torch.softmax(z, 1)
loss = ((p - t) ** 2).sum() / 6
z.retain_grad()
p.retain_grad()
loss.backward()
dp = 2 * (p - t) / 6
dz = torch.zeros_like(z)
for i in range(len(z)):
    J = torch.diag(p[i]) - torch.outer(p[i], p[i])
    dz[i] = J @ dp[i]
dW = x.T @ dz
print(torch.allclose(dp, p.grad), torch.allclose(dz, z.grad, atol=1e-7), torch.allclose(dW, W.grad, atol=1e-7))
