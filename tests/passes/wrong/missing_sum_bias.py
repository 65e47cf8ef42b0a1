import torch

torch.manual_seed(2)
X = torch.rand(27, 3)
true_w = torch.tensor([[2.0], [-1.0], [0.5]])
y = X @ true_w + 0.3 + 0.01 * torch.randn(27, 1)
W = torch.randn(3, 1)
b = torch.randn(1)
W.requires_grad = True
b.requires_grad = True

pred = X @ W + b
err = pred - y
loss = (err**2).mean()
loss.backward()

m = X.shape[0]
dpred = 2 * (pred - y) / m  # (27, 1)
dW = X.t() @ dpred
db = dpred  # HG201
print(torch.allclose(dW, W.grad), torch.allclose(db, b.grad))
