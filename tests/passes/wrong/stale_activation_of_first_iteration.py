# a is computed once, before the loop
import torch

torch.manual_seed(1)
X = torch.randn(60, 3)
y = (X.sum(1) > 0).to(X.dtype)
w = torch.zeros(3)
b = torch.zeros(())
lr = 0.5
a = torch.sigmoid(X @ w + b)

for epoch in range(100000):
    z = X @ w + b  # (60,)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y)
    dz = (a - y) / len(y)  # HG223
    dw = X.T @ dz
    db = dz.sum()
    w = w - lr * dw
    b = b - lr * db
    if epoch == 20:
        print(loss.item())
        break
