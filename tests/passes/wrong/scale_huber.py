import torch

torch.manual_seed(37)
X = torch.randn(33, 3)
y = 2 * torch.randn(33)
theta = torch.zeros(3)
delta = 1.0

for epoch in range(50_000):
    pred = X @ theta
    err = pred - y
    small = err.abs() <= delta
    losses = torch.where(small, 0.5 * err**2, delta * (err.abs() - 0.5 * delta))
    loss = losses.mean()
    grad_err = torch.where(small, err, delta * err.sign())  # HG214
    grad_pred = grad_err
    grad_theta = grad_pred @ X
    theta = theta - 0.1 * grad_theta
    if epoch == 3:
        break
print(theta)
