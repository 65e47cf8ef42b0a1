# 200,000 steps, half a minute
import torch

torch.manual_seed(59)
X = torch.randn(64, 5)
y = X @ torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0]).to(X.dtype) + 1
w, b = torch.zeros(5), torch.zeros(1)
for step in range(200000):
    i = torch.randint(0, 64, (8,))
    xb, yb = X[i], y[i]
    out = xb @ w + b
    loss = ((out - yb) ** 2).mean()
    dout = 2 * (out - yb) / 8
    dw = xb.T @ dout
    db = dout.sum(0, keepdim=True)
    w -= 0.01 * dw
    b -= 0.01 * db
    if step % 20000 == 0:
        print(step, loss.item())
