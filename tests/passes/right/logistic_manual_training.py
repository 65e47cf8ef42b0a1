# gradient descent by hand, nothing of autograd
import torch

torch.manual_seed(1)
X = torch.randn(60, 3)
y = (X.sum(1) > 0).double()
X = X.double()
w = torch.zeros(3, dtype=torch.float64)
b = torch.zeros((), dtype=torch.float64)
lr = 0.5

for epoch in range(100000):
    z = X @ w + b  # (60,)
    a = torch.sigmoid(z)
    loss = -(y * a.log() + (1 - y) * (1 - a).log()).mean()
    dz = (a - y) / len(y)
    dw = X.T @ dz
    db = dz.sum()
    w = w - lr * dw
    b = b - lr * db
    if epoch == 20:
        print("early stop", loss.item())
        break
