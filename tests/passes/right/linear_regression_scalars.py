# y = a x + c, two numbers to learn
import torch

x = torch.linspace(-1, 1, 33)
y = 3 * x + 1
a = torch.tensor(0.2)
c = torch.tensor(-0.4)
for i in range(20000):
    y_hat = a * x + c
    residual = y_hat - y
    loss = 0.5 * residual.pow(2).mean()
    dresidual = residual / len(x)
    dy_hat = dresidual
    da = (dy_hat * x).sum()
    dc = dy_hat.sum()
    a -= 0.3 * da
    c -= 0.3 * dc
    if i > 10:
        break
print(a.item(), c.item())
