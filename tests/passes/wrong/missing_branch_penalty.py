# L2 regularisation: two branches reach W
import torch

torch.manual_seed(3)
n, d, k, lam = 33, 6, 2, 0.05
X, Y = torch.randn(n, d), torch.randn(n, k)
W = torch.randn(d, k, requires_grad=True)
b = torch.randn(k, requires_grad=True)

out = X @ W + b  # (n, k)
data_loss = ((out - Y) ** 2).sum() / n
reg_loss = lam * (W * W).sum()
loss = data_loss + reg_loss
out.retain_grad()
loss.backward()

dout = 2.0 / n * (out - Y)
dW = X.T @ dout  # HG207
db = dout.sum(0)
for grad, tensor in ((dout, out), (dW, W), (db, b)):
    print((grad - tensor.grad).abs().max().item())
