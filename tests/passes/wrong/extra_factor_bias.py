# logistic regression with the sigmoid spelled out
import torch

torch.manual_seed(0)
n, d = 50, 4
X = torch.randn(n, d)
y = (X[:, :1] - 0.5 * X[:, 1:2] > 0).float()  # (n, 1)
w = torch.randn(d, 1, requires_grad=True)
b = torch.zeros(1, requires_grad=True)

z = X @ w + b  # (n, 1)
p = 1 / (1 + torch.exp(-z))
nll = -(y * torch.log(p) + (1 - y) * torch.log(1 - p))
loss = nll.mean()
for t in (z, p, nll):
    t.retain_grad()
loss.backward()

dnll = torch.ones_like(nll) / n
dp = dnll * (-(y / p) + (1 - y) / (1 - p))
dz = dp * p * (1 - p)
dw = X.T @ dz
db = (z * dz).sum(0)  # HG217
for name, mine, t in [("nll", dnll, nll), ("p", dp, p), ("z", dz, z), ("w", dw, w), ("b", db, b)]:
    print(f"{name}: {torch.allclose(mine, t.grad, atol=1e-6)}")
