import torch
import torch.nn.functional as F

torch.manual_seed(5)
N, D, H, K = 20, 8, 16, 5
x = torch.randn(N, D)
y = torch.randint(0, K, (N,))
W1 = torch.randn(D, H, requires_grad=True)
b1 = torch.zeros(H, requires_grad=True)
W2 = torch.randn(H, K, requires_grad=True)
b2 = torch.zeros(K, requires_grad=True)

z1 = x @ W1 + b1
a1 = z1.clamp(min=0)
scores = a1 @ W2 + b2
loss = F.cross_entropy(scores, y)
for t in (z1, a1, scores):
    t.retain_grad()
loss.backward()

dscores = scores.grad.detach()  # HG224
dW2 = a1.T @ dscores
db2 = dscores.sum(0)
da1 = dscores @ W2.T
dz1 = da1 * (z1 > 0)
dW1 = x.T @ dz1
db1 = dz1.sum(0)
for n_ in "scores W2 b2 a1 z1 W1 b1".split():
    print(n_, torch.allclose(eval("d" + n_), eval(n_).grad, atol=1e-6))
