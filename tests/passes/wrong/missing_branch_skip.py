import torch

torch.manual_seed(28)
x = torch.randn(9, 6, requires_grad=True)
W1 = torch.randn(6, 12, requires_grad=True)
W2 = torch.randn(12, 6, requires_grad=True)

u = x @ W1
r = torch.relu(u)
f = r @ W2
y = x + f
z = y * torch.sigmoid(y) + y  # a second skip
loss = z.pow(2).mean()
for t in (u, r, f, y, z):
    t.retain_grad()
loss.backward()

dz = 2 * z / z.numel()
s = torch.sigmoid(y)
dy = dz * (s + y * s * (1 - s))
dy += dz
df = dy.clone()
dr = df @ W2.T
dW2 = r.T @ df
du = dr * (u > 0)
dW1 = x.T @ du
dx = du @ W1.T  # HG207
for name in ("z", "y", "f", "r", "W2", "u", "W1", "x"):
    print(name, torch.allclose(vars()["d" + name], vars()[name].grad, rtol=1e-4, atol=1e-5))
